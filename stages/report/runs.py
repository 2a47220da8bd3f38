"""What a run wrote, read from the workspace or from any revision in git: needs no remote and no cache."""

import io
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from stages.common import settings
from stages.common.errors import StageError

WORKSPACE = "workspace"
CONFIDENCE = 0.95
EVALUATE, TRAIN = Path("metrics/evaluate.json"), Path("metrics/train.json")
# Columns of the tables that a run has
TABLES = {
    "predictions": ("actual", "predicted", "probability"),
    "per_class": ("class", "count", "errors", "recall", "lower", "upper"),
    "reliability": ("confidence", "accuracy", "lower", "upper"),
    "training": ("examples", "epoch", "batch_loss", "train_loss", "validation_loss"),
}
# Of metrics/evaluate.json, in the order in which people want to see them
NUMBERS = {
    "accuracy": "accuracy",
    "accuracy_without_mislabelled": "accuracy without mislabelled digits",
    "errors": "errors",
    "loss": "loss (nats)",
    "expected_calibration_error": "expected calibration error",
    "macro_f1": "macro F1",
}


@dataclass(frozen=True)
class Run:
    """The tracked results of a run of the pipeline."""

    name: str
    dataset: str
    recipe: str
    weights: str  # the first digits of the SHA-256 of the trained weights
    metrics: dict[str, Any]  # metrics/evaluate.json
    predictions: np.ndarray  # a row for each test image
    per_class: np.ndarray  # a row for each class
    reliability: np.ndarray  # a row for each bin of predictions
    training: np.ndarray  # a row for each point of the training curve; what a row has not is NaN

    @property
    def right(self) -> np.ndarray:
        """Whether the predicted class of each test image is the actual one."""
        return self.predictions["actual"] == self.predictions["predicted"]

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy (Wilson 1927)."""
        hits = stats.binomtest(int(self.right.sum()), len(self.right))
        interval = hits.proportion_ci(CONFIDENCE, method="wilson")
        return float(interval.low), float(interval.high)

    def shown(self) -> dict[str, str]:
        """Return the numbers as text for people, by their names, the accuracy with its interval."""
        texts = {}
        for key, name in NUMBERS.items():
            number = self.metrics.get(key)
            if number is not None:
                texts[name] = f"{number:.2%}" if key.startswith("accuracy") else f"{number:.6g}"
        lower, upper = self.interval
        texts["accuracy"] += f" ({lower:.2%} to {upper:.2%})"
        return texts


def load(revision: str | None) -> Run:
    """Return the run that git has at `revision`: a commit, branch, tag or experiment; None is the workspace.

    Raises StageError if there is no such revision, or if it was written by a pipeline of another shape.
    """
    if revision is None:
        return _run(WORKSPACE, settings.value, _read)
    commit = _commit(revision)

    def read(path: Path) -> bytes:
        return _git(["show", f"{commit}:{path}"], f"{revision}: has no {path}; {_advice(revision)}")

    params = settings.parse(read(settings.PARAMS), f"{revision}: {settings.PARAMS}")
    return _run(revision, lambda key: settings.look_up(params, key, f"{revision}: {settings.PARAMS}"), read)


def _run(name: str, value: Callable[[str], Any], read: Callable[[Path], bytes]) -> Run:
    evaluate, train = (json.loads(read(path)) for path in (EVALUATE, TRAIN))
    for path, values, keys in (
        (EVALUATE, evaluate, ["accuracy", "errors", "loss"]),
        (TRAIN, train, ["weights_sha256"]),
    ):
        if missing := [key for key in keys if key not in values]:
            raise StageError(f"{name}: {path} has no {', '.join(missing)}; {_advice(name)}")
    tables = {
        table: _table(f"{name}: plots/{table}.csv", read(Path(f"plots/{table}.csv")), columns, _advice(name))
        for table, columns in TABLES.items()
    }
    return Run(name, value("download.dataset"), value("train.recipe"), train["weights_sha256"], evaluate, **tables)


def _table(name: str, content: bytes, columns: tuple[str, ...], advice: str) -> np.ndarray:
    table = np.genfromtxt(io.BytesIO(content), delimiter=",", names=True)
    if missing := set(columns) - set(table.dtype.names or ()):
        raise StageError(f"{name} has no column {', '.join(sorted(missing))}; {advice}")
    return table


def _advice(name: str) -> str:
    there = "" if name == WORKSPACE else f"`git checkout {name}` and "
    return f"another version of the pipeline wrote it, or none: {there}`dvc repro`"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StageError(f"{path}: not found; run `dvc repro`") from None


def _commit(revision: str) -> str:
    """Return the commit of `revision`, which may be the name of an experiment of DVC's."""
    listed = _git(["for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{revision}"], "not a git repository")
    if experiments := listed.decode().split():
        if len(experiments) > 1:
            raise StageError(
                f"{revision}: the name of {len(experiments)} experiments; give one's commit (`dvc exp list`)"
            )
        return experiments[0]
    unknown = (
        f"{revision}: no such revision; expected a commit, branch, tag or experiment (`git branch`, `dvc exp list`)"
    )
    return (
        _git(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"], unknown)
        .decode()
        .strip()
    )


def _git(arguments: list[str], failure: str) -> bytes:
    done = subprocess.run(["git", *arguments], capture_output=True)  # noqa: S603, S607 (no shell; the user's own git)
    if done.returncode:
        raise StageError(failure)
    return done.stdout

"""What a run wrote, read from the workspace or from any revision in git: needs no remote and no cache."""

import io
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.common import settings
from stages.common.errors import StageError

WORKSPACE = "workspace"
PREDICTIONS, TRAINING = Path("plots/predictions.csv"), Path("plots/training.csv")
EVALUATE, TRAIN = Path("metrics/evaluate.json"), Path("metrics/train.json")
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
    weights: str  # the SHA-256 of the trained weights
    metrics: dict[str, Any]
    predictions: np.ndarray  # a row for each test image, with the columns actual, predicted, probability
    training: np.ndarray  # a row for each epoch

    @property
    def right(self) -> np.ndarray:
        """Whether the net read each of the test images."""
        return self.predictions["actual"] == self.predictions["predicted"]

    def shown(self) -> dict[str, str]:
        """Return the numbers as text for people, by their names, the accuracy with its interval."""
        texts = {}
        for key, name in NUMBERS.items():
            number = self.metrics.get(key)
            if number is not None:
                texts[name] = f"{number:.2%}" if key.startswith("accuracy") else f"{number:.6g}"
        interval = self.metrics["accuracy_interval"]
        texts["accuracy"] += f" ({interval['lower']:.2%} to {interval['upper']:.2%})"
        return texts


def load(revision: str | None) -> Run:
    """Return the run that git has at `revision`: a commit, branch, tag or experiment; None is the workspace.

    Raises StageError if there is no such revision, or if it was written by a pipeline of another shape.
    """
    if revision is None:
        return _run(WORKSPACE, settings.value, _read)
    commit = _commit(revision)

    def read(path: Path) -> bytes:
        return _git(["show", f"{commit}:{path}"], f"{revision}: has no {path}; {_mend(revision)}")

    params = settings.parse(read(settings.PARAMS), f"{revision}: {settings.PARAMS}")
    return _run(revision, lambda key: settings.look_up(params, key, f"{revision}: {settings.PARAMS}"), read)


def _run(name: str, value: Callable[[str], Any], read: Callable[[Path], bytes]) -> Run:
    evaluate, train = (json.loads(read(path)) for path in (EVALUATE, TRAIN))
    for path, values, keys in (
        (EVALUATE, evaluate, ["accuracy", "accuracy_interval", "errors", "loss"]),
        (TRAIN, train, ["weights_sha256"]),
    ):
        if missing := [key for key in keys if key not in values]:
            raise StageError(f"{name}: {path} has no {', '.join(missing)}; {_mend(name)}")
    return Run(
        name,
        value("download.dataset"),
        value("train.recipe"),
        train["weights_sha256"],
        evaluate,
        _table(name, PREDICTIONS, read(PREDICTIONS), ("actual", "predicted", "probability")),
        _table(name, TRAINING, read(TRAINING), ("epoch", "examples", "train_loss", "validation_loss")),
    )


def _table(name: str, path: Path, content: bytes, columns: tuple[str, ...]) -> np.ndarray:
    table = np.genfromtxt(io.BytesIO(content), delimiter=",", names=True)
    if missing := set(columns) - set(table.dtype.names or ()):
        raise StageError(f"{name}: {path} has no column {', '.join(sorted(missing))}; {_mend(name)}")
    return table


def _mend(name: str) -> str:
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

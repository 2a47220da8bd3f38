"""What a run wrote, read from the workspace or from any revision in git: needs no remote and no cache."""

import csv
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from stages.common import settings
from stages.common.errors import StageError

WORKSPACE = "the workspace"  # git allows no blank in the name of a revision
CONFIDENCE = 0.95
SECTIONS, SEED = ("download", "split", "train"), "train.seed"  # of params.yaml
EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]+/(.+)")  # the commit that it started from, and its name
EVALUATE, TRAIN, PREDICTIONS = "metrics/evaluate.json", "metrics/train.json", "plots/predictions.csv"
CLASSES = "plots/classes.csv"
OF_CLASSES = ("class", "actual", "predicted")  # columns that have names of classes
# The files of a run, and what each has at least
FILES = {
    EVALUATE: ("accuracy", "errors", "loss"),
    TRAIN: ("weights_sha256", "validation_accuracy"),
    CLASSES: ("class", "train", "validation", "test"),
    PREDICTIONS: ("actual", "predicted", "probability"),
    "plots/per_class.csv": ("class", "count", "errors", "recall", "lower", "upper"),
    "plots/reliability.csv": ("confidence", "accuracy", "lower", "upper"),
    "plots/training.csv": ("examples", "epoch", "batch_loss", "train_loss", "validation_loss"),
}
# Of metrics/evaluate.json, in the order in which people want to see them
NUMBERS = {
    "accuracy": "accuracy",
    "accuracy_without_mislabelled": "accuracy without mislabelled images",
    "errors": "errors",
    "loss": "loss (nats)",
    "expected_calibration_error": "expected calibration error",
    "macro_f1": "macro F1",
}


@dataclass(frozen=True)
class Run:
    """The tracked results of a run of the pipeline, and the params that it had."""

    name: str
    dataset: str
    recipe: str
    seed: int
    files: dict[Path, Any]  # what params.yaml and the recipe's file say
    metrics: dict[str, Any]  # metrics/evaluate.json
    names: list[str]  # of the classes; in the tables below, a class is its place in this list
    weights: str  # the first digits of the SHA-256 of the trained weights
    validation_accuracy: float
    classes: np.ndarray  # a row for each class: images of each part
    predictions: np.ndarray  # a row for each test image
    per_class: np.ndarray  # a row for each class
    reliability: np.ndarray  # a row for each bin of predictions
    training: np.ndarray  # a row for each point of the training curve; what a row has not is NaN

    @property
    def params(self) -> dict[str, Any]:
        """All params, each by the name that `dvc exp run -S` takes."""
        named = {"" if path == settings.PARAMS else f"{path}:": values for path, values in self.files.items()}
        return {f"{file}{key}": value for file, values in named.items() for key, value in _flat(values)}

    @property
    def right(self) -> np.ndarray:
        """Whether the predicted class of each test image is the actual one."""
        return self.predictions["actual"] == self.predictions["predicted"]

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy (Wilson 1927)."""
        return wilson(int(self.right.sum()), len(self.right))

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


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of the share that `hits` out of `count` estimate (Wilson 1927)."""
    interval = stats.binomtest(hits, count).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def load(revision: str | None) -> Run:
    """Return the run that git has at `revision`: a commit, branch, tag or experiment; None is the workspace.

    Raises StageError if there is no such revision, or if it was written by a pipeline of another shape.
    """
    if revision is None:
        return _run(WORKSPACE, settings.value, _read)
    commit = resolve(revision)

    def read(path: Path) -> bytes:
        try:
            return _git("cat-file", "blob", f"{commit}:./{path}")  # ./, as the project may be a folder of a repository
        except StageError as error:
            raise StageError(f"{revision}: has no {path} ({error}); {_advice(revision)}") from None

    params = settings.parse(read(settings.PARAMS), f"{revision}: {settings.PARAMS}")
    return _run(revision, lambda key: settings.look_up(params, key, f"{revision}: {settings.PARAMS}"), read)


def experiments() -> list[Run]:
    """Return the runs of all experiments of HEAD, but for those that ended before anything was measured.

    Raises StageError if there are none.
    """
    found = [replace(load(ref), name=name) for name, ref in experiments_of_head().items() if finished(ref)]
    if not found:
        raise StageError(f"HEAD ({resolve('HEAD')[:7]}) has no experiments; run some (`dvc exp run`), or name others")
    return found


def experiments_of_head() -> dict[str, str]:
    """Return the full names in git of all experiments that started from HEAD, each by its own name."""
    head = resolve("HEAD")
    place = f"refs/exps/{head[:2]}/{head[2:]}/"
    return {ref.removeprefix(place): ref for ref in references() if ref.startswith(place)}


def finished(ref: str) -> bool:
    """Return whether the experiment with the full name `ref` has metrics: a trial that was stopped has none."""
    return bool(_git("ls-tree", "--name-only", ref, f"./{EVALUATE}"))


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Return the params in which `runs` differ, each with the value that each run has; None where it has none.

    Recipes of two names are two files: their names differ, and their values are not compared.
    """
    found = {key: [run.params.get(key) for run in runs] for run in runs for key in run.params}

    def compared(key: str) -> set[Any]:
        file = Path(key.rpartition(":")[0] or settings.PARAMS)
        return {value for value, run in zip(found[key], runs, strict=True) if file in run.files}

    return {key: values for key, values in found.items() if len(compared(key)) > 1}


def _run(name: str, value: Callable[[str], Any], read: Callable[[Path], bytes]) -> Run:
    dataset, chosen, seed = (value(key) for key in ("download.dataset", "train.recipe", SEED))
    sections, recipe = {section: value(section) for section in SECTIONS}, Path("recipes", f"{chosen}.yaml")
    params = {settings.PARAMS: sections, recipe: settings.parse(read(recipe), f"{name}: {recipe}")}
    classes = _names(name, read(Path(CLASSES)))
    found = {path: _parsed(name, path, read(Path(path)), columns, classes) for path, columns in FILES.items()}
    evaluated, trained, predictions = (found[path] for path in (EVALUATE, TRAIN, PREDICTIONS))
    errors = np.count_nonzero(predictions["actual"] != predictions["predicted"])
    if errors != evaluated["errors"]:
        counts = f"{EVALUATE} has {evaluated['errors']} errors, {PREDICTIONS} {errors}"
        raise StageError(f"{name}: {counts}; {_advice(name)}")
    tables = {Path(path).stem: table for path, table in found.items() if path.startswith("plots")}
    start = (name, dataset, chosen, seed, params, evaluated, list(classes))
    return Run(*start, *(trained[key] for key in FILES[TRAIN]), **tables)


def _names(name: str, content: bytes) -> dict[str, int]:
    """Return the names of the classes in the `content` of plots/classes.csv, each with its place there."""
    try:
        rows = csv.DictReader(content.decode().splitlines())
        return {row["class"]: place for place, row in enumerate(rows)}
    except (ValueError, KeyError):
        return {}  # which `_parsed` will say


def _parsed(name: str, path: str, content: bytes, names: tuple[str, ...], classes: dict[str, int]) -> Any:
    """Return the metrics, or the rows of a table, in `content`; an empty cell is NaN, a class its place in `classes`.

    Raises StageError if the file is damaged, or if it has none of one of `names`.
    """
    found: Any
    try:
        if path.endswith(".json"):
            found = dict(json.loads(content))
            there = list(found)
        else:
            there, *rows = csv.reader(content.decode().splitlines())
            if odd := next((row for row in rows if len(row) != len(there)), None):
                raise ValueError(f"a row has {len(odd)} cells, expected {len(there)}")
            named = [column in OF_CLASSES for column in there]
            cells = [
                tuple(classes[cell] if of else float(cell or "nan") for of, cell in zip(named, row, strict=True))
                for row in rows
            ]
            found = np.array(cells, [(column, float) for column in there])
    except (ValueError, TypeError, KeyError) as error:
        merge = re.search(rb"^(<{7}|={7}|>{7})", content, re.MULTILINE)
        damage = "has the marks of a merge (see docs/branches.md)" if merge else f"is damaged ({error})"
        raise StageError(f"{name}: {path} {damage}; {_advice(name)}") from None
    if missing := [key for key in names if key not in there]:
        raise StageError(f"{name}: {path} has no {', '.join(missing)}; {_advice(name)}")
    return found


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value that stands in `values`, and its key: `model.1` is the second entry of the list `model`."""
    if not isinstance(values, (dict, list)):
        yield prefix, values
        return
    for key, of in values.items() if isinstance(values, dict) else enumerate(values):
        yield from _flat(of, f"{prefix}.{key}" if prefix else str(key))


def _advice(name: str) -> str:
    experiment = any((of := EXPERIMENT.fullmatch(ref)) and of[1] == name for ref in references())
    get = f"dvc exp apply {name}" if experiment else f"git checkout {name}"
    there = "" if name == WORKSPACE else f"`{get}` and "
    return f"another version of the pipeline wrote it, or none: {there}`dvc repro`"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StageError(f"{path}: not found; run `dvc repro`") from None


def resolve(revision: str) -> str:
    """Return the commit of `revision`: what git calls so or, as in DVC, a branch of a remote or an experiment.

    Raises StageError if there is none, or, with the candidates, if several commits have the name.
    """
    name = re.split(r"[~^]|@\{", revision)[0] or revision
    refs = references()
    called = {place + name for place in ("", "refs/", "refs/tags/", "refs/heads/", "refs/remotes/")}
    found = [ref for ref in refs if ref in called or ((of := EXPERIMENT.fullmatch(ref)) and of[1] == name)]
    candidates = {}  # full names, by commit
    try:
        commit = _commit(name, revision)
        candidates[commit] = commit
    except StageError:
        found += [ref for ref in refs if ref.startswith("refs/remotes/") and ref.split("/", 3)[-1] == name]
        if not found:
            raise
    candidates |= {_commit(ref, revision): ref for ref in found}
    if len(candidates) > 1:
        raise StageError(f"{revision}: ambiguous; write one of {', '.join(sorted(candidates.values()))}")
    return _commit(found[0] + revision.removeprefix(name) if found else revision, revision)


def references() -> list[str]:
    """Return the full names of all that git has a name for: branches, tags, branches of remotes, experiments."""
    return os.fsdecode(_git("for-each-ref", "--format=%(refname)")).splitlines()


def _commit(name: str, revision: str) -> str:
    try:
        return _git("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}").decode().strip()
    except StageError as error:
        expected = "a commit, branch, tag or experiment (`git branch`, `dvc exp list`)"
        raise StageError(f"{revision}: no such revision; expected {expected}; {error}") from None


def _git(*arguments: str) -> bytes:
    """Return what git prints. Raises StageError with git's own words if it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True)  # noqa: S603, S607 (no shell; the user's own git)
    if done.returncode:
        raise StageError(f"git {arguments[0]}: {os.fsdecode(done.stderr).strip()}")
    return done.stdout

"""What a run wrote, read from the workspace or from any revision in git: needs no remote and no cache."""

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from stages.common import git, settings
from stages.common.errors import StageError

WORKSPACE = "the workspace"  # git allows no blank in the name of a revision
CONFIDENCE = 0.95
SECTIONS = ("download", "split", "train")  # of params.yaml
DATASET, RECIPE, SEED = "download.dataset", "train.recipe", "train.seed"
EVALUATE, TRAIN, PREDICTIONS = "metrics/evaluate.json", "metrics/train.json", "plots/predictions.csv"
CLASSES = "plots/classes.csv"
OF_CLASSES = ("class", "actual", "predicted")  # columns that have names of classes
# The files of a run, and the keys or columns that each must have; classes.csv comes first, as it names the classes
FILES = {
    CLASSES: ("class", "train", "validation", "test"),
    EVALUATE: ("accuracy", "errors", "loss"),
    TRAIN: ("weights_sha256", "validation_accuracy", "parameters"),
    PREDICTIONS: ("actual", "predicted", "probability"),
    "plots/per_class.csv": ("class", "count", "errors", "recall", "lower", "upper"),
    "plots/reliability.csv": ("confidence", "accuracy", "lower", "upper"),
    "plots/training.csv": ("examples", "epoch", "batch_loss", "train_loss", "validation_loss"),
}
# In dvc.lock: the digest of the model that the stage train wrote, and of the one that the stage evaluate read.
# A pattern, as there may be hundreds of experiments, and to parse a lock takes 20 ms
_MODELS = rb"\n  (?:train|evaluate):\n(?:   .*\n)*?    - path: models\n +hash: md5\n +md5: (\S+)"
# Of metrics/evaluate.json, in the order in which people want to see them
NUMBERS = {
    "accuracy": "accuracy",
    "accuracy_without_mislabelled": "accuracy without mislabelled images",
    "errors": "errors",
    "loss": "loss (nats)",
    "expected_calibration_error": "expected calibration error",
    "macro_f1": "macro F1",
}
_NUMBERS = (*NUMBERS, "validation_accuracy", "parameters")  # of both files of metrics


@dataclass(frozen=True)
class Run:
    """The tracked results of a run of the pipeline, and the params that it had."""

    commit: str | None  # None: the workspace
    name: str
    dataset: str
    recipe: str
    seed: int
    files: dict[Path, Any]  # what params.yaml and the recipe's file say
    metrics: dict[str, Any]  # metrics/evaluate.json
    names: list[str]  # of the classes; in the tables below, a class is its place in this list
    weights: str  # the first digits of the SHA-256 of the trained weights
    validation_accuracy: float
    parameters: int
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
        texts = {
            name: f"{self.metrics[key]:.2%}" if key.startswith("accuracy") else f"{self.metrics[key]:.6g}"
            for key, name in NUMBERS.items()
            if key in self.metrics
        }
        lower, upper = self.interval
        texts["accuracy"] += f" ({lower:.2%} to {upper:.2%})"
        return texts


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of the share that `hits` out of `count` estimate (Wilson 1927)."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)  # by hand, as scipy.stats takes a second to import
    middle, half = hits + z * z / 2, z * math.sqrt(hits * (count - hits) / count + z * z / 4)
    return max(0.0, (middle - half) / (count + z * z)), min(1.0, (middle + half) / (count + z * z))


def load(revision: str | None) -> Run:
    """Return the run that git has at `revision`: a commit, branch, tag or experiment; None is the workspace.

    Raises StageError if there is no such revision, or if it was written by a pipeline of another shape.
    """
    return of_commit(None, WORKSPACE) if revision is None else of_commit(resolve(revision), revision)


def of_commit(commit: str | None, name: str) -> Run:
    """Return the run in `commit` (None: the workspace), and call it `name`. Raises what `load` raises."""

    def read(*paths: Path) -> list[bytes]:
        there = _contents(commit, paths)
        for path, content in zip(paths, there, strict=True):
            if content is None:
                absent = f"{name}: has no {path}; {_advice(name)}" if commit else f"{path}: not found; run `dvc repro`"
                raise StageError(absent)
        return [content for content in there if content is not None]

    def parsed(path: Path) -> Any:
        return settings.parse(read(path)[0], f"{name}: {path}") if commit else settings.read(path)

    values, where = parsed(settings.PARAMS), f"{name}: {settings.PARAMS}"
    keys = (*SECTIONS, DATASET, RECIPE, SEED)
    *sections, dataset, chosen, seed = (settings.look_up(values, key, where) for key in keys)
    recipe = Path("recipes", f"{chosen}.yaml")
    params = {settings.PARAMS: dict(zip(SECTIONS, sections, strict=True)), recipe: parsed(recipe)}
    classes: dict[str, int] = {}
    found = {
        path: _parsed(name, path, content, required, classes)
        for (path, required), content in zip(FILES.items(), read(*map(Path, FILES)), strict=True)
    }
    evaluated, trained, predictions = (found[path] for path in (EVALUATE, TRAIN, PREDICTIONS))
    errors = np.count_nonzero(predictions["actual"] != predictions["predicted"])
    if errors != evaluated["errors"]:
        counts = f"{EVALUATE} has {evaluated['errors']} errors, {PREDICTIONS} {errors}"
        raise StageError(f"{name}: {counts}; {_advice(name)}")
    tables = {Path(path).stem: table for path, table in found.items() if path.startswith("plots")}
    start = (commit, name, dataset, chosen, seed, params, evaluated, list(classes))
    return Run(*start, *(trained[key] for key in FILES[TRAIN]), **tables)


def check_model(run: Run) -> None:
    """Raise StageError if, by dvc.lock, the stage evaluate of `run` read another model than the stage train wrote."""
    if len(set(_of_lock(run.commit, _MODELS))) > 1:
        raise StageError(f"{run.name}: {EVALUATE} is of another model than {TRAIN}; {_advice(run.name)}")


def raw_data(run: Run) -> str:
    """Return what DVC calls the raw data of `run`, by dvc.lock; empty if DVC did not run it."""
    return b"".join(_of_lock(run.commit, rb"- path: data/raw\n +hash: md5\n +md5: (\S+)")[:1]).decode()


def test_list(run: Run) -> bytes | None:
    """Return the names of the test pictures of `run`; None if its data set has no list of them."""
    return _contents(run.commit, [Path("datasets", run.dataset, "test.txt")])[0]


def experiments() -> list[Run]:
    """Return the runs of all experiments of HEAD, but for those that ended before anything was measured.

    Raises StageError if there are none.
    """
    found = [
        of_commit(commit, name)
        for name, commit in experiments_of(resolve("HEAD")).items()
        if _contents(commit, [Path(EVALUATE)])[0]  # a trial that was stopped has no metrics
    ]
    if not found:
        raise StageError(f"HEAD ({resolve('HEAD')[:7]}) has no experiments; run some (`dvc exp run`), or name others")
    return found


def experiments_of(commit: str) -> dict[str, str]:
    """Return the commits of all experiments that started from `commit`, by their names."""
    place = reference(commit, "")
    listed = git.text("for-each-ref", "--format=%(objectname) %(refname)", place).splitlines()
    return {ref.removeprefix(place): commit for commit, ref in map(str.split, listed)}


def reference(commit: str, name: str) -> str:
    """Return what git calls the experiment `name` that started from `commit` (all its 40 digits)."""
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Return the params in which `runs` differ, each with the value that each run has; None where it has none.

    Of recipes with two names, only the names are compared, not the values.
    """
    params = [run.params for run in runs]
    found = {key: [other.get(key) for other in params] for of in params for key in of}

    def compared(key: str) -> set[Any]:
        file = Path(key.rpartition(":")[0] or settings.PARAMS)
        return {value for value, run in zip(found[key], runs, strict=True) if file in run.files}

    return {key: values for key, values in found.items() if len(compared(key)) > 1}


def in_words(value: Any) -> str:
    """Return the `value` of a param as YAML has it. (A table of tabulate's shows Python's False as True.)"""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _of_lock(commit: str | None, pattern: bytes) -> list[bytes]:
    """Return all that dvc.lock has of `pattern` in `commit` (None: the workspace); nothing if DVC did not run it."""
    return re.findall(pattern, _contents(commit, [Path("dvc.lock")])[0] or b"")


def _contents(commit: str | None, paths: Sequence[Path]) -> list[bytes | None]:
    """Return what the files at `paths` have in `commit` (None: the workspace); None where there is no file."""
    if commit is None:
        return [path.read_bytes() if path.is_file() else None for path in paths]
    # ./: the project may be a folder of a repository
    asked = "".join(f"{commit}:./{path}\n" for path in paths).encode()
    printed, found = io.BytesIO(git.run("cat-file", "--batch", asked=asked)), list[bytes | None]()
    for _ in paths:
        *_, size = printed.readline().split()  # "DIGEST blob SIZE" before the content, or "NAME missing"
        found.append(None if size == b"missing" else printed.read(int(size) + 1)[:-1])
    return found


def _parsed(name: str, path: str, content: bytes, required: tuple[str, ...], classes: dict[str, int]) -> Any:
    """Return the metrics, or the rows of a table, in `content`; an empty cell is NaN, a class its place in `classes`.

    CLASSES, the first file that is parsed, fills `classes`. Raises StageError if the file is damaged, or if it lacks
    one of the `required` keys or columns.
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
            if path == CLASSES and "class" in there:
                classes.update({row[there.index("class")]: place for place, row in enumerate(rows)})
            found = np.empty(len(rows), [(column, float) for column in there])
            for column, cells in zip(there, zip(*rows, strict=True), strict=True):
                if column in OF_CLASSES and (unknown := set(cells) - classes.keys()):
                    raise ValueError(f"there is no class {min(unknown)}")
                found[column] = [classes[of] if column in OF_CLASSES else float(of or "nan") for of in cells]
    except (ValueError, TypeError, csv.Error) as error:
        merge = re.search(rb"^(<{7}|={7}|>{7})", content, re.MULTILINE)
        why = "has the marks of a merge; see docs/branches.md" if merge else f"is damaged ({error}); {_advice(name)}"
        raise StageError(f"{name}: {path} {why}") from None
    if missing := [key for key in required if key not in there]:
        raise StageError(f"{name}: {path} has no {', '.join(missing)}; {_advice(name)}")
    numbers = [key for key in _NUMBERS if path.endswith(".json") and key in there]
    if odd := [f"{json.dumps(found[key])} as {key}" for key in numbers if type(found[key]) not in (int, float)]:
        raise StageError(f"{name}: {path} has {', '.join(odd)}, expected a number; {_advice(name)}")
    return found


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value that stands in `values`, and its key: `model.1` is the second entry of the list `model`."""
    if not isinstance(values, (dict, list)):
        yield prefix, values
        return
    for key, of in values.items() if isinstance(values, dict) else enumerate(values):
        yield from _flat(of, f"{prefix}.{key}" if prefix else str(key))


def _advice(name: str) -> str:
    there = ""
    if name != WORKSPACE:
        experiment = any(ref.startswith("refs/exps/") and ref.endswith(f"/{name}") for ref in references())
        there = f"`dvc exp apply {name}` and " if experiment else f"`git checkout {name}` and "
    return f"another version of the pipeline wrote it, or none: {there}`dvc repro`"


def resolve(revision: str) -> str:
    """Return the commit of `revision`: a name that git knows or, as in DVC, a branch of a remote or an experiment.

    Raises StageError if there is none, or, with the candidates, if several commits have the name.
    """
    name = re.split(r"[~^]|@\{", revision)[0] or revision
    refs = references()
    called = {place + name for place in ("", "refs/", "refs/tags/", "refs/heads/", "refs/remotes/")}
    # an experiment is refs/exps/, the commit that it started from in two parts, and its name
    found = [ref for ref in refs if ref in called or (ref.startswith("refs/exps/") and ref.split("/")[4:] == [name])]
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
    return git.text("for-each-ref", "--format=%(refname)").splitlines()


def _commit(name: str, revision: str) -> str:
    try:
        return git.text("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
    except StageError as error:
        expected = "a commit, branch, tag or experiment (`git branch`, `dvc exp list`)"
        raise StageError(f"{revision}: no such revision; expected {expected}; {error}") from None

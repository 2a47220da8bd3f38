"""The experiments of a study: one for each seed of each point of a grid."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dvc.exceptions import DvcException
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import get_hydra_sweeps
from hydra.errors import HydraException

from stages.common import settings
from stages.common.errors import StageError
from stages.report.runs import DATASET, RECIPE, SEED

LONGEST = 200  # bytes of a name: git and Slurm's logs add to it, and a file's name has at most 255


@dataclass(frozen=True)
class Planned:
    """An experiment of a study."""

    name: str
    sets: tuple[str, ...]  # as `dvc exp run -S` takes them

    @property
    def options(self) -> list[str]:
        """The experiment as options of `dvc exp run`, and of `tools.job`."""
        return ["--name", self.name, *(word for one in self.sets for word in ("-S", one))]


def plan(name: str, grid: Sequence[str], seeds: Sequence[int]) -> list[Planned]:
    """Return an experiment for each of `seeds` of each point of `grid`, in DVC's syntax, seed by seed.

    Raises StageError if DVC cannot read `grid`, if two points have one name or one has a recipe's param that another
    recipe does not use, or if there are two data sets.
    """
    try:
        points = get_hydra_sweeps(by_file(grid))
    except (DvcException, HydraException) as error:
        raise StageError(f"-S {' -S '.join(grid)}: {' '.join(str(error).split())}") from None
    found = []
    for seed in seeds:
        for point in points:
            sets = [f"{path}:{of}" for path, given in point.items() for of in given]
            sets = [of.removeprefix(f"{settings.PARAMS}:") for of in sets]
            check(sets)
            found.append(Planned(named(name, sets, f"seed={seed}"), (*sets, f"{SEED}={seed}")))
    if len({of.name for of in found}) < len(found):
        raise StageError("two points of the grid have one name: they are equal, or differ in punctuation only")
    if len({one for of in found for one in values(of.sets, DATASET)}) > 1:
        raise StageError(f"-S {DATASET}: a study has one data set, as its runs are compared on the same test images")
    return found


def by_file(given: Sequence[str]) -> dict[str, list[str]]:
    """Return the params `given`, in DVC's syntax, by their files. Raises StageError for one given twice."""
    found = to_path_overrides(given)
    for path, overrides in found.items():
        keys = [of.partition("=")[0].lstrip("+") for of in overrides]
        if twice := next((of for of in keys if keys.count(of) > 1), None):
            raise StageError(f"-S {path}:{twice}: given twice; expected once, its values with commas between them")
    return found


def values(sets: Sequence[str], key: str) -> list[str]:
    """Return what `sets` give the param `key`, also as `+key` or `++key`, and without quotes."""
    parts = [of.partition("=") for of in sets]
    return [value.strip("'\"") for before, _, value in parts if before.lstrip("+") == key]


def check(sets: Sequence[str]) -> None:
    """Raise StageError if one of `sets` is the seed, or of a recipe that the run does not have."""
    if values(sets, SEED):
        raise StageError(f"-S {SEED}: --seeds sets the seeds of a study")
    recipe = [settings.value(RECIPE), *values(sets, RECIPE)][-1]
    for of in sets:
        if of.startswith("recipes/") and not of.startswith(f"recipes/{recipe}.yaml:"):
            raise StageError(f"-S {of}: changes nothing where {RECIPE} is {recipe}; run another study for it")


def named(name: str, sets: Sequence[str], last: str) -> str:
    """Return the name of an experiment of the study `name`: with its params, as far as git takes them, and `last`.

    Where that is longer than LONGEST, a digest stands for the params: git would lose the result.
    """
    keys = [re.sub(r"^[^:=]+:", "", of) for of in sets]
    params = "-".join(re.sub(r"[^\w.=+-]+", "_", re.sub(r"[\"'\[\]]", "", of)) for of in keys)
    full = "-".join(filter(None, [name, params, last]))
    digest = hashlib.sha256(params.encode()).hexdigest()[:16]
    return full if len(full.encode()) <= LONGEST else f"{name}-{digest}-{last}"

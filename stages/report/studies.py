"""The studies that the report shows: the files in plots/studies, as tools.study wrote them."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stages.common.errors import StageError
from stages.common.settings import Settings

FOLDER = Path("plots/studies")


class Epoch(Settings):
    """The validation loss of a group after an epoch: mean and standard deviation over the seeds."""

    examples: float  # training images seen
    mean: float
    deviation: float


class Member(Settings):
    """An experiment of a group, and its final accuracies."""

    name: str
    seed: int
    validation: float
    test: float


class Group(Settings):
    """Runs that differ in the seed alone, and what is known of their final validation accuracies."""

    name: str
    curve: list[Epoch]
    runs: list[Member]
    mean: float
    deviation: float | None  # None: of one run


class Study(Settings):
    """What the report shows of a study: its groups, its table, and what is said of it, sentence by sentence."""

    name: str
    dataset: str
    groups: list[Group]
    header: list[str]
    cells: list[list[str]]
    verdict: list[str]
    legend: list[str]
    missing: list[str]


def load() -> list[dict[str, Any]]:
    """Return the studies in FOLDER, by their names. Raises StageError if a file is none."""
    return [_read(path) for path in sorted(FOLDER.glob("*.json"))]


def _read(path: Path) -> dict[str, Any]:
    try:
        return Study.model_validate_json(path.read_bytes()).model_dump()
    except ValidationError:
        raise StageError(f"{path}: damaged, or no study; delete it, or copy it from studies/ again") from None

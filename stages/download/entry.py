"""An entry of the table of data sets, datasets/NAME/dataset.yaml: what a data set is, and where it comes from."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.common import raw, settings
from stages.common.errors import StageError

FOLDER = Path("datasets")
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# What a file of a data set has. The groups say who wrote each training image, or the like
Kind = Literal["train-images", "train-labels", "t10k-images", "t10k-labels", "train-groups"]


class File(settings.Settings):
    """An IDX file as mirrors serve it, packed by gzip, and as it is unpacked."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    mirrors: list[Annotated[str, Field(pattern="^https://")]] = Field([])
    packed_bytes: Annotated[int, Field(ge=1)] | None = None  # None: not known, so no more than raw_bytes
    packed_sha256: Sha256
    raw_bytes: Annotated[int, Field(ge=1)]
    raw_sha256: Sha256 | None = None  # None: not known; packed_sha256 says it all
    column: Annotated[int, Field(ge=0)] | None = None  # of a table of labels: the one that is wanted
    from_row: Annotated[int, Field(ge=0)] = 0  # the rows before are left out
    transposed: bool = False  # images column by column
    first_label: Annotated[int, Field(ge=0)] = 0  # the label of the first class


class Entry(raw.Description):
    """A data set: what raw.Description says, and one of `files`, `package` and `pictures`."""

    title: Annotated[str, Field(min_length=1)]
    about: str  # what it is, for the data card, as the next three
    missing: str = ""  # what it has not
    source: str  # a URL, or in words
    licence: str
    digests: str = ""  # where those of the files are from, and whether somebody here ever downloaded them
    files: dict[Kind, File] = Field({})
    package: Literal["scikit-learn"] | None = None
    pictures: Literal["pictures"] | None = None  # the folder beside the entry with a folder of pictures for each class

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if sum(map(bool, (self.files, self.package, self.pictures))) != 1:
            raise ValueError("one of `files`, `package` and `pictures`")
        if self.files and (missing := {"train-images", "train-labels", "t10k-images", "t10k-labels"} - set(self.files)):
            raise ValueError(f"`files` with {', '.join(sorted(missing))}, too")
        return self


def path(name: str) -> Path:
    """Return the file of the entry called `name`."""
    return FOLDER / name / "dataset.yaml"


def load(name: str) -> Entry:
    """Return the entry called `name`. Raises StageError if there is none, or if it is malformed."""
    if not path(name).is_file():
        there = ", ".join(sorted(found.parent.name for found in FOLDER.glob("*/dataset.yaml")))
        raise StageError(
            f"params.yaml: download.dataset: got {name!r}, expected one of {there}; `python -m tools.dataset` adds one"
        )
    return settings.load(Entry, path=path(name))

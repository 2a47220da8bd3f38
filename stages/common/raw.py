"""The raw data set: what it is, and its images and labels in IDX files, where torchvision's MNIST class has them."""

import unicodedata
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from stages.common import idx, settings
from stages.common.errors import StageError

FOLDER = Path("data/raw/MNIST/raw")
DESCRIPTION = Path("data/raw/dataset.json")
LARGEST_SIDE = 64  # pixels
Part = Literal["train", "t10k"]  # the training set and the test set, as MNIST's files call them


class Description(settings.Settings):
    """What a data set is, whatever its files: what the stages after download know of it."""

    noun: Annotated[str, Field(min_length=1)] = "image"  # for one of them; an s makes it several
    shape: Annotated[list[Annotated[int, Field(ge=1, le=LARGEST_SIDE)]], Field(min_length=3, max_length=3)]
    classes: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=2, max_length=100)]
    drawing: Literal["centred", "plain", "none"]  # ink on black paper, centred as MNIST's or as it is; or a picture
    mislabelled: list[Annotated[int, Field(ge=0)]] = Field([])  # rows of the test set whose label people found wrong

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.shape[0] not in (1, 3):
            raise ValueError(f"`shape` [channels, height, width] with 1 or 3 channels, got {self.shape}")
        if len(set(self.classes)) < len(self.classes) or not all(map(is_name, self.classes)):
            raise ValueError("`classes` with different names, without line breaks and control characters")
        if self.drawing != "none" and self.shape[0] == 3:
            raise ValueError("`drawing: none` for pictures in colour")
        if self.drawing == "centred" and self.shape != [1, 28, 28]:
            raise ValueError("`drawing: centred` for images of 28 x 28 pixels alone, as MNIST has them")
        return self


def is_name(text: str) -> bool:
    """Return whether `text` has neither control characters, nor line breaks, nor bytes that are no UTF-8."""
    return not {"Cc", "Cs", "Zl", "Zp"}.intersection(map(unicodedata.category, text))


def array_shape(shape: list[int]) -> tuple[int, ...]:
    """Return the shape of an image as an array, (H, W) or (H, W, 3), for a `shape` of channels, height and width."""
    channels, height, width = shape
    return (height, width) if channels == 1 else (height, width, channels)


def describe() -> Description:
    """Return what the data set in data/raw is. Raises StageError if that file is missing or damaged."""
    try:
        return Description.model_validate_json(DESCRIPTION.read_bytes())
    except (FileNotFoundError, ValidationError):
        raise StageError(f"{DESCRIPTION}: not found, or damaged; delete data/raw and run `dvc repro`") from None


def images(part: Part) -> np.ndarray:
    """Return the images of `part`: (n, height, width) in grey, (n, height, width, 3) in colour; uint8.

    Raises StageError if the file is missing or damaged.
    """
    colour = FOLDER / f"{part}-images-idx4-ubyte"
    return idx.read(colour if colour.is_file() else FOLDER / f"{part}-images-idx3-ubyte")


def labels(part: Part) -> np.ndarray:
    """Return the labels (n; uint8, from 0) of `part`. Raises StageError if the file is missing or damaged."""
    return idx.read(FOLDER / f"{part}-labels-idx1-ubyte")

"""The raw data set: four IDX files in the folder where torchvision's own MNIST class looks for them."""

from pathlib import Path
from typing import Literal

import numpy as np

from stages.common import idx

FOLDER = Path("data/raw/MNIST/raw")
CLASSES = 10
Part = Literal["train", "t10k"]  # the official training set and the official test set


def images(part: Part) -> np.ndarray:
    """Return the images (n, 28, 28; uint8, paper 0 and ink 255) of `part`. Raises StageError if the file is damaged."""
    return idx.read(FOLDER / f"{part}-images-idx3-ubyte")


def labels(part: Part) -> np.ndarray:
    """Return the labels (n; uint8, 0..9) of `part`. Raises StageError if the file is damaged."""
    return idx.read(FOLDER / f"{part}-labels-idx1-ubyte")

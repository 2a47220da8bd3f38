"""Part the official training set into training and validation: two lists of row numbers in data/split.

    python -m stages.split

Stratified: each class gives `split.validation_fraction` of its images to validation, drawn by `split.seed`.
The official test set stays whole, and is not read here.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from stages.common import command, errors, files, idx, settings

LABELS = Path("data/raw/MNIST/raw/train-labels-idx1-ubyte")
TRAIN, VALIDATION = Path("data/split/train.npy"), Path("data/split/validation.npy")


class Split(settings.Settings):
    """The section `split` of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]


def main() -> None:
    """Write the row numbers of both parts, in rising order."""
    chosen = settings.load("split", Split)
    train, validation = stratified(idx.read(LABELS), chosen.validation_fraction, chosen.seed)
    files.write_npy(TRAIN, train)
    files.write_npy(VALIDATION, validation)


def stratified(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return row numbers (int64, rising) of the training and the validation part of `labels` (0..9, n of them).

    Raises StageError if a class would be left without an image in one of the parts.
    """
    random = np.random.RandomState(seed)  # the generator of NumPy whose stream is frozen for good
    in_validation = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        rows = np.flatnonzero(labels == digit)
        count = round(len(rows) * fraction)
        if not 0 < count < len(rows):
            raise errors.StageError(
                f"params.yaml: split.validation_fraction: {fraction} of the {len(rows)} images of class {digit} is"
                f" {count}; expected at least one image in each part"
            )
        in_validation[random.permutation(rows)[:count]] = True
    return np.flatnonzero(~in_validation), np.flatnonzero(in_validation)


if __name__ == "__main__":
    command.run("split", main, __doc__)

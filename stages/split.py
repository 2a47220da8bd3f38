"""Part the official training set into training and validation: two lists of row numbers in data/split.

    python -m stages.split

`split.validation_fraction` of the images go to validation, drawn by `split.seed`. By `split.method`:
  stratified  each class gives that share of its images;
  writer      whole writers, so that nobody's hand is in both parts, the classes as balanced as that allows.
The official test set stays whole. metrics/data.json says what is in each part; what overlaps stops the pipeline.
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from stages.common import command, errors, files, idx, settings

RAW = Path("data/raw/MNIST/raw")
TRAIN, VALIDATION = Path("data/split/train.npy"), Path("data/split/validation.npy")
METRICS = Path("metrics/data.json")
WRITER = 2  # the column of QMNIST's labels that says who wrote the digit
Parts = dict[str, np.ndarray]


class Split(settings.Settings):
    """The section `split` of params.yaml."""

    method: Literal["stratified", "writer"]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]


def main() -> None:
    """Write the row numbers of both parts, in rising order, and what is in the parts."""
    chosen = settings.load("split", Split)
    labels, test_labels = (idx.read(RAW / f"{name}-labels-idx1-ubyte") for name in ("train", "t10k"))
    images, test_images = (idx.read(RAW / f"{name}-images-idx3-ubyte") for name in ("train", "t10k"))
    writers = read_writers(labels) if chosen.method == "writer" else None
    # the generator of NumPy whose stream is frozen for good
    random = np.random.RandomState(chosen.seed)
    if writers is None:
        in_validation = stratified(labels, chosen.validation_fraction, random)
    else:
        in_validation = by_writer(labels, writers, chosen.validation_fraction, random)
    train, validation = np.flatnonzero(~in_validation), np.flatnonzero(in_validation)
    parts = {"train": labels[train], "validation": labels[validation], "test": test_labels}
    pictures = {"train": images[train], "validation": images[validation], "test": test_images}
    shared = None if writers is None else len(np.intersect1d(writers[train], writers[validation]))
    metrics = {**described(parts, pictures), "shared_writers": shared}
    files.write_npy(TRAIN, train)
    files.write_npy(VALIDATION, validation)
    files.write_json(METRICS, metrics)


def read_writers(labels: np.ndarray) -> np.ndarray:
    """Return who (n) wrote each of the training digits, whose `labels` (n) are MNIST's."""
    path = RAW / "qmnist-train-labels-idx2-int"
    if not path.is_file():
        raise errors.StageError(
            "params.yaml: split.method: got 'writer', but nobody says who wrote these digits; expected 'stratified', or"
            " 'mnist' as download.dataset"
        )
    qmnist = idx.read(path)
    if not np.array_equal(qmnist[:, 0], labels):
        raise errors.StageError(f"{path}: its labels are not those of the training set; delete it and run `dvc repro`")
    return qmnist[:, WRITER]


def stratified(labels: np.ndarray, fraction: float, random: np.random.RandomState) -> np.ndarray:
    """Return which of `labels` (0..9, n of them) are for validation: `fraction` of each class."""
    in_validation = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        rows = np.flatnonzero(labels == digit)
        in_validation[random.permutation(rows)[: round(len(rows) * fraction)]] = True
    return in_validation


def by_writer(labels: np.ndarray, writers: np.ndarray, fraction: float, random: np.random.RandomState) -> np.ndarray:
    """Return which of `labels` (0..9, n of them) are for validation: about `fraction` of each class, whole `writers`.

    Takes the writers in random order, each one that brings the counts of the classes closer to what is wanted.
    """
    missing = fraction * np.bincount(labels, minlength=10)
    scale = np.maximum(missing, 1)
    chosen = []
    for writer in random.permutation(np.unique(writers)):
        counts = np.bincount(labels[writers == writer], minlength=10)
        if np.square((missing - counts) / scale).sum() < np.square(missing / scale).sum():
            missing = missing - counts
            chosen.append(writer)
    return np.isin(writers, chosen)


def described(labels: Parts, images: Parts) -> dict[str, object]:
    """Return the counts per class and part, and how many images are duplicates.

    Raises StageError if a class is missing in a part, or an image is in two parts.
    """
    counts = {part: {str(digit): int((of == digit).sum()) for digit in range(10)} for part, of in labels.items()}
    for part, of in counts.items():
        if missing := [digit for digit, count in of.items() if count == 0]:
            raise errors.StageError(
                f"no image of class {', '.join(missing)} in {part}; change split.validation_fraction in params.yaml"
            )
    distinct = {part: {image.tobytes() for image in of} for part, of in images.items()}
    across = sum(map(len, distinct.values())) - len(set().union(*distinct.values()))
    if across:
        raise errors.StageError(f"{RAW}: {across} images are in two of the parts {', '.join(images)}")
    inside = sum(len(images[part]) - len(distinct[part]) for part in images)
    return {"counts": counts, "duplicates": {"across": across, "inside": inside}}


if __name__ == "__main__":
    command.run("split", main, __doc__)

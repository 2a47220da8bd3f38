"""Part the official training set into training and validation: two lists of row numbers in data/split.

    python -m stages.split

`split.validation_fraction` of the images go to validation, drawn by `split.seed`. By `split.method`:
  stratified  each class gives that share of its images;
  writer      whole writers, so that nobody's hand is in both parts, the classes as balanced as that allows.
The official test set stays whole. metrics/data.json and plots/classes.csv say what is in each part. An image in two
parts is an error.
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from stages.common import errors, files, idx, raw, settings

TRAIN, VALIDATION = Path("data/split/train.npy"), Path("data/split/validation.npy")
METRICS, CLASS_COUNTS = Path("metrics/data.json"), Path("plots/classes.csv")
WRITER = 2  # the column of QMNIST's labels that says who wrote the digit
Parts = dict[str, np.ndarray]


class Split(settings.Settings):
    """The section `split` of params.yaml."""

    method: Literal["stratified", "writer"]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]


def main() -> None:
    """Write the row numbers of both parts, in rising order, and what is in the parts."""
    chosen = settings.load(Split, "split")
    labels, images = raw.labels("train"), raw.images("train")
    writers = read_writers(labels) if chosen.method == "writer" else None
    # the generator of NumPy whose stream is frozen for good
    random = np.random.RandomState(chosen.seed)
    if writers is None:
        in_validation = stratified(labels, chosen.validation_fraction, random)
    else:
        in_validation = by_writer(labels, writers, chosen.validation_fraction, random)
    train, validation = np.flatnonzero(~in_validation), np.flatnonzero(in_validation)
    parts = {"train": labels[train], "validation": labels[validation], "test": raw.labels("t10k")}
    counts = count_classes(parts)
    pictures = {"train": images[train], "validation": images[validation], "test": raw.images("t10k")}
    metrics = {"images": {part: len(of) for part, of in parts.items()}, "duplicates": count_duplicates(pictures)}
    if writers is not None:
        metrics["shared_writers"] = len(np.intersect1d(writers[train], writers[validation]))
    files.write_npy(TRAIN, train)
    files.write_npy(VALIDATION, validation)
    files.write_csv(CLASS_COUNTS, ("class", *counts), zip(range(raw.CLASSES), *counts.values(), strict=True))
    files.write_json(METRICS, metrics)
    sizes = ", ".join(f"{len(of):,} {part}" for part, of in parts.items())
    print(f"{TRAIN.parent}: {sizes} images, {metrics['duplicates']} duplicates")


def read_writers(labels: np.ndarray) -> np.ndarray:
    """Return who (n) wrote each of the training digits, whose `labels` (n) are MNIST's."""
    path = raw.FOLDER / "qmnist-train-labels-idx2-int"
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
    for digit in range(raw.CLASSES):
        rows = np.flatnonzero(labels == digit)
        in_validation[random.permutation(rows)[: round(len(rows) * fraction)]] = True
    return in_validation


def by_writer(labels: np.ndarray, writers: np.ndarray, fraction: float, random: np.random.RandomState) -> np.ndarray:
    """Return which of `labels` (0..9, n of them) are for validation: about `fraction` of each class, whole `writers`.

    Takes the writers in random order, each one that brings the counts of the classes closer to what is wanted.
    """
    missing = fraction * np.bincount(labels, minlength=raw.CLASSES)
    scale = np.maximum(missing, 1)
    chosen = []
    for writer in random.permutation(np.unique(writers)):
        counts = np.bincount(labels[writers == writer], minlength=raw.CLASSES)
        if np.square((missing - counts) / scale).sum() < np.square(missing / scale).sum():
            missing = missing - counts
            chosen.append(writer)
    return np.isin(writers, chosen)


def count_classes(labels: Parts) -> dict[str, list[int]]:
    """Return how many of the `labels` of each part are of each class. Raises StageError if a class is missing."""
    counts = {part: np.bincount(of, minlength=raw.CLASSES).tolist() for part, of in labels.items()}
    for part, of in counts.items():
        if missing := [str(digit) for digit, count in enumerate(of) if count == 0]:
            raise errors.StageError(
                f"no image of class {', '.join(missing)} in {part}; change split.validation_fraction in params.yaml"
            )
    return counts


def count_duplicates(images: Parts) -> int:
    """Return how many images are copies of another one of their part. Raises StageError if an image is in two parts."""
    distinct = {part: {image.tobytes() for image in of} for part, of in images.items()}
    across = sum(map(len, distinct.values())) - len(set().union(*distinct.values()))
    if across:
        raise errors.StageError(f"{raw.FOLDER}: {across} images are in two of the parts {', '.join(images)}")
    return sum(len(images[part]) - len(distinct[part]) for part in images)

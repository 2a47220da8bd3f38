"""Split the training set into training and validation images: two lists of row numbers in data/split.

    python -m stages.split

`split.validation_fraction` of the images go to validation, drawn by `split.seed`. By `split.method`:
  stratified  each class gives that share of its images, and one at least;
  group       whole groups, such as the digits of one writer, the classes as balanced as that allows.
The test set stays whole. metrics/data.json and plots/classes.csv say what is in each part. An image in two
parts is an error.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from stages.common import errors, files, idx, raw, settings

TRAIN, VALIDATION = Path("data/split/train.npy"), Path("data/split/validation.npy")
METRICS, CLASS_COUNTS = Path("metrics/data.json"), Path("plots/classes.csv")


class Split(settings.Settings):
    """The section `split` of params.yaml."""

    method: Literal["stratified", "group"]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]


def main() -> None:
    """Write the row numbers of both parts, in rising order, and what is in the parts."""
    chosen = settings.load(Split, "split")
    labels, images, classes = raw.labels("train"), raw.images("train"), raw.describe().classes
    groups = read_groups(len(labels)) if chosen.method == "group" else None
    # the generator of NumPy whose stream is frozen for good
    random = np.random.RandomState(chosen.seed)
    if groups is None:
        in_validation = stratified(labels, chosen.validation_fraction, random)
    else:
        in_validation = by_group(labels, groups, chosen.validation_fraction, random)
    train, validation = np.flatnonzero(~in_validation), np.flatnonzero(in_validation)
    parts = {"train": labels[train], "validation": labels[validation], "test": raw.labels("t10k")}
    counts = count_classes(parts, classes)
    rows = {"train": train, "validation": validation}
    pictures = {part: map(images.__getitem__, of) for part, of in rows.items()} | {"test": iter(raw.images("t10k"))}
    metrics = {"images": {part: len(of) for part, of in parts.items()}, "duplicates": count_duplicates(pictures)}
    if groups is not None:
        metrics["shared_groups"] = len(np.intersect1d(groups[train], groups[validation]))
    files.write_npy(TRAIN, train)
    files.write_npy(VALIDATION, validation)
    files.write_csv(CLASS_COUNTS, ("class", *counts), zip(classes, *counts.values(), strict=True))
    files.write_json(METRICS, metrics)
    sizes = ", ".join(f"{len(of):,} {part}" for part, of in parts.items())
    print(f"{TRAIN.parent}: {sizes} images, {metrics['duplicates']} duplicates")


def read_groups(count: int) -> np.ndarray:
    """Return the group (n) of each of the `count` training images. Raises StageError if nobody says which."""
    path = raw.FOLDER / "train-groups-idx1-int"
    if not path.is_file():
        raise errors.StageError(
            "params.yaml: split.method: got 'group', but nobody says which images belong together; expected"
            " 'stratified', or a data set with groups: 'mnist', 'qmnist', or pictures with a groups.csv"
        )
    groups = idx.read(path)
    if groups.shape != (count,):
        raise errors.StageError(f"{raw.FOLDER}: {groups.shape} groups of {count} images; delete it and run `dvc repro`")
    return groups


def stratified(labels: np.ndarray, fraction: float, random: np.random.RandomState) -> np.ndarray:
    """Return which of `labels` (n; from 0) are for validation: `fraction` of each class, and one at least."""
    in_validation = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        in_validation[random.permutation(rows)[: max(1, round(len(rows) * fraction))]] = True
    return in_validation


def by_group(labels: np.ndarray, groups: np.ndarray, fraction: float, random: np.random.RandomState) -> np.ndarray:
    """Return which of `labels` (n; from 0) are for validation: about `fraction` of each class, whole `groups` (n).

    Takes the groups in random order, each one that brings the counts of the classes closer to what is wanted.
    """
    missing = fraction * np.bincount(labels)
    scale = np.maximum(missing, 1)
    chosen = []
    for group in random.permutation(np.unique(groups)):
        counts = np.bincount(labels[groups == group], minlength=len(missing))
        if np.square((missing - counts) / scale).sum() < np.square(missing / scale).sum():
            missing = missing - counts
            chosen.append(group)
    return np.isin(groups, chosen)


def count_classes(labels: Mapping[str, np.ndarray], classes: list[str]) -> dict[str, list[int]]:
    """Return how many of the `labels` of each part are of each class. Raises StageError if a class is missing."""
    counts = {part: np.bincount(of, minlength=len(classes)).tolist() for part, of in labels.items()}
    for part, of in counts.items():
        if missing := [name for name, count in zip(classes, of, strict=True) if count == 0]:
            raise errors.StageError(
                f"no image of class {errors.listed(missing)} in {part}; change split.validation_fraction in "
                "params.yaml, or, where split.method is group, have more groups of that class"
            )
    return counts


def count_duplicates(images: Mapping[str, Iterable[np.ndarray]]) -> int:
    """Return how many images are copies of another one of their part. Raises StageError if an image is in two parts."""
    digests = {part: [hashlib.sha256(image.tobytes()).digest() for image in of] for part, of in images.items()}
    distinct = {part: set(of) for part, of in digests.items()}
    across = sum(map(len, distinct.values())) - len(set().union(*distinct.values()))
    if across:
        raise errors.StageError(f"{raw.FOLDER}: {across} images are in two of the parts {', '.join(images)}")
    return sum(len(digests[part]) - len(distinct[part]) for part in images)

"""Split: stratified or by group, seeded, and nothing in two parts."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.common import files, idx, raw
from stages.common.errors import StageError
from stages.split import main as split
from tests.conftest import PROJECT, Clone

DIGITS = list("0123456789")
LABELS = np.repeat(np.arange(10, dtype=np.uint8), [10, 20, 30, 40, 50, 60, 70, 80, 90, 100])


def stratified(fraction: float, seed: int) -> np.ndarray:
    """Return which of LABELS are for validation."""
    return split.stratified(LABELS, fraction, np.random.RandomState(seed))


def test_each_class_gives_its_share() -> None:
    """A tenth of each class is in validation; of a small class one image, however small the fraction."""
    assert np.bincount(LABELS[stratified(0.1, seed=0)]).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert np.bincount(LABELS[stratified(0.02, seed=0)]).tolist() == [1, 1, 1, 1, 1, 1, 1, 2, 2, 2]


def test_the_seed_decides() -> None:
    """The same seed gives the same rows on every machine; another seed gives others."""
    assert np.flatnonzero(stratified(0.1, seed=0))[:6].tolist() == [2, 12, 25, 35, 46, 50]
    assert not np.array_equal(stratified(0.1, seed=0), stratified(0.1, seed=1))


def test_whole_writers() -> None:
    """Twenty writers of 100 digits each, a fifth to validation: four whole writers, each class within one writer's."""
    random = np.random.RandomState(0)
    labels, writers = random.randint(10, size=2000), np.repeat(np.arange(20) * 7, 100)
    chosen = split.by_group(labels, writers, 0.2, np.random.RandomState(0))
    assert len(np.unique(writers[chosen])) == 4
    assert not set(writers[chosen]) & set(writers[~chosen])
    shares = np.bincount(labels[chosen]) / np.bincount(labels)
    assert (np.abs(shares - 0.2) < 0.05).all()


def test_groups_by_hand() -> None:
    """Of the groups in random order, the first has too much of class 1, and the next is taken.

    It brings class 0 as far as is wanted; that it has the one image of class 2 matters less. Then nothing else fits.
    """
    counts = [(10, 1, 0), (18, 1, 0), (2, 5, 0), (10, 1, 1)]  # of the classes, in each group
    labels = np.concatenate([np.repeat([0, 1, 2], of) for of in counts])
    groups = np.repeat([3, 4, 6, 9], [sum(of) for of in counts])
    assert np.random.RandomState(0).permutation([3, 4, 6, 9]).tolist() == [6, 9, 4, 3]
    assert np.array_equal(split.by_group(labels, groups, 0.25, np.random.RandomState(0)), groups == 9)


def test_groups_of_other_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of as many groups as there are images, and no other."""
    monkeypatch.chdir(tmp_path)
    files.write_whole(raw.FOLDER / "train-groups-idx1-int", idx.encode(np.arange(2, dtype=np.int32)))
    assert split.read_groups(2).tolist() == [0, 1]
    with pytest.raises(StageError, match=r"^data/raw/MNIST/raw: \(2,\) groups of 3 images; delete it"):
        split.read_groups(3)


def images(count: int, seed: int) -> np.ndarray:
    """Return random images."""
    return np.random.RandomState(seed).randint(256, size=(count, 28, 28)).astype(np.uint8)


def test_what_is_in_the_parts() -> None:
    """Counts per class and part, and an image that is twice in one part."""
    labels = {"train": np.arange(10).repeat(2), "validation": np.arange(10), "test": np.arange(10)}
    pictures = {part: images(len(of), seed) for seed, (part, of) in enumerate(labels.items())}
    pictures["train"][1] = pictures["train"][0]
    assert split.count_classes(labels, DIGITS) == {"train": [2] * 10, "validation": [1] * 10, "test": [1] * 10}
    assert split.count_duplicates(pictures) == 1


def test_what_overlaps_stops() -> None:
    """An image in two parts, or a part without a class, is an error that says which."""
    labels = {"train": np.arange(10), "validation": np.arange(10)}
    pictures = {part: images(10, seed) for seed, part in enumerate(labels)}
    with pytest.raises(StageError, match=r"no image of class 3, 9 in validation; change split\.validation_fraction"):
        split.count_classes({**labels, "validation": np.array([0, 1, 2, 2, 4, 5, 6, 7, 8, 8])}, DIGITS)
    pictures["validation"][4] = pictures["train"][7]
    with pytest.raises(StageError, match="1 images are in two of the parts train, validation"):
        split.count_duplicates(pictures)


def test_a_class_left_empty_is_refused(finished: Clone, tmp_path: Path) -> None:
    """A part without a class is refused, and so is a training image in the test part: nothing is written."""
    clone = finished.copy(tmp_path / "clone")
    failed = clone.run("dvc", "exp", "run", "-S", "split.validation_fraction=0.999", status=None)
    assert failed.returncode != 0
    assert " in train; change split.validation_fraction" in failed.stderr
    clone.run("git", "restore", "params.yaml")
    train, test = (clone.path / raw.FOLDER / f"{part}-images-idx3-ubyte" for part in ("train", "t10k"))
    mixed = np.concatenate([idx.read(train)[5:6], idx.read(test)[1:]])
    files.write_whole(test, idx.encode(mixed))
    failed = clone.run(sys.executable, "-m", "stages.split", status=1)
    assert "1 images are in two of the parts train, validation, test" in failed.stderr
    assert not (clone.path / "data/split").exists()


def test_a_full_disk_is_named(finished: Clone, tmp_path: Path) -> None:
    """With the file that it has no room for, of which nothing is left."""
    clone = finished.copy(tmp_path / "clone")
    shutil.rmtree(clone.path / "data/split")
    (clone.path / "data/split").mkdir()
    alone, mount = ["unshare", "--map-root-user", "--mount", "sh", "-ec"], "mount -t tmpfs -o size=4k none data/split"
    if subprocess.run([*alone, mount], cwd=clone.path, capture_output=True).returncode:
        pytest.skip("needs user namespaces, to mount a small disk")
    failed = clone.run(*alone, f"{mount}; python -m stages.split || ls -A data/split; false", status=1)
    assert failed.stderr == "error: data/split/train.npy: No space left on device\n"
    assert failed.stdout == ""


def test_digits_have_no_groups(finished: Clone, tmp_path: Path) -> None:
    """`group` with `digits` fails, and says what fits."""
    clone = finished.copy(tmp_path / "clone")
    failed = clone.run("dvc", "exp", "run", "-S", "split.method=group", status=None)
    assert failed.returncode != 0
    assert "split.method: got 'group', but nobody says which images belong together" in failed.stderr


@pytest.mark.slow
def test_no_writer_of_mnist_is_in_both_parts(mirror: Path, origin: Clone, tmp_path: Path) -> None:
    """With `group`, QMNIST's labels are fetched, too; no writer is in both parts, each class gives 9.5 to 10.5 %."""
    clone = origin.clone(tmp_path / "clone")
    environment = {"MNIST_MIRROR": str(mirror), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    clone.run("dvc", "exp", "run", "-S", "split.method=group", "split", **environment)
    data = json.loads((clone.path / "metrics/data.json").read_text())
    assert data["shared_groups"] == 0
    assert data["duplicates"] == 0
    rows = list(csv.DictReader((clone.path / "plots/classes.csv").open()))
    for row in rows:
        train, validation = int(row["train"]), int(row["validation"])
        assert 0.095 < validation / (train + validation) < 0.105
    totals = {part: sum(int(row[part]) for row in rows) for part in ("train", "validation", "test")}
    assert totals == data["images"]
    assert totals["test"] == 10_000


def test_split_does_not_import_torch() -> None:
    """The stage starts in a fraction of the time that importing torch takes."""
    code = "import sys, stages.split.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0

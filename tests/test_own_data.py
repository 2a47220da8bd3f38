"""Data sets of the table and folders of one's own: made files and pictures, with exact answers."""

import argparse
import csv
import functools
import gzip
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser
from ruamel.yaml import YAML

from stages.common import idx, raw
from stages.common.errors import StageError
from stages.download import folder
from stages.net import description, exact, inference
from stages.net.workers import Workers
from stages.train import fit, main
from stages.train.images import Images
from stages.train.processes import Processes
from stages.train.recipe import Recipe
from tests.conftest import PROJECT, Clone, Shared
from tests.steps import Unsaved
from tests.test_page import opened
from tools import dataset

DATASET = (sys.executable, "-m", "tools.dataset", "datasets/made")
DOWNLOAD, SPLIT = ((sys.executable, "-m", f"stages.{stage}") for stage in ("download", "split"))
ICONS = Path("/usr/share/icons/Tango/32x32")  # a folder for each kind of icon
COLOURS = {"blue": 2, "green": 1, "red": 0}


def made(clone: Clone, count: int = 100, side: int = 32) -> Path:
    """Make datasets/made in `clone`: three classes of noise, brighter in one colour; return its pictures."""
    place, random = clone.path / "datasets/made/pictures", np.random.RandomState(0)
    for name, channel in COLOURS.items():
        (place / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.randint(128, size=(side, side, 3)).astype(np.uint8)
            pixels[..., channel] += 64
            Image.fromarray(pixels).save(place / name / f"{number:03}.png")
    return place


def choose(clone: Clone, dataset: str) -> None:
    """Write `dataset` into params.yaml."""
    text = (clone.path / "params.yaml").read_text()
    (clone.path / "params.yaml").write_text(text.replace("dataset: mnist ", f"dataset: {dataset} "))


@pytest.fixture
def clone(origin: Clone, tmp_path: Path) -> Clone:
    """A fresh clone whose params choose the data set `made`."""
    clone = origin.clone(tmp_path / "clone")
    choose(clone, "made")
    return clone


def described(clone: Clone) -> dict[str, Any]:
    """Return what download says of the data set."""
    found: dict[str, Any] = json.loads((clone.path / raw.DESCRIPTION).read_text())
    return found


def arrays(clone: Clone, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of a part."""
    (images,) = (clone.path / raw.FOLDER).glob(f"{part}-images-*")
    return idx.read(images), idx.read(clone.path / raw.FOLDER / f"{part}-labels-idx1-ubyte")


def test_a_folder_of_three_classes_in_colour(clone: Clone) -> None:
    """The entry says shape and classes, the test part is drawn once and written down, the split is the known one."""
    place = made(clone)
    said = clone.run(*DATASET).stdout
    assert "300 pictures in 3 classes, used as 3 x 32 x 32\n  blue 100, green 100, red 100\n" in said
    assert "  in the test part: 60 pictures\n" in said
    entry = YAML(typ="safe").load((clone.path / "datasets/made/dataset.yaml").read_text())
    assert (entry["shape"], entry["classes"], entry["drawing"]) == ([3, 32, 32], ["blue", "green", "red"], "none")
    test = (clone.path / "datasets/made/test.txt").read_text()
    random = np.random.RandomState(0)  # NumPy's frozen generator draws 20 of each class, then 8 of the 80 others
    drawn = [f"{name}/{row:03}.png" for name in COLOURS for row in sorted(random.permutation(100)[:20])]
    assert test.splitlines() == drawn
    assert drawn[:3] == ["blue/002.png", "blue/007.png", "blue/008.png"]
    said = clone.run(*DATASET, "--seed", "1").stdout
    assert "  in the test part: 60 pictures, which were drawn before\n" in said
    assert (clone.path / "datasets/made/test.txt").read_text() == test
    clone.run(*DOWNLOAD)
    clone.run(*SPLIT)
    images, labels = arrays(clone, "train")
    names = [f"{name}/{number:03}.png" for name in COLOURS for number in range(100)]
    train = [name for name in names if name not in test.splitlines()]
    assert np.array_equal(images, np.stack([np.asarray(Image.open(place / name)) for name in train]))
    assert np.bincount(labels).tolist() == [80, 80, 80]
    rows = np.load(clone.path / "data/split/validation.npy")
    random = np.random.RandomState(0)
    known = [row for first in (0, 80, 160) for row in sorted(random.permutation(np.arange(first, first + 80))[:8])]
    assert rows.tolist() == known
    assert (clone.path / "plots/classes.csv").read_text() == (
        "class,train,validation,test\nblue,72,8,20\ngreen,72,8,20\nred,72,8,20\n"
    )


def test_the_order_of_the_classes_is_that_of_the_entry(clone: Clone) -> None:
    """If somebody orders the classes in dataset.yaml, each label keeps its name, and the command keeps the order."""
    made(clone)
    clone.run(*DATASET)
    clone.replace("datasets/made/dataset.yaml", "- blue\n- green\n- red\n", "- red\n- green\n- blue\n")
    entry = (clone.path / "datasets/made/dataset.yaml").read_text()
    clone.run(*DATASET)
    assert (clone.path / "datasets/made/dataset.yaml").read_text() == entry
    clone.run(*DOWNLOAD)
    assert described(clone)["classes"] == ["red", "green", "blue"]
    for part in ("train", "t10k"):
        images, labels = arrays(clone, part)
        brightest = [images[labels == label].mean((0, 1, 2)).argmax() for label in range(3)]
        assert brightest == [0, 1, 2]


def test_a_duplicate_goes_where_its_twin_goes(clone: Clone) -> None:
    """A picture that is twice in its class is drawn for the test part with its twin; in two groups it is refused."""
    place = made(clone)
    for number in range(100):
        (place / f"red/{number:03} again.png").write_bytes((place / f"red/{number:03}.png").read_bytes())
    said = clone.run(*DATASET).stdout
    assert "duplicates in their class, which are used once: 100\n  in the test part: 60 pictures" in said
    test = (clone.path / "datasets/made/test.txt").read_text().splitlines()
    assert len(test) == 80
    assert {name[:7] for name in test if name.endswith("again.png")} == {name[:7] for name in test if name[0] == "r"}
    clone.run(*DATASET)
    clone.run(*DOWNLOAD)
    assert [np.bincount(arrays(clone, part)[1]).tolist() for part in ("train", "t10k")] == [[80] * 3, [20] * 3]
    lines = [f"{path.relative_to(place)},{path.stem[2:]}" for path in sorted(place.glob("*/*.png"))]
    (clone.path / "datasets/made/groups.csv").write_text("\n".join(["file,group", *lines]) + "\n")
    (clone.path / "datasets/made/test.txt").unlink()
    failed = clone.run(*DATASET, status=1)
    assert "  the same picture in two groups (100): red/000 again.png = red/000.png, " in failed.stderr


def test_a_share_that_leaves_too_few_is_refused(clone: Clone) -> None:
    """A class needs one picture in the test part, and two to train on and to validate; a folder `test` does, too.

    Three pictures suffice: the default fractions leave one to each part.
    """
    place = made(clone, count=100)
    for number in range(3, 100):
        (place / f"blue/{number:03}.png").unlink()
    failed = clone.run(*DATASET, "--test", "0.5", status=1)
    assert failed.stderr == (
        "error: --test: got 0.5, which leaves 2 of 3 pictures of blue to the test part; expected one at least, and two"
        " for the training part\n"
    )
    assert sorted(path.name for path in place.parent.iterdir()) == ["pictures"]
    for command in (DATASET, DOWNLOAD, SPLIT):
        clone.run(*command)
    assert "\nblue,1,1,1\n" in (clone.path / "plots/classes.csv").read_text()
    (place.parent / "test.txt").unlink()
    for name in ("blue", "red"):
        (place / "test" / name).mkdir(parents=True)
        for number in (0, 1):
            (place / name / f"{number:03}.png").rename(place / "test" / name / f"{number:03}.png")
    failed = clone.run(*DATASET, status=1)
    assert failed.stderr.splitlines()[1:] == [
        "  a class without a picture in the test part, or with fewer than two in the training part (2): blue, green"
    ]


def test_groups_stay_together(clone: Clone) -> None:
    """With a groups.csv, no group is in two of training, validation and test part."""
    place = made(clone)
    groups = {f"{name}/{number:03}.png": f"camera {number % 20}" for name in COLOURS for number in range(100)}
    with (clone.path / "datasets/made/groups.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "group"), *groups.items()])
    clone.run(*DATASET)
    test = set((clone.path / "datasets/made/test.txt").read_text().splitlines())
    clone.replace("params.yaml", "method: stratified", "method: group")
    clone.run(*DOWNLOAD)
    clone.run(*SPLIT)
    assert json.loads((clone.path / "metrics/data.json").read_text())["shared_groups"] == 0
    train = [name for name in groups if name not in test]
    validation = {train[row] for row in np.load(clone.path / "data/split/validation.npy")}
    parts = [{groups[name] for name in part} for part in (test, validation, set(train) - validation)]
    assert [len(part) for part in parts] == [4, 2, 14]
    assert len(set.union(*parts)) == 20
    assert len(list(place.glob("*/*.png"))) == 300
    with (clone.path / "datasets/made/test.txt").open("a") as file:
        file.write(f"{train[0]}\n")
    fault = f"  a group of groups.csv in the training and in the test part (1): {groups[train[0]]}\n"
    assert fault in clone.run(*DOWNLOAD, status=1).stderr


@pytest.mark.parametrize(
    ("lines", "faults"),
    [
        (b"\xef\xbb\xbffile,group\nred/000.png,a", {}),  # as spreadsheets write UTF-8
        (b"file,group\nred/000.png,caf\xe9", {}),  # and Latin 1
        (b"file,group\nred/000.png", {"a picture without a group in groups.csv": ["red/000.png"]}),
        (b"name,group\nred/000.png,a", {"expected `file,group` as the first line": ["groups.csv (name,group)"]}),
        (b"file,of\nred/000.png,a", {"expected `file,group` as the first line": ["groups.csv (file,of)"]}),
        (b"file;group\r\nred/000.png;a", {"expected `file,group` as the first line": ["groups.csv (file;group)"]}),
        (b"file,group\n", {"a picture without a group in groups.csv": ["red/000.png"]}),
        (b"file,group\nred/000.png,a\nred/000.png,b", {"a picture in two groups of groups.csv": ["red/000.png"]}),
        (b"file,group\n" + 140_000 * b"a", {"cannot be read": ["groups.csv (field larger than field limit (131072))"]}),
    ],
)
def test_groups_as_spreadsheets_write_them(tmp_path: Path, lines: bytes, faults: dict[str, list[str]]) -> None:
    """A mark in front, or another encoding, is no fault; a picture without a group is."""
    pictures = tmp_path / "pictures"
    (pictures / "red").mkdir(parents=True)
    (pictures / "red/000.png").touch()
    (tmp_path / "groups.csv").write_bytes(lines)
    found = folder.listed(tmp_path, pictures).faults
    assert {kind: names for kind, names in found.items() if not kind.startswith("expected 2")} == faults


def test_what_belongs_to_no_class_is_named(tmp_path: Path) -> None:
    """A file or folder beside the classes, what DVC leaves out, a name that no list can have or that is there twice.

    Hidden files are nothing. A folder `test` that has no folders is a class.
    """
    pictures = tmp_path / "pictures"
    for name in (
        "cat/1.png",
        "cat/.trashed-1.png",
        "cat/a\nb.png",
        "cat/kitten/1.png",
        "test/1.PNG",
        "test/.a/1.png",
        ".git/1.png",
        "notes.txt",
    ):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        (pictures / name).touch()
    Path(os.fsdecode(bytes(pictures / "cat") + b"/caf\xe9.png")).touch()
    (pictures / "dog").symlink_to(pictures / "cat")
    (tmp_path / "test.txt").write_bytes(b"\xef\xbb\xbfcat/1.png\r\n\r\n")
    found = folder.listed(tmp_path, pictures)
    assert (found.classes, list(found.labels), found.test) == (
        ["cat", "test"],
        ["cat/1.png", "test/1.PNG"],
        {"cat/1.png"},
    )
    name = "a name with a control character, a line break, or bytes that are no UTF-8"
    assert {kind: names for kind, names in found.faults.items() if not kind.startswith("expected 2")} == {
        "not in a folder for a class": ["notes.txt"],
        "a folder in that of a class (only `train` and `test` have folders of classes)": ["cat/kitten"],
        "a folder that DVC leaves out: a link, *.tmp or __pycache__": ["dog"],
        name: [r"'cat/a\nb.png'", r"'cat/caf\udce9.png'"],
    }
    for name in ("train/cat/1.png", "test/cat/2.png", "val/cat/3.png"):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        (pictures / name).touch()
    beside = ["cat", "dog", "notes.txt", "test/1.PNG", "val"]
    assert folder.listed(tmp_path, pictures).faults["not in a folder for a class"] == beside
    (pictures / "test").rename(tmp_path / "elsewhere")
    (pictures / "test").symlink_to(tmp_path / "elsewhere")
    for name in ("caf\u00e9", "cafe\u0301", "a.tmp", "__pycache__"):
        (pictures / "train" / name).mkdir()
    faults = folder.listed(tmp_path, pictures).faults
    left_out = ["test", "train/__pycache__", "train/a.tmp"]
    assert faults["a folder that DVC leaves out: a link, *.tmp or __pycache__"] == left_out
    assert faults["two classes with one name, in two forms of Unicode"] == ["caf\u00e9"]


def test_the_name_of_a_data_set(clone: Clone) -> None:
    """Not that of a shipped data set, nor one that YAML or DVC takes for a number or a word or cannot read."""
    made(clone)
    for name, said in {
        "digits": "without a folder of pictures",
        "2024": "got '2024', expected a letter",
        "2024-13-45": "got '2024-13-45', expected a letter",
        "True": "none of true, false",
        "a b": "then letters",
        "été": "all of ASCII",
    }.items():
        place = clone.path / "datasets" / name
        place.mkdir(exist_ok=True)
        (clone.path / "datasets/made/pictures").rename(place / "pictures")
        assert said in clone.run(*DATASET[:-1], f"datasets/{name}", status=1).stderr
        (place / "pictures").rename(clone.path / "datasets/made/pictures")
    assert clone.run("git", "diff", "--stat", "--", "datasets").stdout == ""
    assert "no such folder" in clone.run(*DATASET[:-1], "datasets/nope", status=1).stderr
    (clone.path / "datasets/flat/cat").mkdir(parents=True)
    assert "datasets/flat/pictures/CLASS" in clone.run(*DATASET[:-1], "datasets/flat", status=1).stderr


@pytest.mark.parametrize(
    ("option", "values", "expected"),
    [
        ("size", (0, 65), "1 to 64 pixels"),
        ("test", (0.0, 1.0, float("nan")), "a share between 0 and 1"),
        ("seed", (-1, 2**32), "0 to 4294967295"),
    ],
)
def test_an_option_out_of_range_is_refused(option: str, values: tuple[float, ...], expected: str) -> None:
    """Before anything is read."""
    for value in values:
        options = {"name": None, "size": None, "test": 0.2, "seed": 0, option: value}
        with pytest.raises(StageError, match=rf"^--{option}: got {value}, expected {expected}$"):
            dataset.main(argparse.Namespace(folder=Path("nowhere"), **options))


def test_a_folder_elsewhere_is_copied(clone: Clone) -> None:
    """`data/own` becomes the data set `own`, without hidden files; nothing is written if it has a fault.

    It is copied once: the second time, the message says where to add pictures.
    """
    own, place = clone.path / "data/own", clone.path / "datasets/own"
    own.parent.mkdir()
    made(clone).rename(own)
    (own / "red/.hidden").touch()
    (own / "red/spoilt.png").touch()
    own_data = (*DATASET[:-1], "data/own")
    before = sorted((clone.path / "datasets").iterdir())
    assert "data/own: fix this\n  cannot be read (1): red/spoilt.png" in clone.run(*own_data, status=1).stderr
    assert sorted((clone.path / "datasets").iterdir()) == before
    (own / "red/spoilt.png").unlink()
    assert "got 'my own', expected a letter" in clone.run(*own_data, "--name", "my own", status=1).stderr
    said = clone.run(*own_data).stdout
    assert said.startswith("data/own: 300 pictures in 3 classes")
    assert "\n  copied to datasets/own/pictures\n" in said
    copied = sorted(path.relative_to(place / "pictures") for path in place.glob("pictures/**/*"))
    assert copied == sorted(path.relative_to(own) for path in own.glob("**/[!.]*"))
    assert sorted(path.name for path in place.iterdir()) == ["dataset.yaml", "pictures", "test.txt"]
    assert "datasets/own: is there already; to add pictures, copy them to" in clone.run(*own_data, status=1).stderr
    assert "datasets/mnist: is there already; for another" in clone.run(*own_data, "--name", "mnist", status=1).stderr
    (clone.path / "data/other").symlink_to(own)
    clone.run(*DATASET[:-1], "data/other")
    assert (clone.path / "datasets/other/test.txt").read_bytes() == (place / "test.txt").read_bytes()
    status = ("git", "status", "--short", "--untracked-files=all", "datasets")
    assert "pictures/" not in clone.run(*status).stdout  # git never gets them, not even after `git rm -r datasets/own`
    clone.run("dvc", "add", "datasets/own/pictures")
    assert "?? datasets/own/pictures.dvc\n" in clone.run(*status).stdout
    clone.replace("params.yaml", "dataset: made", "dataset: own")
    clone.run("dvc", "repro", "split")
    assert [np.bincount(arrays(clone, part)[1]).tolist() for part in ("train", "t10k")] == [[80] * 3, [20] * 3]


# The process ends in a call of {name} as if it was killed: nothing is tidied up
KILLED = """
import argparse, os, shutil
from pathlib import Path
from tools import dataset
{name} = lambda *_: os._exit(9)
dataset.main(argparse.Namespace(folder=Path("own"), name=None, size=None, test=0.2, seed=0))
"""


def test_a_data_set_is_made_as_a_whole_or_not(clone: Clone) -> None:
    """Killed while it copies the pictures or writes the lists, it leaves no data set that is half there.

    The next run removes what a killed one has left, which git ignores. The copy of a folder that nobody may write to
    can be written to.
    """
    own, place = clone.path / "own", clone.path / "datasets/own"
    made(clone).rename(own)
    place.with_name("made").rmdir()
    before = sorted((clone.path / "datasets").iterdir())
    for name in ("shutil.copyfile", "os.fsync"):
        clone.run(sys.executable, "-c", KILLED.format(name=name), status=9)
        (left,) = set((clone.path / "datasets").iterdir()) - set(before)
        assert left.name.startswith("own.")
        assert clone.run("git", "status", "--short", "datasets").stdout == ""
    folders = [*own.glob("*"), own]
    for of in folders:
        of.chmod(0o555)
    clone.run(*DATASET[:-1], "own")
    assert sorted((clone.path / "datasets").iterdir()) == sorted([*before, place])
    assert sorted(path.name for path in place.iterdir()) == ["dataset.yaml", "pictures", "test.txt"]
    assert {path.stat().st_mode & 0o200 for path in place.rglob("*")} == {0o200}
    for of in folders:
        of.chmod(0o755)  # so that pytest can remove them


def test_a_full_disk_leaves_no_data_set(clone: Clone) -> None:
    """The message names the data set, the file that there was no room for, and the reason; nothing is left."""
    made(clone).rename(clone.path / "own")
    alone, mount = ["unshare", "--map-root-user", "--mount", "sh", "-ec"], "mount -t tmpfs -o size=200k none datasets"
    if subprocess.run([*alone, mount], cwd=clone.path, capture_output=True).returncode:
        pytest.skip("needs user namespaces, to mount a small disk")
    command = " ".join(DATASET[:-1])
    failed = clone.run(*alone, f"{mount}; {command} own || ls -A datasets >&2; false", status=1)
    assert re.fullmatch(
        r"error: datasets/own: not made: \[Errno 28\] No space left on device: 'own/.+' -> 'datasets/own\..+'\n",
        failed.stderr,
    )


def test_a_data_set_stays_in_the_folder_of_data_sets(clone: Clone) -> None:
    """A NAME that is a path is refused. A folder `pictures` becomes a data set that can be looked at again, and copied.

    What DVC does not follow is refused: a link as the folder of the data set, or as its folder of pictures.
    """
    made(clone).rename(clone.path / "pictures")
    before = sorted(clone.path.rglob("*"))
    for name in ("../own", str(clone.path / "own"), "a/b", ""):
        said = clone.run(*DATASET[:-1], "pictures", "--name", name, status=1).stderr
        assert said.startswith(f"error: --name: got {name!r}, expected a letter")
    assert sorted(clone.path.rglob("*")) == before
    for again in ("pictures", "datasets/pictures", "datasets/pictures/pictures"):
        clone.run(*DATASET[:-1], again)
    clone.run(*DATASET[:-1], "datasets/pictures", "--name", "other")
    clone.run(*DATASET[:-1], "datasets/other/pictures")
    files = [
        sorted(path.relative_to(place) for path in place.rglob("*"))
        for place in (clone.path / "datasets/pictures", clone.path / "datasets/other")
    ]
    assert files[0] == files[1]
    (clone.path / "datasets/other").rename(clone.path / "other")
    (clone.path / "datasets/other").symlink_to(clone.path / "other")
    assert "is a link, which DVC does not follow" in clone.run(*DATASET[:-1], "datasets/other", status=1).stderr
    (clone.path / "datasets/made/pictures").symlink_to(clone.path / "pictures")
    assert "is a link, which DVC does not follow" in clone.run(*DATASET, status=1).stderr
    (clone.path / "datasets/made/pictures").unlink()
    assert "move the classes there, or `dvc pull` them" in clone.run(*DATASET, status=1).stderr


def test_a_folder_called_test_is_the_test_part(clone: Clone) -> None:
    """pictures/test/CLASS is the test part, nothing is drawn; a picture twice in its class and part is taken once."""
    place = made(clone)
    for name in COLOURS:
        (place / "test" / name).mkdir(parents=True)
        for number in range(30):
            (place / name / f"{number:03}.png").rename(place / "test" / name / f"{number:03}.png")
    (place / "red/twin.png").write_bytes((place / "red/050.png").read_bytes())
    said = clone.run(*DATASET).stdout
    assert "duplicates in their class, which are used once: 1\n  in the test part: 90 pictures" in said
    assert not (clone.path / "datasets/made/test.txt").exists()
    (clone.path / "datasets/made/test.txt").write_text("red/050.png\n")  # which the folder overrules
    clone.run(*DOWNLOAD)
    assert [np.bincount(arrays(clone, part)[1]).tolist() for part in ("train", "t10k")] == [[70] * 3, [30] * 3]


def spoil(place: Path) -> None:
    """Spoil the pictures in `place`, in each way that there is."""
    for number in range(7):
        (place / f"red/{number:03}.png").write_bytes(b"no picture")
    for number in (10, 11):
        (place / f"blue/{number:03}.png").write_bytes((place / f"green/{number:03}.png").read_bytes())
    (place / "red/link.png").symlink_to("gone.png")
    (place / "single").mkdir()
    for name in ("one", "two", "three"):
        Image.new("RGB", (32, 32), "white" if name == "one" else "black").save(place / f"single/{name}.jpg")
    (place / "red/notes.txt").write_text("mine")
    os.mkfifo(place / "red/pipe.png")


def test_each_fault_is_named_once_with_examples(clone: Clone) -> None:
    """Unreadable files, one picture under two classes, a class of two, other files: a line each; nothing is written."""
    place = made(clone)
    spoil(place)
    failed = clone.run(*DATASET, status=1)
    unread = ", ".join(f"red/{number:03}.png (no PNG or JPEG)" for number in range(5))
    assert failed.stderr.splitlines() == [
        "error: datasets/made/pictures: fix this",
        "  no file, or no PNG or JPEG by its name (3): red/link.png, red/notes.txt, red/pipe.png",
        "  the same picture under two classes (2): blue/010.png = green/010.png, blue/011.png = green/011.png",
        f"  cannot be read (7): {unread}, …",
        "  a class of fewer than 3 different pictures (1): single",
    ]
    assert sorted(path.name for path in place.parent.iterdir()) == ["pictures"]


def test_a_training_picture_in_the_test_part_is_refused(clone: Clone) -> None:
    """After the test part was written down, too: the stage download refuses what was changed since, and says what."""
    place = made(clone)
    clone.run(*DATASET)
    (place / "red/000.png").write_bytes((place / "red/002.png").read_bytes())
    (place / "red/001.png").unlink()
    (place / "yellow").mkdir()
    for number in (1, 2):
        Image.new("RGB", (32, 32), (255, 255, number)).save(place / f"yellow/{number}.png")
    test = clone.path / "datasets/made/test.txt"
    lines = [line for line in test.read_bytes().splitlines() if not line.startswith(b"blue")]
    test.write_bytes(b"\n".join([*lines, b"red/002.png", b"red/gone.png", b"caf\xe9.png"]))
    clone.replace("datasets/made/dataset.yaml", "- red\n", "- red\n- pink\n")
    failed = clone.run(*DOWNLOAD, status=1)
    assert failed.stderr.splitlines() == [
        "error: datasets/made/pictures: fix this",
        "  a line of test.txt that names no picture (2): caf\ufffd.png, red/gone.png",
        "  a class that is not both in dataset.yaml and in the folder; run `python -m tools.dataset` (2): pink, yellow",
        "  a training picture in the test part (1): red/000.png = red/002.png",
        "  a class without a picture in the test part, or with fewer than two in the training part; edit test.txt, or"
        " delete it for a new draw (1): blue",
        "  a class of fewer than 3 different pictures (1): yellow",
    ]
    test.unlink()
    said = "  no test part; run `python -m tools.dataset` (1): datasets/made\n"
    assert said in clone.run(*DOWNLOAD, status=1).stderr
    assert not (clone.path / "data").exists()


def test_what_is_no_folder_of_pictures_is_said(clone: Clone) -> None:
    """Too few pictures are refused; a data set that is none is answered with those that there are."""
    made(clone, count=10)
    failed = clone.run(*DATASET, status=1)
    assert "expected 200 to 200,000 pictures, in a folder for each class (1): 30" in failed.stderr
    failed = clone.run(*DOWNLOAD, status=1)
    names = "digits, emnist_letters, fashion_mnist, kmnist, mnist, qmnist"
    assert f"download.dataset: got 'made', expected one of {names};" in failed.stderr


def test_the_shape_follows_from_the_pictures(clone: Clone) -> None:
    """One size of up to 64 x 64 is kept; other sizes become 32 x 32 or --size; a grey picture in RGB is grey."""

    def shape(*arguments: str) -> tuple[list[int], str]:
        there = (clone.path / "datasets/made/dataset.yaml").is_file()
        said = clone.run(*DATASET, *arguments).stdout
        entry = YAML(typ="safe").load((clone.path / "datasets/made/dataset.yaml").read_text())
        kept = "" if not there or arguments else ", as dataset.yaml says (see --size)"
        assert f"used as {' x '.join(map(str, entry['shape']))}{kept}\n" in said
        return entry["shape"], entry["drawing"]

    place = made(clone, count=70, side=64)
    assert shape() == ([3, 64, 64], "none")
    Image.new("RGB", (65, 64)).save(place / "red/wide.png")
    assert shape("--size", "48") == ([3, 48, 48], "none")
    assert shape() == ([3, 48, 48], "none")
    (clone.path / "datasets/made/dataset.yaml").unlink()
    assert shape() == ([3, 32, 32], "none")
    (clone.path / "datasets/made/dataset.yaml").unlink()
    (place / "red/wide.png").unlink()
    for path in place.glob("*/*.png"):
        Image.open(path).convert("L").resize((30, 20)).convert("RGB").save(path)
    assert shape() == ([1, 20, 30], "plain")
    Image.new("RGB", (30, 20), "red").save(place / "red/000.png")
    assert shape("--size", "32") == ([3, 20, 30], "none")


def test_what_is_made_of_light_pictures_of_one_large_size(tmp_path: Path) -> None:
    """They are scaled down, and nobody can draw such; a class whose one group is not drawn has no test part."""
    lines = ["file,group"]
    for number in range(20):
        name = f"{'ab'[number % 2]}/{number}.png"
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (65, 9), 200).save(tmp_path / "pictures" / name)
        lines.append(f"{name},{'a' if name[0] == 'a' else number}")
    (tmp_path / "groups.csv").write_text("\n".join(lines))
    found = folder.listed(tmp_path, tmp_path / "pictures")
    assert dataset.shape_of(found, 32) == [1, 32, 32]
    dataset.write(found, tmp_path, [1, 9, 9], np.full((2, 9, 9), 200))
    assert "\ndrawing: none\n" in (tmp_path / "dataset.yaml").read_text()
    with pytest.raises(StageError, match=r"got 0\.2, which leaves 0 of 10 pictures of a to the test part"):
        dataset.drawn(found, list(found.labels), 0.2, 0)


@pytest.mark.parametrize(("classes", "message"), [(1, "2 to 100 classes (1): 1"), (101, "2 to 100 classes (1): 101")])
def test_the_number_of_classes_has_limits(clone: Clone, classes: int, message: str) -> None:
    """One class, and more than a hundred, are refused."""
    for number in range(303):
        path = clone.path / f"datasets/made/pictures/{number % classes}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number % 256).resize((8 + number // 256, 8)).save(path)
    assert message in clone.run(*DATASET, status=1).stderr


def test_pictures_of_any_kind_become_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The middle of a wide picture, scaled; grey of colour; transparent is white; 16 bits are refused.

    So are too many pixels; Pillow's limit is lower here.
    """
    wide = Image.new("RGB", (100, 50), "white")
    wide.paste((255, 0, 0), (10, 0, 90, 50))
    assert (folder.fitted(wide, [3, 8, 8]) == [255, 0, 0]).all()
    assert (folder.fitted(wide, [1, 8, 8]) == 76).all()
    assert (folder.fitted(wide, [1, 8, 16])[:, 8] == 76).all()
    assert folder.fitted(wide, [1, 8, 16])[0, 0] == 255

    def read(image: Image.Image) -> Image.Image:
        path = Path("picture.png")
        image.save(path)
        return folder.opened(path.read_bytes())

    assert read(Image.new("RGBA", (4, 4), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert read(Image.new("1", (4, 4))).mode == "L"
    with pytest.raises(ValueError, match="mode I;16, expected 8 bits a colour"):
        read(Image.fromarray(np.zeros((4, 4), dtype=np.uint16)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for side in (4, 5):  # up to twice the limit Pillow only warns
        with pytest.raises(folder.BROKEN, match="decompression bomb"):
            read(Image.new("L", (side, side)))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def served(tmp_path: Path) -> http.server.ThreadingHTTPServer:
    """Return a server of the files in `tmp_path`/mirror, which runs."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "mirror"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


# Rows of the files of the table, by their size: images, labels, and QMNIST's tables of eight columns
MADE = {784 * many + 16: many for many in (10_000, 20_800, 60_000, 124_800)}
MADE |= {many + 8: many for many in (10_000, 20_800, 60_000, 124_800)} | {32 * 60_000 + 12: 60_000}


def made_files(clone: Clone, dataset: str, mirror: Path) -> None:
    """Make files of the names and sizes of `dataset` in `mirror`, and write their digests into its entry."""
    path, yaml = clone.path / f"datasets/{dataset}/dataset.yaml", YAML()
    entry = yaml.load(path.read_text())
    mirror.mkdir()
    for kind, file in entry["files"].items():
        many = MADE[file["raw_bytes"]]
        if kind.endswith("images"):
            values = np.zeros((many, 28, 28), np.uint8)
            values[:, 0, :3] = np.arange(many)[:, None] >> [16, 8, 0]
            values[:, 0, 3] = kind.startswith("t10k")
            if file.get("transposed"):
                values = values.swapaxes(1, 2)
        else:
            values = (np.arange(many) % len(entry["classes"]) + file.get("first_label", 0)).astype(np.uint8)
            if "column" in file:
                values = np.stack([values, *7 * [np.arange(many) % 539]], axis=1).astype(np.int32)
        content = idx.encode(values)
        assert len(content) == file["raw_bytes"], kind
        packed = gzip.compress(content, 1, mtime=0)
        (mirror / f"{file['name']}.gz").write_bytes(packed)
        file["packed_sha256"] = hashlib.sha256(packed).hexdigest()
        file |= {"packed_bytes": len(packed), "raw_sha256": hashlib.sha256(content).hexdigest()}
    yaml.dump(entry, path)


@pytest.mark.parametrize(
    ("dataset", "names", "train", "test"),
    [
        ("emnist_letters", ["a", "b", "c", "d", "e"], 124_800, 20_800),
        ("fashion_mnist", ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"], 60_000, 10_000),
        ("kmnist", ["o", "ki", "su", "tsu", "na"], 60_000, 10_000),
        ("qmnist", ["0", "1", "2", "3", "4"], 60_000, 50_000),
    ],
)
def test_the_formats_of_the_table(
    origin: Clone, tmp_path: Path, dataset: str, names: list[str], train: int, test: int
) -> None:
    """Made files of the entry's names and sizes, from a server: the stages name the classes, and all images are there.

    Of QMNIST the test part is the rows from 10,000 on, and the writers come with `split.method=group`. EMNIST's images
    are turned upright, and its labels begin at 1.
    """
    clone = origin.clone(tmp_path / "clone")
    choose(clone, dataset)
    made_files(clone, dataset, tmp_path / "mirror")
    if dataset == "qmnist":
        clone.replace("params.yaml", "method: stratified", "method: group")
    server = served(tmp_path)
    environment = {"MNIST_MIRROR": f"http://127.0.0.1:{server.server_port}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    clone.run(*DOWNLOAD, **environment)
    server.shutdown()
    clone.run(*SPLIT)
    images, labels = arrays(clone, "t10k")
    assert images.shape == (test, 28, 28)
    assert labels[:3].tolist() == [0, 1, 2]
    row = 300 + (10_000 if dataset == "qmnist" else 0)
    assert images[300, 0, :4].tolist() == [0, *divmod(row, 256), 1]
    rows = list(csv.DictReader((clone.path / "plots/classes.csv").open()))
    assert [row["class"] for row in rows][:5] == names
    assert sum(int(row["train"]) + int(row["validation"]) for row in rows) == train
    assert described(clone)["classes"][:5] == names
    assert json.loads((clone.path / "metrics/data.json").read_text()).get("shared_groups") == (
        0 if dataset == "qmnist" else None
    )


def test_every_entry_is_complete() -> None:
    """Each entry with files says where their digests are from, and names mirrors; its test part fits its classes."""
    for path in PROJECT.glob("datasets/*/dataset.yaml"):
        entry = YAML(typ="safe").load(path.read_text())
        assert entry["digests"], path
        for file in entry.get("files", {}).values():
            assert file["mirrors"], path


COLOUR_MODEL = ["normalize", "conv 8 5 bias=false", "max_pool", "batch_norm", "relu", "conv 8 3", "linear classes"]


def in_colour(count: int = 96) -> fit.Data:
    """Return made images in colour, 24 high and 20 wide, of 3 classes."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 24, 20, 3), dtype=torch.uint8, generator=random)
    return fit.Data(images, torch.arange(count) % 3, torch.arange(64), torch.arange(64, count), classes=3)


def colour_recipe(**changes: Any) -> Recipe:
    """Return a recipe for these."""
    values = {"model": COLOUR_MODEL, "optimizer": "adamw", "learning_rate": 0.01, "schedule": "constant"}
    return Recipe(**{**values, "batch_size": 32, "shards": 4, "epochs": 2, "shift": 2, **changes})


def test_the_same_bits_on_any_number_of_threads() -> None:
    """Images in colour that are not square, with 1, 2 and 4 threads: the same weights and losses, bit for bit."""
    results = []
    for threads in (1, 2, 4):
        data = in_colour()
        chosen = main.fitted(colour_recipe(), Path("recipe"), data)
        with Processes(torch.device("cpu"), "") as processes, Workers(threads) as workers:
            net, curve = fit.fit(chosen, 0, data, workers, processes, Unsaved())
        results.append((exact.digest(net.state_dict()), curve.losses, curve.epochs))
    assert results[0] == results[1] == results[2]


def test_a_recipe_follows_from_the_data() -> None:
    """`normalize` alone takes mean and deviation of the training images; what does not fit is one message."""
    data = in_colour()
    pixels = data.images[:64].double() / 255
    expected = f"normalize {pixels.mean().item():.4f} {pixels.std(correction=0).item():.4f}"
    assert main.fitted(colour_recipe(), Path("r.yaml"), data).model[0] == expected
    with pytest.raises(StageError, match=r"expected a class .*; `nets\.normalize:Net`"):  # a name with the same word
        main.fitted(colour_recipe(model="nets.normalize:Net"), Path("r.yaml"), data)
    with pytest.raises(StageError) as error:
        main.fitted(colour_recipe(model=["conv 4 5", "linear 10"]), Path("r.yaml"), data)
    assert str(error.value) == (
        "r.yaml: does not fit images of 24 x 20 pixels, 3 to a pixel, in 3 classes\n  model: expected `linear classes` "
        "as the last layer, for 3 classes; what comes out has the shape (10, 1, 1)"
    )


def test_the_largest_images_and_the_most_classes() -> None:
    """64 x 64 pixels in colour and 100 classes: `fast` fits, and an epoch is trained."""
    images = torch.randint(256, (200, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = fit.Data(images, torch.arange(200) % 100, torch.arange(100), torch.arange(100, 200), classes=100)
    model = YAML(typ="safe").load((PROJECT / "recipes/fast.yaml").read_text())["model"]
    chosen = main.fitted(colour_recipe(model=model, epochs=1), Path("recipe"), data)
    with Processes(torch.device("cpu"), "") as processes, Workers(2) as workers:
        net, curve = fit.fit(chosen, 0, data, workers, processes, Unsaved())
        assert inference.predict(net, images[:2], workers).shape == (2, 100)
    assert len(curve.epochs) == 2


def test_images_in_colour_are_moved_as_a_whole() -> None:
    """Each window is the image moved, its colours together, zeros coming in; PyTorch's operations give the same."""
    images = torch.arange(2 * 24 * 20 * 3).remainder(251).reshape(2, 24, 20, 3).to(torch.uint8) + 1
    places = torch.tensor([[1, 2, 2], [0, 1, 2], [1, 4, 0]])
    pixels = Images(images, 2)(places)
    assert pixels.shape == (3, 3, 24, 20)
    expected = images.permute(0, 3, 1, 2) / 255
    assert torch.equal(pixels[0], expected[1])
    assert torch.equal(pixels[1, :, 1:], expected[0, :, :-1])
    assert not pixels[1, :, 0].any()
    assert torch.equal(pixels[2, :, :-2, 2:], expected[1, :, 2:, :-2])
    assert torch.equal(pixels, Images(images, 2).by_pytorch(places))
    net = description.build(["linear classes"], {}, (3, 24, 20), 3)
    assert net(pixels).shape == (3, 3)


@pytest.fixture(scope="session")
def photos(origin: Clone, shared: Shared) -> Clone:
    """A clone in which the pipeline has run on patches of two photographs in colour that scikit-learn ships."""

    def build(place: Path) -> None:
        from sklearn.datasets import load_sample_images

        clone = origin.clone(place / "project")
        for name, photo in zip(("china", "flower"), load_sample_images().images, strict=True):
            of = clone.path / "datasets/photos/pictures" / name
            of.mkdir(parents=True)
            for top in range(0, 416, 32):
                for left in range(0, 640, 32):
                    patch = Image.fromarray(photo[top : top + 32, left : left + 32])
                    patch.save(of / f"{top:03}_{left:03}.png")
        clone.run(sys.executable, "-m", "tools.dataset", "datasets/photos")
        clone.run("dvc", "add", "datasets/photos/pictures")
        clone.run("git", "add", "datasets/photos")
        clone.run("git", "commit", "--quiet", "--message", "photos")
        few = ("-S", "train.recipe=quick", "-S", "recipes/quick.yaml:batch_size=64")
        clone.run("dvc", "exp", "run", "-S", "download.dataset=photos", *few)
        clone.run("git", "commit", "--quiet", "--all", "--message", "trained")

    return shared("photos", build)


@pytest.mark.slow
def test_from_a_folder_to_the_page(photos: Clone, browser: Browser) -> None:
    """Two classes by name in metrics, tables and page; the page's net classifies each test picture as PyTorch did."""
    metrics = json.loads((photos.path / "metrics/evaluate.json").read_text())
    assert list(metrics["per_class"]) == ["china", "flower"]
    assert metrics["accuracy"] > 0.8
    rows = list(csv.DictReader((photos.path / "plots/predictions.csv").open()))
    assert {row["actual"] for row in rows} == {"china", "flower"}
    with opened(browser, photos) as tab:
        predicted = tab.evaluate(
            """() => Array.from(labels, (_, row) => {
            const logits = Array.from(forward(nets[0], imageAt(row)).at(-1).values);
            return NAMES[logits.indexOf(Math.max(...logits))]; })"""
        )
        assert predicted == [row["predicted"] for row in rows]
        assert tab.locator(".matrix button").count() == 4
        tab.locator(".matrix button.right").first.click()
        tab.locator("#digits button").first.click()
        assert "label china. Classified as labelled." in tab.locator("#about").inner_text()
        assert tab.locator("#clear").count() == 0


@pytest.mark.slow
@pytest.mark.skipif(not ICONS.is_dir(), reason="needs icons in colour: apt-get install tango-icon-theme")
def test_the_icons_of_a_package(origin: Clone, tmp_path: Path, browser: Browser) -> None:
    """Real pictures in nine classes, most of the files links to others, in a fresh clone with an empty cache.

    A class whose pictures are all the same is refused. Each duplicate is in the part of its twin. The net is right more
    often than one that always names the most frequent class, 14 of 43. The page has each class's name as a whole.
    """
    clone = origin.clone(tmp_path / "clone")
    place = clone.path / "datasets/icons/pictures"
    shutil.copytree(ICONS, place, symlinks=True)
    dataset = (*DATASET[:-1], "datasets/icons")
    failed = clone.run(*dataset, status=1)
    assert failed.stderr.endswith("fix this\n  a class of fewer than 3 different pictures (1): animations\n")
    shutil.rmtree(place / "animations")
    said = clone.run(*dataset).stdout
    assert "pictures: 214 pictures in 9 classes, used as 3 x 32 x 32\n  actions 69, apps 28, categories 12," in said
    assert "duplicates in their class, which are used once: 634\n  in the test part: 43 pictures" in said
    clone.run("dvc", "add", "datasets/icons/pictures")
    clone.run("git", "add", "datasets/icons")
    clone.run("git", "commit", "--quiet", "--message", "icons")
    clone.run("dvc", "exp", "run", "-S", "download.dataset=icons", "-S", "recipes/fast.yaml:batch_size=64")
    metrics = json.loads((clone.path / "metrics/evaluate.json").read_text())
    names = sorted(path.name for path in place.iterdir())
    assert list(metrics["per_class"]) == names
    assert metrics["accuracy"] > 14 / 43
    smile = clone.run(sys.executable, "-m", "tools.predict", str(place / "emotes/face-smile.png")).stdout
    assert smile.splitlines()[1].startswith("emotes")
    with opened(browser, clone) as tab:
        tab.set_viewport_size({"width": 390, "height": 800})
        heads = tab.locator(".matrix thead th.upright")
        assert heads.all_inner_texts() == names
        assert heads.evaluate_all("all => all.every((head) => head.scrollHeight <= head.clientHeight)")
        assert tab.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.slow
def test_the_likeliest_of_many_classes_is_seen(clone: Clone, browser: Browser) -> None:
    """With more than 12 classes the page's list of probabilities scrolls: the likeliest class is its first.

    The net gets each test image as it is, from a square whose side is no multiple of 48 by chance.
    """
    random = np.random.RandomState(0)
    for number in range(13 * 20):
        path = clone.path / f"datasets/made/pictures/tone {number % 13:02}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((random.randint(16, size=(48, 48)) + 18 * (number % 13)).astype(np.uint8)).save(path)
    clone.run(*DATASET)
    clone.replace("recipes/fast.yaml", "batch_size: 256", "batch_size: 64")
    clone.replace("recipes/fast.yaml", "min_steps: 100", "min_steps: 2")
    for stage in ("download", "split", "train", "evaluate", "report"):
        clone.run(sys.executable, "-m", f"stages.{stage}")
    with opened(browser, clone) as tab:
        same = """labels.every((_, row) => {
            drawing.row = row;
            redraw();
            return seen().image.every((value, at) => value === imageAt(row)[at]); })"""
        assert tab.evaluate(same)
        tab.locator(".matrix button:not(.right)", has_not_text="·").first.click()
        tab.locator("#digits button").first.click()
        shown = tab.locator("#bars li").evaluate_all(
            "all => all.map((bar) => [bar.getBoundingClientRect().top, bar.innerText]).sort((a, b) => a[0] - b[0])"
        )
        shares = [float(text.split()[-1].rstrip("%")) for _, text in shown]
        assert shares == sorted(shares, reverse=True)
        assert tab.locator("#answer").inner_text().startswith(" ".join(shown[0][1].split()[:2]))


@pytest.mark.slow
def test_predict_and_export_know_the_names(photos: Clone, tmp_path: Path) -> None:
    """A picture file is classified by name as evaluate did it; the ONNX file has the names."""
    import onnxruntime

    test = (photos.path / "datasets/photos/test.txt").read_text().splitlines()
    names = [f"datasets/photos/pictures/{name}" for name in test]
    said = json.loads(photos.run(sys.executable, "-m", "tools.predict", "--json", *names).stdout)
    rows = list(csv.DictReader((photos.path / "plots/predictions.csv").open()))
    assert [answer["class"] for answer in said] == [row["predicted"] for row in rows]
    clone = photos.copy(tmp_path / "clone")
    clone.run(sys.executable, "-m", "tools.export")
    session = onnxruntime.InferenceSession(clone.path / "model.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == ["china", "flower"]
    (logits,) = session.run(["logits"], {"images": arrays(photos, "t10k")[0]})
    assert [["china", "flower"][place] for place in logits.argmax(1)] == [row["predicted"] for row in rows]


@pytest.mark.slow
def test_compare_knows_the_names(photos: Clone, tmp_path: Path) -> None:
    """One picture of china that is misclassified in the workspace alone: so it says."""
    clone = photos.copy(tmp_path / "clone")
    predictions = clone.path / "plots/predictions.csv"
    predictions.write_text(predictions.read_text().replace("\nchina,china,", "\nchina,flower,", 1))
    errors = json.loads((clone.path / "metrics/evaluate.json").read_text())["errors"]
    clone.replace("metrics/evaluate.json", f'"errors": {errors}', f'"errors": {errors + 1}')
    clone.replace("metrics/train.json", '"weights_sha256": "', '"weights_sha256": "0')
    printed = clone.run(sys.executable, "-m", "tools.compare", "HEAD").stdout
    assert re.search(r"^their classes +china \(1\)$", printed, re.M)


@pytest.mark.slow
def test_a_new_picture_runs_the_stages_again_and_another_entry_none(photos: Clone, tmp_path: Path) -> None:
    """DVC sees a changed picture of the chosen set; an edit of another entry runs nothing."""
    clone = photos.copy(tmp_path / "clone")
    clone.replace("datasets/kmnist/dataset.yaml", "noun: character", "noun: sign")
    assert clone.repro() == []
    picture = clone.path / "datasets/photos/pictures/china/000_000.png"
    picture.unlink()
    Image.new("RGB", (32, 32), "blue").save(picture)
    assert "Running stage 'download'" in clone.run("dvc", "repro", "download").stdout

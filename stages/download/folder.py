"""A folder of one's own pictures, one folder for each class: its images as arrays, and what is wrong with it.

Beside the folder `pictures` may stand a `test.txt`, with a line for each picture of the test part, and a `groups.csv`,
which says in its columns `file` and `group` what belongs together. Both name pictures as CLASS/FILE.
"""

import csv
import hashlib
import io
import struct
import unicodedata
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from stages.common import raw
from stages.common.errors import StageError

SUFFIXES = (".png", ".jpg", ".jpeg")
FEWEST, MOST = 200, 200_000  # pictures
FEWEST_OF_CLASS = 3  # one each to train on, to validate and to test
EXAMPLES = 5  # of each kind of fault, at most, in a message
# What Pillow raises on broken files, most of it by accident
BROKEN = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)


@dataclass
class Folder:
    """What stands in a folder: classes, pictures by name, and faults, each kind with its examples."""

    place: Path  # the folder datasets/NAME, with the lists
    pictures: Path  # the folder with a folder for each class
    classes: list[str] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)  # of each picture, by its name, in the order of the names
    test: set[str] = field(default_factory=set)  # names of the pictures of the test part
    groups: dict[str, str] | None = None  # of each picture, by its name; None if there is no groups.csv
    twins: dict[str, str] = field(default_factory=dict)  # of a picture that is in its class and part before, that one
    faults: dict[str, list[str]] = field(default_factory=dict)

    def fault(self, kind: str, example: str) -> None:
        """Note that `example` is wrong."""
        self.faults.setdefault(kind, []).append(example)

    def refuse(self) -> None:
        """Raise StageError if anything is wrong: a line for each kind, with up to EXAMPLES."""
        if self.faults:
            lines = [
                f"{kind} ({len(found):,}): {', '.join(found[:EXAMPLES])}{', …' if len(found) > EXAMPLES else ''}"
                for kind, found in self.faults.items()
            ]
            raise StageError("\n  ".join([f"{self.pictures}: fix this", *lines]))


def listed(place: Path, pictures: Path) -> Folder:
    """Return what is in the folders `place` and `pictures`, by the names of the files alone."""
    found = Folder(place, pictures)
    roots = [(pictures, False)]
    if any(path.is_dir() for path in (pictures / "test").glob("[!.]*")):  # or else `test` is a class
        roots = [(pictures / "train" if (pictures / "train").is_dir() else pictures, False), (pictures / "test", True)]
    _find_classes(found, {root for root, _ in roots})
    for root, is_test in roots:
        for label, name in enumerate(found.classes):
            for path in sorted((root / name).glob("[!.]*")):
                of = path.relative_to(pictures).as_posix()
                if not raw.is_name(of):
                    found.fault("a name with a control character, a line break, or bytes that are no UTF-8", ascii(of))
                elif path.suffix.lower() not in SUFFIXES or not path.is_file():  # a pipe would be waited for
                    inside = "a folder in that of a class (only `train` and `test` have folders of classes)"
                    found.fault(inside if path.is_dir() else "no file, or no PNG or JPEG by its name", of)
                else:
                    found.labels[of] = label
                    if is_test:
                        found.test.add(of)
    if len(roots) == 1 and (place / "test.txt").is_file():
        lines = (place / "test.txt").read_text("utf-8-sig", errors="replace").splitlines()
        found.test = set(filter(None, lines))
        for name in sorted(found.test - set(found.labels)):
            found.fault("a line of test.txt that names no picture", name)
    _read_groups(found)
    if not FEWEST <= len(found.labels) <= MOST:
        found.fault(f"expected {FEWEST:,} to {MOST:,} pictures, in a folder for each class", f"{len(found.labels):,}")
    if not 2 <= len(found.classes) <= 100:
        found.fault("expected 2 to 100 classes", f"{len(found.classes)}")
    return found


def _find_classes(found: Folder, roots: set[Path]) -> None:
    """Note as classes the folders in `roots`, and as faults what else is there or beside them."""
    pictures = found.pictures
    inside = {path for root in {pictures, *roots} if root.is_dir() for path in root.glob("[!.]*")}
    for path in sorted((inside | roots) - {pictures}):
        of = path.relative_to(pictures).as_posix()
        if path not in roots and (path.parent not in roots or not path.is_dir()):
            found.fault("not in a folder for a class", of)
        elif path.is_symlink() or path.suffix == ".tmp" or path.name == "__pycache__":  # see .dvcignore
            found.fault("a folder that DVC leaves out: a link, *.tmp or __pycache__", of)
        elif path not in roots:
            found.classes = sorted({*found.classes, path.name})
    for name, count in Counter(unicodedata.normalize("NFC", name) for name in found.classes).items():
        if count > 1:  # such as that of a Mac and that of another system
            found.fault("two classes with one name, in two forms of Unicode", name)


def _read_groups(found: Folder) -> None:
    path = found.place / "groups.csv"
    if not path.is_file():
        return
    try:  # utf-8-sig: spreadsheets write a mark in front
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = list(csv.DictReader(file))
    except csv.Error as error:
        found.fault("cannot be read", f"groups.csv ({error})")
        return
    if rows and not {"file", "group"} <= set(rows[0]):
        found.fault("expected `file,group` as the first line", f"groups.csv ({','.join(filter(None, rows[0]))})")
        return
    found.groups = {}
    for row in rows:
        if row["group"] and found.groups.setdefault(row["file"], row["group"]) != row["group"]:
            found.fault("a picture in two groups of groups.csv", row["file"])
    for name in sorted(found.labels.keys() - found.groups.keys()):
        found.fault("a picture without a group in groups.csv", name)
    in_test = {found.groups.get(name) for name in found.test}
    for group in sorted({found.groups.get(name, "") for name in found.labels.keys() - found.test} & in_test):
        found.fault("a group of groups.csv in the training and in the test part", group)


def arrays(place: Path, data: raw.Description) -> dict[str, np.ndarray]:
    """Return the pictures in the folder `place` as images and labels of both parts, and the groups if they are known.

    A picture that is in its class and part twice is taken once. Raises StageError, which names all that is wrong.
    """
    found = listed(place, place / "pictures")
    if not found.test:
        found.fault("no test part; run `python -m tools.dataset`", place.as_posix())
    for name in sorted(set(found.classes) ^ set(data.classes)):
        found.fault("a class that is not both in dataset.yaml and in the folder; run `python -m tools.dataset`", name)
    names, images = read_all(found, data.shape)
    found.refuse()
    order = [data.classes.index(name) for name in found.classes]  # whoever edits dataset.yaml may order the classes
    labels = np.array([order[found.labels[name]] for name in names], dtype=np.uint8)
    middle = sum(name not in found.test for name in names)
    made: dict[str, np.ndarray] = {}
    for part, rows in (("train", slice(middle)), ("t10k", slice(middle, None))):
        made |= {f"{part}-images": images[rows], f"{part}-labels": labels[rows]}  # parts of the one array, no copies
    if found.groups is not None:
        numbers = {group: number for number, group in enumerate(sorted(set(found.groups.values())))}
        made["train-groups"] = np.array([numbers[found.groups[name]] for name in names[:middle]], dtype=np.int32)
    return made


def read_all(found: Folder, shape: list[int]) -> tuple[list[str], np.ndarray]:
    """Return the names of the pictures that are read, those of the test part last, and their images (n, H, W[, 3]).

    Notes as a fault what cannot be read, and what is twice where it may not be.
    """
    names: list[str] = []
    images = np.zeros((len(found.labels), *raw.array_shape(shape)), dtype=np.uint8)
    first: dict[bytes, str] = {}
    for name in tqdm(sorted(found.labels, key=found.test.__contains__), "read", leave=False, disable=None):
        label = found.labels[name]
        try:
            image = fitted(opened((found.pictures / name).read_bytes()), shape)
        except BROKEN as error:
            why = getattr(error, "strerror", None) or str(error) or "broken"
            found.fault("cannot be read", f"{name} ({why.splitlines()[0]})")
            continue
        twin = first.setdefault(hashlib.sha256(image.tobytes()).digest(), name)
        if twin == name:
            images[len(names)] = image
            names.append(name)
        elif found.labels[twin] != label:
            found.fault("the same picture under two classes", f"{twin} = {name}")
        elif (twin in found.test) != (name in found.test):
            found.fault("a training picture in the test part", f"{twin} = {name}")
        elif found.groups is not None and found.groups.get(twin) != found.groups.get(name):
            found.fault("the same picture in two groups", f"{twin} = {name}")
        else:
            found.twins[name] = twin
    _check_classes(found, names)
    return names, images[: len(names)]


def _check_classes(found: Folder, names: list[str]) -> None:
    counts = Counter((found.labels[name], name in found.test) for name in names)
    for label, name in enumerate(found.classes):
        train, test = counts[label, False], counts[label, True]
        if train + test < FEWEST_OF_CLASS:
            found.fault(f"a class of fewer than {FEWEST_OF_CLASS} different pictures", name)
        elif found.test and (train < FEWEST_OF_CLASS - 1 or not test):
            advice = "; edit test.txt, or delete it for a new draw" if (found.place / "test.txt").is_file() else ""
            few = "a class without a picture in the test part, or with fewer than two in the training part"
            found.fault(few + advice, name)


def opened(content: bytes) -> Image.Image:
    """Return the picture in `content`, upright, without transparency, in grey or RGB. Raises one of BROKEN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = ImageOps.exif_transpose(Image.open(io.BytesIO(content), formats=("PNG", "JPEG")))
        except UnidentifiedImageError:
            raise ValueError("no PNG or JPEG") from None
        if image.mode[0] in "IF":
            raise ValueError(f"mode {image.mode}, expected 8 bits a colour")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("L" if image.mode in ("1", "L") else "RGB")


def fitted(image: Image.Image, shape: list[int]) -> np.ndarray:
    """Return `image` as bytes of `shape` (channels, height, width): its middle, scaled by Pillow in whole numbers."""
    colour = image.convert("L" if shape[0] == 1 else "RGB")
    return np.asarray(ImageOps.fit(colour, (shape[2], shape[1]), Image.Resampling.BICUBIC))

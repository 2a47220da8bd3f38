"""Look at a folder of your own pictures, say what it has, and make a data set of it.

    python -m tools.dataset FOLDER

The pictures, PNG or JPEG, are in FOLDER/CLASS. They are copied to datasets/NAME/pictures/CLASS. If FOLDER is
datasets/NAME itself, its pictures are looked at again. The test part is the folder pictures/test/CLASS if there is one.
Otherwise a share of each class is drawn at random, once, and written to datasets/NAME/test.txt; with a
datasets/NAME/groups.csv (columns: file, group) whole groups are drawn. The entry is datasets/NAME/dataset.yaml: edit
what it says of the data. The size is that of the pictures if all have one of up to 64 x 64 pixels, or else --size.
"""

import argparse
from pathlib import Path

from stages.common import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command line takes."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="has a folder of pictures for each class")
    parser.add_argument("--name", help="name of the data set (default: that of the folder)")
    size = "pixels a side, for pictures of other sizes (default: 32, or the shape in dataset.yaml)"
    parser.add_argument("--size", type=int, help=size)
    parser.add_argument("--test", type=float, default=0.2, help="share of pictures for the test part (default: 0.2)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the test part (default: 0)")


if __name__ == "__main__":
    command.run_tool("dataset", __doc__, add_arguments)

import io
import os
import platform
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from tqdm import tqdm

from stages.common import errors, files, raw
from stages.download import entry, folder
from stages.split import main as split

WORDS = ("true", "false", "null", "nan", "inf")  # what YAML or `dvc exp run -S` takes for no name


def main(arguments: argparse.Namespace) -> None:
    """Look at the folder that the command line names, and write its entry."""
    size = 32 if arguments.size is None else arguments.size
    if not 1 <= size <= raw.LARGEST_SIDE:
        raise errors.StageError(f"--size: got {size}, expected 1 to {raw.LARGEST_SIDE} pixels")
    if not 0 < arguments.test < 1:
        raise errors.StageError(f"--test: got {arguments.test}, expected a share between 0 and 1")
    if not 0 <= arguments.seed < 2**32:
        raise errors.StageError(f"--seed: got {arguments.seed}, expected 0 to {2**32 - 1}")
    place, pictures = places(arguments.folder, arguments.name)
    found = folder.listed(place, pictures)
    known = entry.load(place.name) if entry.path(place.name).is_file() else None
    if known and not known.pictures:
        raise errors.StageError(f"{place}: a data set without a folder of pictures; choose another --name")
    kept = known is not None and arguments.size is None
    shape = known.shape if known and kept else shape_of(found, size)
    names, images = folder.read_all(found, shape)
    found.refuse()
    counts = Counter(found.classes[found.labels[name]] for name in names)
    used = " x ".join(map(str, shape)) + (", as dataset.yaml says (see --size)" if kept else "")
    print(f"{pictures}: {len(names):,} pictures in {len(counts)} classes, used as {used}")
    print("  " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    if found.twins:
        print(f"  duplicates in their class, which are used once: {len(found.twins):,}")
    before = ", which were drawn before" if (place / "test.txt").is_file() and found.test else ""
    if is_drawn := not found.test:
        found.test = drawn(found, names, arguments.test, arguments.seed)
        found.test |= {name for name, twin in found.twins.items() if twin in found.test}
    with whole(place) as home:
        if pictures != place / "pictures":
            copy(found, home / "pictures")
        if is_drawn:
            files.write_whole(home / "test.txt", "".join(f"{name}\n" for name in sorted(found.test)).encode())
        write(found, home, shape, images)
    print(f"  in the test part: {sum(name in found.test for name in names):,} pictures{before}")
    if pictures != place / "pictures":
        print(f"  copied to {place / 'pictures'}")
    print(f"{entry.path(place.name)}: say there what the data are. Then\n  dvc add {place / 'pictures'}")
    print(f"  git add {place} && git commit --message 'Data: {place.name}'")
    print(f"  dvc exp run -S download.dataset={place.name}")


def places(given: Path, name: str | None) -> tuple[Path, Path]:
    """Return the folder datasets/NAME, and the folder of pictures: `given`, or, if that is the first, its `pictures`.

    Raises StageError if there is no such folder, or if NAME, which is `name` or that of the folder, cannot be used.
    """
    if not given.is_dir():
        raise errors.StageError(f"{given}: no such folder; expected one with a folder of pictures for each class")
    whole, home = given.resolve(), entry.FOLDER.resolve()
    if given.name == "pictures" and whole.parent != home:
        whole = given.parent.resolve()
    is_entry = whole.parent == home
    own = whole.name if is_entry else (given if given.is_symlink() else given.resolve()).name
    name = own if name is None else name
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", name) or name.lower() in WORDS:
        raise errors.StageError(
            f"--name: got {name!r}, expected a letter, then letters, digits, - and _, all of ASCII, as DVC wants them,"
            f" and none of {', '.join(WORDS)}"
        )
    place, pictures = entry.FOLDER / name, entry.FOLDER / own / "pictures" if is_entry else given
    if place.is_symlink() or (place / "pictures").is_symlink():
        raise errors.StageError(
            f"{place}: it, or its folder pictures, is a link, which DVC does not follow; remove the link, and give the"
            " folder itself, whose pictures are copied"
        )
    if not pictures.is_dir():
        raise errors.StageError(
            f"{given}: expected the pictures in {pictures}/CLASS; move the classes there, or `dvc pull` them"
        )
    if place.exists() and pictures != place / "pictures":
        more = f"; to add pictures, copy them to {place}/pictures and run `python -m tools.dataset {place}`"
        more = more if (place / "pictures").is_dir() else ""
        raise errors.StageError(f"{place}: is there already{more}; for another data set, give another --name")
    return place, pictures


@contextmanager
def whole(place: Path) -> Iterator[Path]:
    """Give the folder `place`, or a new one to fill, which becomes `place` at the end: all of it or nothing.

    What a killed run has left is removed by the next one. Raises StageError if the new one cannot be made.
    """
    if place.exists():
        yield place
        return
    files.remove_stale(place.parent)
    mine = f".{platform.node()}.{os.getpid()}.tmp"  # as files.write_whole has it; git and DVC ignore it
    with tempfile.TemporaryDirectory(mine, f"{place.name}.", place.parent) as made:
        new = Path(made, place.name)
        try:
            new.mkdir()
            yield new
            new.rename(place)
        except OSError as error:
            raise errors.StageError(f"{place}: not made: {error}") from None


def copy(found: folder.Folder, pictures: Path) -> None:
    """Copy the pictures that were `found`, and nothing else, to the new folder `pictures`, where the user may write."""
    for name in tqdm(found.labels, "copy", leave=False, disable=None):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found.pictures / name, pictures / name)


def shape_of(found: folder.Folder, size: int) -> list[int]:
    """Return channels, height and width for the pictures that were `found`: their own, or `size` a side.

    Notes nothing of what cannot be read: folder.read_all does.
    """
    sizes, colour = set(), False
    for name in tqdm(found.labels, "look", leave=False, disable=None):
        try:
            image = folder.opened((found.pictures / name).read_bytes())
        except folder.BROKEN:
            continue
        sizes.add(image.size)
        colour = colour or (image.mode == "RGB" and bool(np.ptp(np.asarray(image), axis=2).any()))
    own = sizes.pop() if len(sizes) == 1 else (size, size)
    width, height = own if max(own) <= raw.LARGEST_SIDE else (size, size)
    return [3 if colour else 1, height, width]


def drawn(found: folder.Folder, names: list[str], share: float, seed: int) -> set[str]:
    """Return which of the pictures `names` are for the test: `share` of each class; whole groups if there are some."""
    random, labels = np.random.RandomState(seed), np.array([found.labels[name] for name in names])
    if found.groups is None:
        chosen = split.stratified(labels, share, random)
    else:
        groups = np.unique([found.groups[name] for name in names], return_inverse=True)[1]
        chosen = split.by_group(labels, groups, share, random)
    for label, name in enumerate(found.classes):
        of = chosen[labels == label]
        if not of.any() or (~of).sum() < 2:
            raise errors.StageError(
                f"--test: got {share}, which leaves {of.sum()} of {len(of)} pictures of {name} to the test part;"
                " expected one at least, and two for the training part"
            )
    return {name for name, is_test in zip(names, chosen, strict=True) if is_test}


def write(found: folder.Folder, home: Path, shape: list[int], images: np.ndarray) -> None:
    """Write the entry in `home` of what was `found`; of one that is there, only what follows from the pictures."""
    path = home / "dataset.yaml"
    yaml, text = YAML(), io.StringIO()
    yaml.width = 120
    # ink on black paper can be drawn on the page; so can no photograph
    dark = shape[0] == 1 and images.mean() < 255 / 2
    values: dict[str, Any] = {
        "title": found.place.name,
        "about": f"Pictures of {len(found.classes)} classes.",
        "missing": "",
        "source": "unknown",
        "licence": "unknown",
        "drawing": "plain" if dark else "none",
        "pictures": "pictures",
    }
    if path.is_file():
        values = yaml.load(path.read_text(encoding="utf-8"))
    values |= {"shape": shape} | ({"drawing": "none"} if shape[0] == 3 else {})
    if sorted(values.get("classes", [])) != found.classes:  # or else their order is the user's
        values["classes"] = found.classes
    yaml.dump(values, text)
    files.write_whole(path, text.getvalue().encode())

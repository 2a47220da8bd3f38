"""Put the raw data set into data/raw, where torchvision's own MNIST class looks for it.

    python -m stages.download

`download.dataset` in params.yaml names an entry, datasets/NAME/dataset.yaml. The entry says where the images come
from:
  files     IDX files, from the user's cache, from MNIST_MIRROR (an environment variable: a folder or a base URL) or
            from a public mirror; every file is checked against its size and SHA-256. Where `split.method` is `group`,
            the file that says who wrote each image comes with them;
  package   the 1,797 digits that ship inside scikit-learn, converted to MNIST's format: needs no network;
  pictures  a folder of PNG and JPEG files for each class, beside the entry: see docs/own-data.md.
"""

import numpy as np
import platformdirs

from stages.common import files, idx, raw, settings
from stages.common.errors import StageError, listed
from stages.download import digit, entry, folder, mirrors

# scikit-learn's digits come writer after writer: most of the last 500 are by hands that the first 1,297 are not.
DIGITS_TEST = 500
TYPES = {"u": "ubyte", "i": "int"}  # in the name of an IDX file, by NumPy's kind
Arrays = dict[str, np.ndarray]  # by what they are: "train-images", "train-labels", "t10k-images", …


class Download(settings.Settings):
    """The section `download` of params.yaml."""

    dataset: str


def main() -> None:
    """Write the data set's IDX files, and its description."""
    name = settings.load(Download, "download").dataset
    with_groups = settings.value("split.method") == "group"
    chosen = entry.load(name)
    if chosen.package:
        arrays = digits()
    elif chosen.pictures:
        arrays = folder.arrays(entry.path(name).parent, chosen)
    else:
        arrays = from_mirrors(name, chosen, with_groups)
    check(arrays, chosen)
    contents = {f"{kind}-idx{values.ndim}-{TYPES[values.dtype.kind]}": values for kind, values in arrays.items()}
    for other in raw.FOLDER.glob("*"):
        if other.is_file() and other.name not in contents:
            other.unlink()  # of another data set, where DVC did not remove it before
    for file, values in contents.items():
        files.write_whole(raw.FOLDER / file, idx.encode(values))
    files.write_json(raw.DESCRIPTION, chosen.model_dump(include=set(raw.Description.model_fields)))
    sizes = [len(arrays[f"{part}-labels"]) for part in ("train", "t10k")]
    print(f"{raw.FOLDER}: {name}, {sizes[0]:,} training and {sizes[1]:,} test images")


def from_mirrors(name: str, chosen: entry.Entry, with_groups: bool) -> Arrays:
    """Return what the files of `chosen`, the entry called `name`, hold; the groups only if they are asked for."""
    wanted = {kind: file for kind, file in chosen.files.items() if with_groups or kind != "train-groups"}
    found = mirrors.collect(list(wanted.values()), platformdirs.user_cache_path("mnist-pipeline") / name)
    arrays: Arrays = {}
    for (kind, file), content in zip(wanted.items(), found, strict=True):
        values = idx.decode(content, file.name)[file.from_row :]
        if file.column is not None:
            if values.ndim != 2 or file.column >= values.shape[1]:
                raise StageError(f"{file.name}: expected a table with column {file.column}; got {values.shape}")
            values = values[:, file.column].astype(np.uint8 if kind.endswith("labels") else np.int32)
        if file.transposed:
            values = values.swapaxes(1, 2)
        arrays[kind] = values if file.first_label == 0 else values - np.uint8(file.first_label)
    return arrays


def check(arrays: Arrays, data: raw.Description) -> None:
    """Raise StageError unless images and labels fit together: of the shape of `data`, a label each, of its classes."""
    for part in ("train", "t10k"):
        images, labels = arrays[f"{part}-images"], arrays[f"{part}-labels"]
        shape = (len(labels), *raw.array_shape(data.shape))
        if images.shape != shape or labels.ndim != 1:
            raise StageError(
                f"{part}: images {images.shape} and labels {labels.shape} do not fit together; expected images {shape}"
            )
        there, known = set(labels.tolist()), set(range(len(data.classes)))
        if unknown := sorted(there - known):
            raise StageError(f"{part}: labels without a name: {listed(unknown)}; expected 0 to {len(known) - 1}")
        if missing := sorted(known - there):
            named = listed([data.classes[label] for label in missing])
            raise StageError(f"{part}: no image of {named}; expected one of each class")
    if wrong := [row for row in data.mislabelled if row >= len(arrays["t10k-labels"])]:
        raise StageError(f"mislabelled: no such rows of the test part: {listed(wrong)}")


def digits() -> Arrays:
    """Return scikit-learn's digits in MNIST's format: the last 500 are the test part."""
    from sklearn.datasets import load_digits  # costs seconds, and the other data sets do not need it

    images, labels = load_digits(return_X_y=True)
    pixels = np.stack([digit.as_mnist(image.reshape(8, 8)) for image in images])
    labels = labels.astype(np.uint8)
    return {
        "train-images": pixels[:-DIGITS_TEST],
        "train-labels": labels[:-DIGITS_TEST],
        "t10k-images": pixels[-DIGITS_TEST:],
        "t10k-labels": labels[-DIGITS_TEST:],
    }

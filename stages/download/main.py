"""Put the raw data set into data/raw, where torchvision's own MNIST class looks for it.

    python -m stages.download

`download.dataset` in params.yaml says which one:
  mnist   the 70,000 digits of LeCun, Cortes and Burges, from the user's cache, from MNIST_MIRROR (an environment
          variable: a folder or a base URL) or from a public mirror; every file is checked against its size and SHA-256.
          Where `split.method` is `writer`, QMNIST's labels, which say who wrote each digit, come with it.
  digits  the 1,797 digits that ship inside scikit-learn, brought to MNIST's format: needs no network.
"""

from typing import Literal

import numpy as np

from stages.common import errors, files, idx, raw, settings
from stages.download import digit
from stages.download.mirrors import File, collect

MNIST = {
    "train-images-idx3-ubyte": File(
        9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": File(
        28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": File(
        1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": File(
        4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}  # fmt: skip
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
# Who wrote each digit of MNIST's training set (Yadav and Bottou 2019)
WRITERS = {
    "qmnist-train-labels-idx2-int": File(
        463_024, "2c05dc77f6b916b38e455e97ab129a42a444f3dbef09b278a366f82904e0dd9f",
        1_920_012, "bb1b6e1ec7b04fd5696f1ed50b5f58f8ef195118edd5c93c81783df9740b8ac5",
    ),
}  # fmt: skip
WRITERS_MIRRORS = ("https://raw.githubusercontent.com/facebookresearch/qmnist/master",)
# scikit-learn's digits come writer after writer: most of the last 500 are by hands that the first 1,297 are not.
DIGITS_TEST = 500


class Download(settings.Settings):
    """The section `download` of params.yaml."""

    dataset: Literal["mnist", "digits"]


def main() -> None:
    """Write the data set's IDX files."""
    dataset = settings.load(Download, "download").dataset
    with_writers = settings.value("split.method") == "writer"
    if dataset == "digits":
        contents = digits()
    else:
        contents = collect(MNIST, MNIST_MIRRORS) | (collect(WRITERS, WRITERS_MIRRORS) if with_writers else {})
    check(contents)
    for name, content in contents.items():
        files.write_whole(raw.FOLDER / name, content)
    print(f"{raw.FOLDER}: {dataset}, {len(raw.labels('train')):,} training and {len(raw.labels('t10k')):,} test images")


def check(contents: dict[str, bytes]) -> None:
    """Raise StageError unless the images and labels in `contents` fit together: 28 x 28, a label each, of 0 to 9."""
    for part in ("train", "t10k"):
        images, labels = (
            idx.decode(contents[name], name) for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
        )
        if images.shape != (len(labels), 28, 28) or labels.ndim != 1:
            raise errors.StageError(f"{part}: images {images.shape} and labels {labels.shape} do not fit together")
        if sorted(set(labels.tolist())) != list(range(raw.CLASSES)):
            raise errors.StageError(f"{part}: labels {sorted(set(labels.tolist()))}; expected each of 0 to 9")


def digits() -> dict[str, bytes]:
    """Return scikit-learn's digits as MNIST's four files, by name: the last 500 are the test part."""
    from sklearn.datasets import load_digits  # costs seconds, and `mnist` does not need it

    images, labels = load_digits(return_X_y=True)
    pixels = np.stack([digit.as_mnist(image.reshape(8, 8)) for image in images])
    labels = labels.astype(np.uint8)
    return {
        "train-images-idx3-ubyte": idx.encode(pixels[:-DIGITS_TEST]),
        "train-labels-idx1-ubyte": idx.encode(labels[:-DIGITS_TEST]),
        "t10k-images-idx3-ubyte": idx.encode(pixels[-DIGITS_TEST:]),
        "t10k-labels-idx1-ubyte": idx.encode(labels[-DIGITS_TEST:]),
    }

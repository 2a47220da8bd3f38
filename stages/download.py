"""Put the raw data set into data/raw, where torchvision's own MNIST class looks for it.

    python -m stages.download

`download.dataset` in params.yaml says which one:
  mnist   the 70,000 digits of LeCun, Cortes and Burges, from the user's cache, from MNIST_MIRROR (an environment
          variable: a folder or a base URL) or from a public mirror; every file is held to its SHA-256.
  digits  the 1,797 digits that ship inside scikit-learn, brought to MNIST's format: needs no network.
"""

import gzip
import os
import shutil
import sys
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
import pooch
from requests.exceptions import HTTPError, RequestException

from stages.common import command, digit, errors, files, idx, settings

RAW = Path("data/raw/MNIST/raw")
# SHA-256 of the files as the mirrors serve them: packed by gzip, `.gz` behind the name.
SHA256 = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
CONNECT_SECONDS, READ_SECONDS = 5, 10
# scikit-learn's digits come writer after writer: most of the last 500 are by hands that the first 1,297 are not.
DIGITS_TEST = 500


class Download(settings.Settings):
    """The section `download` of params.yaml."""

    dataset: Literal["mnist", "digits"]


def main() -> None:
    """Write the data set's four IDX files."""
    dataset = settings.load("download", Download).dataset
    parts = mnist() if dataset == "mnist" else digits()
    for name, content in parts.items():
        files.write_whole(RAW / name, content)


def mnist() -> dict[str, bytes]:
    """Return MNIST's four files, unpacked, by name."""
    own = os.environ.get("MNIST_MIRROR")
    mirrors = [own.rstrip("/"), *MIRRORS] if own else list(MIRRORS)
    cache = pooch.os_cache("mnist-pipeline")
    return {
        name: gzip.decompress(obtain(f"{name}.gz", digest, mirrors, cache).read_bytes())
        for name, digest in SHA256.items()
    }


def obtain(name: str, sha256: str, mirrors: list[str], cache: Path) -> Path:
    """Return the path in `cache` of the file `name`, asking `mirrors` (URLs or folders) in turn if it is not there.

    Raises StageError if none gives a file with the digest `sha256`, saying of each why not.
    """
    pooch.get_logger().setLevel("WARNING")
    over_http = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=(CONNECT_SECONDS, READ_SECONDS))
    refusals = []
    for mirror in mirrors:
        downloader = over_http if "://" in mirror else _copy
        try:
            return Path(pooch.retrieve(f"{mirror}/{name}", f"sha256:{sha256}", name, cache, downloader=downloader))
        except RequestException as error:
            refusals.append(f"{_public(mirror)}: {_reason(error)}")
        except FileNotFoundError:
            refusals.append(f"{_public(mirror)}: has no such file")
        except ValueError as error:
            if "hash" not in str(error):
                raise
            refusals.append(f"{_public(mirror)}: sent other bytes: their SHA-256 is not {sha256[:16]}…")
    raise errors.StageError(
        "\n  ".join([f"no mirror gave {name}", *refusals]) + "\nEither name a folder or a base URL that has the four"
        " files\n  MNIST_MIRROR=… dvc repro\nor take the digits that ship inside scikit-learn\n"
        "  dvc exp run -S download.dataset=digits"
    )


def _copy(source: str, target: str, _: object) -> None:
    shutil.copyfile(source, target)


def _public(mirror: str) -> str:
    """Return `mirror` without a name and password that it may hold."""
    parts = urlsplit(mirror)
    return mirror if not parts.netloc else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _reason(error: RequestException) -> str:
    if isinstance(error, HTTPError) and error.response is not None:
        return f"answered {error.response.status_code} {error.response.reason}"
    # requests wraps urllib3's error, whose own text ends in what went wrong
    inner = getattr(error.args[0], "reason", error.args[0]) if error.args else error
    return f"{type(error).__name__}: {str(inner).rpartition(': ')[2]}"


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


if __name__ == "__main__":
    command.run("download", main, __doc__)

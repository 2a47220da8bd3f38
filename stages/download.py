"""Put the raw data set into data/raw, where torchvision's own MNIST class looks for it.

    python -m stages.download

`download.dataset` in params.yaml says which one:
  mnist   the 70,000 digits of LeCun, Cortes and Burges, from the user's cache, from MNIST_MIRROR (an environment
          variable: a folder or a base URL) or from a public mirror; every file is held to its size and SHA-256.
          Where `split.method` is `writer`, QMNIST's labels, which say who wrote each digit, come with it.
  digits  the 1,797 digits that ship inside scikit-learn, brought to MNIST's format: needs no network.
"""

import gzip
import hashlib
import io
import os
import sys
import time
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pooch
import requests
import urllib3
from filelock import FileLock
from requests.exceptions import HTTPError, RequestException
from tqdm import tqdm

from stages.common import command, digit, errors, files, idx, settings

RAW = Path("data/raw/MNIST/raw")


class File(NamedTuple):
    """A file of a data set as the mirrors serve it, packed by gzip, and as it is unpacked."""

    packed_bytes: int
    packed_sha256: str
    raw_bytes: int
    raw_sha256: str


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
CONNECT_SECONDS, READ_SECONDS, DEADLINE_SECONDS = 5, 10, 300  # to connect, for each read, and for all of a file
PAUSES = (0.5, 1.0)  # seconds before a second and a third attempt
TRY_AGAIN = (429, 500, 502, 503, 504)  # answers that another moment may mend
MOST_REDIRECTS = 5
# scikit-learn's digits come writer after writer: most of the last 500 are by hands that the first 1,297 are not.
DIGITS_TEST = 500


class Download(settings.Settings):
    """The section `download` of params.yaml."""

    dataset: Literal["mnist", "digits"]


class RefusedError(Exception):
    """A mirror gave something else than the file; the message says what."""


def main() -> None:
    """Write the data set's IDX files."""
    dataset = settings.load("download", Download).dataset
    with_writers = settings.value("split.method") == "writer"
    if dataset == "digits":
        raw = digits()
    else:
        raw = collect(MNIST, MNIST_MIRRORS) | (collect(WRITERS, WRITERS_MIRRORS) if with_writers else {})
    check(raw)
    for name, content in raw.items():
        files.write_whole(RAW / name, content)


def collect(wanted: dict[str, File], mirrors: tuple[str, ...]) -> dict[str, bytes]:
    """Return the files `wanted`, unpacked, by name: from the user's cache, MNIST_MIRROR or one of `mirrors`."""
    own = os.environ.get("MNIST_MIRROR")
    cache = pooch.os_cache("mnist-pipeline")
    cache.mkdir(parents=True, exist_ok=True)
    # One process at a time: the others wait, and find the files. The system frees the lock of a killed process.
    with FileLock(cache / "lock"):
        for part in cache.glob("*.tmp"):
            part.unlink()  # left by a process that was killed: who writes holds the lock
        return {
            name: unpack(obtain(f"{name}.gz", file, [own.rstrip("/"), *mirrors] if own else list(mirrors), cache), file)
            for name, file in wanted.items()
        }


def obtain(name: str, file: File, mirrors: list[str], cache: Path) -> bytes:
    """Return `file`, packed, as it is in `cache` under `name`, asking `mirrors` (URLs or folders) if it is not there.

    Raises StageError if none gives it, saying of each why not.
    """
    path = cache / name
    if path.is_file() and _is(content := path.read_bytes(), file):
        return content
    refusals = []
    for mirror in mirrors:
        try:
            content = fetch(f"{mirror}/{name}", file.packed_bytes) if "://" in mirror else _copy(Path(mirror, name))
            if not _is(content, file):
                raise RefusedError(
                    f"sent other bytes: {len(content):,}, SHA-256 {hashlib.sha256(content).hexdigest()[:16]}…, not"
                    f" {file.packed_bytes:,}, {file.packed_sha256[:16]}…"
                )
        except RefusedError as refused:
            refusals.append(f"{_public(mirror)}: {refused}")
        else:
            files.write_whole(path, content)
            return content
    raise errors.StageError(
        "\n  ".join([f"no mirror gave {name}", *refusals]) + "\nEither name a folder or a base URL that has the"
        " files\n  MNIST_MIRROR=… dvc repro\nor take the digits that ship inside scikit-learn\n"
        "  dvc exp run -S download.dataset=digits -S recipes.fast.epochs=20"
    )


def _is(content: bytes, file: File) -> bool:
    return len(content) == file.packed_bytes and hashlib.sha256(content).hexdigest() == file.packed_sha256


def _copy(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RefusedError(error.strerror or str(error)) from None


def fetch(url: str, size: int) -> bytes:
    """Return what `url` has, at most `size` bytes, asking again where a pause may help. Raises RefusedError."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    for pause in (*PAUSES, None):
        try:
            return _attempt(url, size, deadline)
        except (RequestException, urllib3.exceptions.HTTPError) as error:
            final = isinstance(error, HTTPError) and error.response.status_code not in TRY_AGAIN
            if final or pause is None or time.monotonic() + pause > deadline:
                raise RefusedError(_reason(error)) from None
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target and urlsplit(resp.url).scheme == "https" and urlsplit(target).scheme == "http":
            raise RefusedError("redirects from https to http")
        return target


def _attempt(url: str, size: int, deadline: float) -> bytes:
    content = io.BytesIO()
    with _Session() as session:
        session.max_redirects = MOST_REDIRECTS
        try:
            # the bytes as they are, so that a server cannot have them unpacked here
            asked = {"Accept-Encoding": "identity"}
            answer = session.get(url, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS), headers=asked)
        except requests.TooManyRedirects:
            raise RefusedError(f"redirects more than {MOST_REDIRECTS} times") from None
        with answer:
            answer.raise_for_status()
            silent = not sys.stderr.isatty()
            with tqdm(total=size, unit="B", unit_scale=True, desc=url.rpartition("/")[2], disable=silent) as bar:
                # what has come so far, however little, so that a slow server is held to the deadline, too
                while chunk := answer.raw.read1(2**16):
                    bar.update(content.write(chunk))
                    if content.tell() > size:
                        raise RefusedError(f"sends more than the {size:,} bytes that the file has")
                    if time.monotonic() > deadline:
                        raise RefusedError(f"sent {content.tell():,} of {size:,} bytes in {DEADLINE_SECONDS} seconds")
    return content.getvalue()


def unpack(packed: bytes, file: File) -> bytes:
    """Return what `packed` holds. Raises StageError if it is not `file`; never unpacks more than that has."""
    with gzip.open(io.BytesIO(packed)) as stream:
        content = stream.read(file.raw_bytes + 1)
    if len(content) != file.raw_bytes or hashlib.sha256(content).hexdigest() != file.raw_sha256:
        raise errors.StageError(f"what was unpacked is not the {file.raw_bytes:,} bytes {file.raw_sha256[:16]}…")
    return content


def check(raw: dict[str, bytes]) -> None:
    """Raise StageError unless the images and labels in `raw` fit together: 28 x 28, a label each, of 0 to 9."""
    for part in ("train", "t10k"):
        images, labels = (
            idx.decode(raw[name], name) for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
        )
        if images.shape != (len(labels), 28, 28) or labels.ndim != 1:
            raise errors.StageError(f"{part}: images {images.shape} and labels {labels.shape} do not fit together")
        if sorted(set(labels.tolist())) != list(range(10)):
            raise errors.StageError(f"{part}: labels {sorted(set(labels.tolist()))}; expected each of 0 to 9")


def _public(mirror: str) -> str:
    """Return `mirror` without a name and password that it may hold."""
    parts = urlsplit(mirror)
    return mirror if not parts.netloc else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
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

"""Files from mirrors on the network or in a folder: each is checked against its size and SHA-256."""

import gzip
import hashlib
import io
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import platformdirs
import requests
import urllib3
from filelock import FileLock
from requests.exceptions import HTTPError, RequestException
from tqdm import tqdm

from stages.common import files
from stages.common.errors import StageError

CONNECT_SECONDS, READ_SECONDS, DEADLINE_SECONDS = 5, 10, 300  # to connect, for each read, and for all of a file
PAUSES = (0.5, 1.0)  # seconds before a second and a third attempt
TRY_AGAIN = (429, 500, 502, 503, 504)  # answers that may be others a moment later
MOST_REDIRECTS = 5


class File(NamedTuple):
    """A file as the mirrors serve it, packed by gzip, and as it is unpacked."""

    packed_bytes: int
    packed_sha256: str
    raw_bytes: int
    raw_sha256: str


class RefusedError(Exception):
    """A mirror gave something else than the file; the message says what."""


def collect(wanted: dict[str, File], mirrors: tuple[str, ...]) -> dict[str, bytes]:
    """Return the files `wanted`, unpacked, by name: from the user's cache, MNIST_MIRROR or one of `mirrors`."""
    own = os.environ.get("MNIST_MIRROR")
    cache = platformdirs.user_cache_path("mnist-pipeline")
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
    raise StageError(
        "\n  ".join([f"no mirror gave {name}", *refusals]) + "\nEither name a folder or a base URL that has the"
        " files\n  MNIST_MIRROR=… dvc repro\nor take the digits that ship inside scikit-learn\n"
        "  dvc exp run -S download.dataset=digits"
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
            headers = {"Accept-Encoding": "identity"}
            answer = session.get(url, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS), headers=headers)
        except requests.TooManyRedirects:
            raise RefusedError(f"redirects more than {MOST_REDIRECTS} times") from None
        with answer:
            answer.raise_for_status()
            silent = not sys.stderr.isatty()
            with tqdm(total=size, unit="B", unit_scale=True, desc=url.rpartition("/")[2], disable=silent) as bar:
                # what has come so far, however little, so that the deadline is checked for a slow server, too
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
        raise StageError(f"what was unpacked is not the {file.raw_bytes:,} bytes {file.raw_sha256[:16]}…")
    return content


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

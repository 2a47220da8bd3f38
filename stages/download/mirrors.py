"""Files from mirrors on the network or in a folder: each is checked against its size and SHA-256."""

import gzip
import hashlib
import io
import os
import re
import signal
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3
from filelock import FileLock, Timeout
from requests.exceptions import HTTPError, RequestException
from tqdm import tqdm

from stages.common import files
from stages.common.errors import StageError
from stages.download.entry import File

CONNECT_SECONDS, READ_SECONDS, DEADLINE_SECONDS = 5, 10, 300  # to connect, for each read, and for all of a file
SILENT_SECONDS, LOCK_SECONDS = 3, 120  # before a process says that it waits for another, and before it goes on alone
PAUSES = (0.5, 1.0)  # seconds before a second and a third attempt
TRY_AGAIN = (429, 500, 502, 503, 504)  # answers that may be others a moment later
MOST_REDIRECTS = 5


class RefusedError(Exception):
    """A mirror gave something else than the file; the message says what."""


def collect(wanted: list[File], cache: Path) -> list[bytes]:
    """Return the files `wanted`, unpacked: from the folder `cache`, MNIST_MIRROR or one of their mirrors."""
    own = own_mirror()
    packed = {file.name: content for file in wanted if (content := _cached(cache / f"{file.name}.gz", file))}
    if missing := [file for file in wanted if file.name not in packed]:
        with _locked(cache) as writable:
            packed |= {file.name: obtain(file, [*own, *file.mirrors], writable) for file in missing}
    return [unpack(packed[file.name], file) for file in wanted]


def own_mirror() -> list[str]:
    """Return what MNIST_MIRROR names, if it is set. Raises StageError for what is no folder and no URL.

    A relative folder starts at the project's root, also in an experiment that DVC runs in a folder of its own.
    """
    own = os.environ.get("MNIST_MIRROR", "")
    if "://" not in own:
        return [str(Path(os.environ.get("DVC_ROOT", "."), own).absolute())] if own else []
    with suppress(ValueError):
        parts = urlsplit(own)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return [own.rstrip("/")]
    raise StageError(f"MNIST_MIRROR: got {_public(own)!r}, expected a folder, or a URL: http(s)://HOST/FOLDER")


@contextmanager
def _locked(cache: Path) -> Iterator[Path | None]:
    """Give `cache` to one process at a time, so that the others find the files; None where it cannot be had."""
    lock = FileLock(cache / "lock")
    writable: Path | None = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=SILENT_SECONDS)
        except Timeout:
            text = f"waiting for the process that holds {lock.lock_file}, {LOCK_SECONDS} seconds at most"
            print(text, file=sys.stderr, flush=True)
            lock.acquire(timeout=LOCK_SECONDS)
        writable = cache
    except OSError as error:  # a Timeout is one
        _say_uncached(cache, error)
    try:
        yield writable
    finally:
        lock.release()  # the system frees that of a killed process


def _say_uncached(path: Path, error: OSError) -> None:
    print(f"going on without the download cache: {path}: {error.strerror or error}", file=sys.stderr, flush=True)


def obtain(file: File, mirrors: list[str], cache: Path | None) -> bytes:
    """Return `file`, packed, as it is in `cache`, asking `mirrors` (URLs or folders) if it is not there.

    Raises StageError if none gives it, saying of each why not.
    """
    name, most = f"{file.name}.gz", file.packed_bytes or file.raw_bytes
    path = cache / name if cache else None
    if path and (content := _cached(path, file)):
        return content
    refusals = []
    for mirror in mirrors:
        try:
            take = fetch if "://" in mirror else _copy
            content = take(f"{mirror}/{name}", most)
            if (digest := hashlib.sha256(content).hexdigest()) != file.packed_sha256:
                sent = f"{len(content):,}, SHA-256 {digest[:16]}…, not {most:,}, {file.packed_sha256[:16]}…"
                raise RefusedError(f"sent other bytes: {sent}")
        except RefusedError as refused:
            refusals.append(f"{_public(mirror)}: {refused}")
        else:
            if path:
                try:
                    files.write_whole(path, content)
                except OSError as error:
                    _say_uncached(path, error)
            return content
    raise StageError(
        "\n  ".join([f"no mirror gave {name}", *refusals]) + "\nEither name a folder or a base URL that has the"
        " files\n  MNIST_MIRROR=… dvc repro\nor take the digits that ship inside scikit-learn\n"
        "  dvc exp run -S download.dataset=digits"
    )


def _cached(path: Path, file: File) -> bytes | None:
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        _say_uncached(path, error)
        return None
    return content if hashlib.sha256(content).hexdigest() == file.packed_sha256 else None


@contextmanager
def _deadline() -> Iterator[None]:
    """Raise RefusedError after DEADLINE_SECONDS, however little a server sends at a time, and in whatever it sends."""

    def give_up(*_: object) -> None:
        raise RefusedError(f"not done after {DEADLINE_SECONDS} seconds")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(DEADLINE_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


@_deadline()
def _copy(path: str, size: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(size + 1)
    except OSError as error:
        raise RefusedError(error.strerror or str(error)) from None


@_deadline()
def fetch(url: str, size: int) -> bytes:
    """Return what `url` has, at most `size` bytes, asking again where a pause may help. Raises RefusedError."""
    for pause in (*PAUSES, None):
        try:
            return _attempt(url, size)
        except (RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            final = isinstance(error, ValueError) or (
                isinstance(error, HTTPError) and error.response.status_code not in TRY_AGAIN
            )
            if final or pause is None:
                raise RefusedError(_reason(error)) from None
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target and urlsplit(resp.url).scheme == "https" and urlsplit(target).scheme == "http":
            raise RefusedError("redirects from https to http")
        return target


def _attempt(url: str, size: int) -> bytes:
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
            with tqdm(total=size, unit="B", unit_scale=True, desc=url.rpartition("/")[2], disable=None) as bar:
                while chunk := answer.raw.read1(2**16):
                    bar.update(content.write(chunk))
                    if content.tell() > size:
                        raise RefusedError(f"sends more than the {size:,} bytes that the file has")
    return content.getvalue()


def unpack(packed: bytes, file: File) -> bytes:
    """Return what `packed` holds. Raises StageError if it is not `file`; never unpacks more than that has."""
    try:
        with gzip.open(io.BytesIO(packed)) as stream:
            content = stream.read(file.raw_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise StageError(f"{file.name}: cannot be unpacked: {error}") from None
    if len(content) != file.raw_bytes or file.raw_sha256 not in (None, hashlib.sha256(content).hexdigest()):
        raise StageError(f"{file.name}: what was unpacked is not the {file.raw_bytes:,} bytes that it has")
    return content


def _public(text: str) -> str:
    """Return `text` without a name and password that its URL may hold, also where that cannot be parsed."""
    return re.sub(r"(?s)(?<=://).*@", "", text)


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"answered {error.response.status_code} {error.response.reason}"
    # requests wraps urllib3's error, whose own text ends in what went wrong
    inner = getattr(error.args[0], "reason", error.args[0]) if error.args else error
    return _public(f"{type(error).__name__}: {str(inner).rpartition(': ')[2]}")  # it may name the proxy

"""Download: sizes and digests are checked, files are whole or not there, whatever mirrors, disks and signals do."""

import contextlib
import gzip
import hashlib
import http.server
import os
import platform
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from torchvision.datasets import MNIST

from stages.common import files, idx, raw, settings
from stages.common.errors import StageError
from stages.download import digit, entry, mirrors
from stages.download import main as download
from tests.conftest import PROJECT, Clone

RAW = bytes(range(256)) * 800
PACKED = gzip.compress(RAW, mtime=0)
FILE = entry.File(
    name="x",
    packed_bytes=len(PACKED),
    packed_sha256=hashlib.sha256(PACKED).hexdigest(),
    raw_bytes=len(RAW),
    raw_sha256=hashlib.sha256(RAW).hexdigest(),
)
ENTRIES = {path.parent.name: settings.load(entry.Entry, path=path) for path in PROJECT.glob("datasets/*/dataset.yaml")}
FILES = [file for kind, file in ENTRIES["mnist"].files.items() if kind != "train-groups"]
NAMES = {file.name for file in FILES}  # of MNIST's four files
LEFT = {"x.gz"}  # in the cache, when all went well


class Handler(http.server.BaseHTTPRequestHandler):
    """A mirror that does what the first part of the path says."""

    calls: dict[str, int]
    ended: threading.Event  # the test; until then a silent server says nothing

    def do_GET(self) -> None:
        """Answer."""
        behaviour = self.path.split("/")[1]
        self.calls[behaviour] = self.calls.get(behaviour, 0) + 1
        status, body, headers = 200, PACKED, {"Content-Type": "application/gzip"}
        match behaviour.split("-"):
            case ["status", number]:
                status, body = int(number), b"no"
            case ["once", number] if self.calls[behaviour] == 1:
                status, body = int(number), b"later"
            case ["short"]:
                body = PACKED[:-1]
            case ["empty"]:
                body = b""
            case ["long"]:
                body = PACKED + b"more"
            case ["endless"]:
                body = PACKED * 1000
            case ["html"]:
                body, headers = b"<html>Log in to this network</html>", {"Content-Type": "text/html"}
            case ["wrong"]:
                body = bytes(len(PACKED))
            case ["encoded"]:
                body, headers = gzip.compress(PACKED), {"Content-Encoding": "gzip"}
            case ["negotiates"] if "gzip" in self.headers["Accept-Encoding"]:
                body, headers = gzip.compress(PACKED), {"Content-Encoding": "gzip"}
            case ["loop"]:
                status, body, headers = 302, b"", {"Location": self.path}
            case ["moved"]:
                status, body, headers = 301, b"", {"Location": "/good/x.gz"}
            case ["downgrade"]:
                status, body, headers = 302, b"", {"Location": "http://127.0.0.1:9/x.gz"}
            case ["silent"]:
                self.ended.wait()
                return
            case ["hangup"]:
                return
            case ["malformed"]:
                status, body, headers = 302, b"", {"Location": "http://[::1"}
            case ["headers"]:
                self.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Header: yes\r\n" * 20)
                return
            case ["continue"]:
                self.drip(b"HTTP/1.1 100 Continue\r\n\r\n", times=100)
                return
            case ["chunks"]:
                self.drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 100)
                return
            case ["maze", number]:
                time.sleep(0.4)
                status, body, headers = 302, b"", {"Location": f"/maze-{int(number) + 1}/x.gz"}
            case ["garbage"]:
                self.wfile.write(b"\x00\x01 not HTTP\r\n\r\n")
                return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        cut = behaviour == "cut" or (behaviour == "cutonce" and self.calls[behaviour] == 1)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if behaviour == "drip":
            self.drip(body[:200])
        elif behaviour == "stall":
            self.wfile.write(body[:100])
            self.ended.wait()
        else:
            self.wfile.write(body[: len(body) // 2] if cut else body)

    def drip(self, content: bytes, times: int = 1) -> None:
        """Send a byte now and then, until nobody listens."""
        with contextlib.suppress(OSError):
            for byte in content * times:
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a real server on the loopback address; the pauses are a tenth of a user's."""
    monkeypatch.setattr(mirrors, "PAUSES", (0.05, 0.1))
    Handler.calls, Handler.ended = {}, threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        Handler.ended.set()
        server.shutdown()


def left(cache: Path) -> set[str]:
    """Return the names of the files in `cache`."""
    return {path.name for path in cache.iterdir()} if cache.exists() else set()


GOOD = {"good": 1, "moved": 1, "negotiates": 1, "cutonce": 2} | {f"once-{of}": 2 for of in (429, 500, 502, 503, 504)}


@pytest.mark.parametrize("behaviour", GOOD)
def test_a_mirror_serves_at_last(server: str, tmp_path: Path, behaviour: str) -> None:
    """A redirect is followed, and what may work later is tried again: the file, whole, alone in the cache."""
    assert mirrors.obtain(FILE, [f"{server}/{behaviour}"], tmp_path / "cache") == PACKED
    assert Handler.calls[behaviour] == GOOD[behaviour]
    assert signal.alarm(0) == 0  # no deadline is left
    assert left(tmp_path / "cache") == LEFT


BAD = {
    "status-403": (1, "answered 403 Forbidden"),
    "status-404": (1, "answered 404 Not Found"),
    "status-410": (1, "answered 410 Gone"),
    "status-429": (3, "answered 429 Too Many Requests"),
    "status-500": (3, "answered 500 Internal Server Error"),
    "status-503": (3, "answered 503 Service Unavailable"),
    "status-204": (1, "sent other bytes: 0, SHA-256"),
    "short": (1, f"sent other bytes: {len(PACKED) - 1:,}, SHA-256"),
    "empty": (1, "sent other bytes: 0, SHA-256"),
    "long": (1, f"sends more than the {len(PACKED):,} bytes that the file has"),
    "endless": (1, f"sends more than the {len(PACKED):,} bytes that the file has"),
    "html": (1, "sent other bytes: 35, SHA-256"),
    "wrong": (1, f"sent other bytes: {len(PACKED):,}, SHA-256"),
    "encoded": (1, "sen"),
    "loop": (6, "redirects more than 5 times"),
    "silent": (3, "Read timed out"),
    "stall": (3, "Read timed out"),
    "drip": (1, "not done after 1 seconds"),
    "headers": (1, "not done after 1 seconds"),
    "continue": (1, "not done after 1 seconds"),
    "chunks": (1, "not done after 1 seconds"),
    "maze-0": (1, "not done after 1 seconds"),
    "malformed": (1, "Invalid IPv6 URL"),
    "cut": (3, "IncompleteRead"),
    "hangup": (3, "ConnectionError: "),
    "garbage": (3, "ConnectionError: "),
}


# A short limit for what is to run into it, and no other short one: a busy machine could run into that
READ_ENDS, DEADLINE_ENDS = ("silent", "stall"), ("drip", "headers", "continue", "chunks", "maze-0")


@pytest.mark.parametrize("behaviour", BAD)
def test_a_mirror_that_fails_is_given_up(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    """One line says why, nothing is left in the cache, and the next mirror serves."""
    calls, message = BAD[behaviour]
    if behaviour in READ_ENDS:
        monkeypatch.setattr(mirrors, "READ_SECONDS", 0.5)
    if behaviour in DEADLINE_ENDS:
        monkeypatch.setattr(mirrors, "DEADLINE_SECONDS", 1)
    bad = f"{server}/{behaviour}"
    with pytest.raises(StageError) as error:
        mirrors.obtain(FILE, [bad], tmp_path / "cache")
    first, line, *rest = str(error.value).splitlines()
    assert first == "no mirror gave x.gz"
    assert line.startswith(f"  {bad}: ")
    assert message in line
    assert rest[1:] == [
        "  MNIST_MIRROR=… dvc repro",
        "or take the digits that ship inside scikit-learn",
        "  dvc exp run -S download.dataset=digits",
    ]
    assert Handler.calls[behaviour] == calls
    assert left(tmp_path / "cache") == set()
    assert mirrors.obtain(FILE, [bad, f"{server}/good"], tmp_path / "cache") == PACKED
    assert left(tmp_path / "cache") == LEFT


def test_a_closed_port_an_unknown_host_and_folders(tmp_path: Path) -> None:
    """Each is named with its reason, without the name and the password in its URL."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder/x.gz").mkdir(parents=True)
    places = {
        "http://me:secret@127.0.0.1:9": "http://127.0.0.1:9: ConnectionError: [Errno 111] Connection refused",
        "http://name.invalid": "http://name.invalid: ConnectionError: ",
        str(tmp_path / "none"): f"{tmp_path / 'none'}: No such file or directory",
        str(tmp_path / "file"): f"{tmp_path / 'file'}: Not a directory",
        str(tmp_path / "folder"): f"{tmp_path / 'folder'}: Is a directory",
    }
    with pytest.raises(StageError) as error:
        mirrors.obtain(FILE, list(places), tmp_path / "cache")
    for line, expected in zip(str(error.value).splitlines()[1:], places.values(), strict=False):
        assert line.strip().startswith(expected)
    assert "secret" not in str(error.value)
    assert left(tmp_path / "cache") == set()


def test_the_password_of_a_proxy_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy whose URL is none is named without its name and password; so is a mirror with a line break in it."""
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:99999")
    with pytest.raises(StageError) as error:
        mirrors.obtain(FILE, ["http://me:sec\nret@name.invalid"], tmp_path / "cache")
    assert str(error.value).splitlines()[1] == "  http://name.invalid: InvalidURL: http://127.0.0.1:99999"


def test_https_stays_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect from https to http is refused, and an unknown certificate, too."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    Handler.calls = {}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://localhost:{server.server_port}"
        with pytest.raises(mirrors.RefusedError, match="self-signed certificate"):
            mirrors.fetch(f"{url}/good/x.gz", len(PACKED))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert mirrors.fetch(f"{url}/good/x.gz", len(PACKED)) == PACKED
        with pytest.raises(mirrors.RefusedError, match="redirects from https to http"):
            mirrors.fetch(f"{url}/downgrade/x.gz", len(PACKED))
        server.shutdown()


def test_a_handshake_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a byte of its TLS handshake now and then is left at the deadline."""
    monkeypatch.setattr(mirrors, "DEADLINE_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                for byte in bytes.fromhex("16030307d0020007cc") + bytes(200):
                    connection.send(bytes([byte]))
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        with pytest.raises(mirrors.RefusedError, match="not done after 1 seconds"):
            mirrors.fetch(f"https://127.0.0.1:{server.getsockname()[1]}/x.gz", len(PACKED))


def test_a_pipe_in_a_folder_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that nobody ever writes is left at the deadline; of one that is too long, no more is read than is said."""
    monkeypatch.setattr(mirrors, "DEADLINE_SECONDS", 1)
    os.mkfifo(tmp_path / "x.gz")
    with pytest.raises(mirrors.RefusedError, match="not done after 1 seconds"):
        mirrors._copy(str(tmp_path / "x.gz"), len(PACKED))
    with pytest.raises(StageError, match=f"sent other bytes: {len(PACKED) + 1:,}, SHA-256"):
        (tmp_path / "y.gz").write_bytes(PACKED * 2)
        mirrors.obtain(FILE.model_copy(update={"name": "y"}), [str(tmp_path)], None)


@pytest.mark.parametrize("content", [b"", PACKED[:-1], PACKED + b"x", bytes(len(PACKED))])
def test_a_broken_cache_heals(server: str, tmp_path: Path, content: bytes) -> None:
    """What is not the file is not trusted, and replaced; what is, needs no mirror."""
    (tmp_path / "x.gz").write_bytes(content)
    assert mirrors.obtain(FILE, [f"{server}/good"], tmp_path) == PACKED
    assert (tmp_path / "x.gz").read_bytes() == PACKED
    assert mirrors.obtain(FILE, [], tmp_path) == PACKED


def test_a_link_in_the_cache_is_replaced_and_what_it_names_is_kept(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written through a link; one to what cannot be read is named."""
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/x.gz").symlink_to(tmp_path / "mine")
    mirrors.obtain(FILE, [f"{server}/good"], tmp_path / "cache")
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "cache/x.gz").read_bytes() == PACKED
    (tmp_path / "x.gz").symlink_to("/proc/self/mem")
    assert mirrors.obtain(FILE, [f"{server}/good"], tmp_path) == PACKED
    said = f"going on without the download cache: {tmp_path / 'x.gz'}: Input/output error\n"
    assert capsys.readouterr().err == said
    assert (tmp_path / "x.gz").read_bytes() == PACKED


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        *((gzip.compress(raw), "not the") for raw in (RAW[:-1], RAW + b"x", bytes(len(RAW)))),
        (b"no gzip", "cannot be unpacked: Not a gzipped file"),
        (gzip.compress(RAW)[:-9], "cannot be unpacked: Compressed file ended"),
        (PACKED[:10] + b"\xff" * 9, "cannot be unpacked: Error -3 while decompressing"),
    ],
)
def test_what_is_unpacked_is_checked_against_its_size_and_digest(packed: bytes, said: str) -> None:
    """Too little, too much, other bytes, and what is no gzip file or a part of one, are refused."""
    with pytest.raises(StageError, match=said):
        mirrors.unpack(packed, FILE)


def test_unpacking_stops_at_the_known_size() -> None:
    """A gigabyte of zeros in a megabyte of gzip is not unpacked: memory stays below a tenth of it."""
    bomb = gzip.compress(bytes(2**24), 1) * 64
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(StageError):
        mirrors.unpack(bomb, FILE.model_copy(update={"raw_sha256": None}))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2**30 / 10


def parts() -> dict[str, np.ndarray]:
    """Return ten images and labels for each part."""
    return {
        f"{part}-{kind}": values
        for part in ("train", "t10k")
        for kind, values in (("images", np.zeros((10, 28, 28), np.uint8)), ("labels", np.arange(10, dtype=np.uint8)))
    }


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("train-images", np.zeros((9, 28, 28), np.uint8), "do not fit together"),
        ("train-images", np.zeros((10, 32, 32), np.uint8), r"do not fit together; expected images \(10, 28, 28\)"),
        ("train-images", np.zeros((10, 28, 28, 3), np.uint8), "do not fit together"),
        ("t10k-labels", np.arange(1, 11, dtype=np.uint8), "t10k: labels without a name: 10; expected 0 to 9"),
        ("t10k-labels", np.zeros((10, 2), np.uint8), "do not fit together"),
        ("t10k-labels", np.zeros(10, np.uint8), "t10k: no image of 1, 2, 3, 4, 5 and 4 more; expected one of each"),
    ],
)
def test_files_that_do_not_fit_are_refused(name: str, values: np.ndarray, message: str) -> None:
    """A label for each image of the entry's shape, and every class of the entry in both parts."""
    download.check(parts(), ENTRIES["digits"])
    with pytest.raises(StageError, match=message):
        download.check({**parts(), name: values}, ENTRIES["digits"])


def test_mislabelled_rows_that_are_not_there_are_refused() -> None:
    """MNIST's entry names rows up to 9,729, which a test part of ten images does not have."""
    with pytest.raises(StageError, match=r"mislabelled: no such rows of the test part: 947, 1621, .* and 10 more"):
        download.check(parts(), ENTRIES["mnist"])


def test_what_another_data_set_has_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files alone, and only once the data set is known to be good."""
    monkeypatch.chdir(tmp_path)
    params, digits = (PROJECT / "params.yaml").read_text(), entry.path("digits")
    Path("params.yaml").write_text(params.replace("dataset: mnist", "dataset: digits"))
    shutil.copytree(PROJECT / digits.parent, digits.parent)
    of_another = {"train-images-idx4-ubyte", "train-groups-idx1-int"}
    for name in of_another:
        files.write_whole(raw.FOLDER / name, b"")
    (raw.FOLDER / "mine").mkdir()
    digits.write_text((PROJECT / digits).read_text() + "mislabelled: [500]\n")
    with pytest.raises(StageError, match="mislabelled: no such rows of the test part: 500"):
        download.main()
    assert left(raw.FOLDER) == {"mine", *of_another}
    shutil.copy(PROJECT / digits, digits)
    download.main()
    assert left(raw.FOLDER) == {"mine", *NAMES}


STAGE = [sys.executable, "-m", "stages.download"]


def project(origin: Clone, tmp_path: Path) -> tuple[Clone, dict[str, str]]:
    """Return a clone, and the environment in which its cache is its own."""
    return origin.clone(tmp_path / "clone"), {"XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("clone/data", "Not a directory"),
        ("clone/data/raw/MNIST/raw/train-images-idx3-ubyte/", "train-images-idx3-ubyte: Is a directory"),
    ],
)
def test_a_file_or_folder_in_the_way(mirror: Path, origin: Clone, tmp_path: Path, place: str, message: str) -> None:
    """A clear message names it; it is left as it is, and nothing half-written is beside it."""
    clone, environment = project(origin, tmp_path)
    path = in_the_way(tmp_path / place, folder=place.endswith("/"))
    failed = clone.run(*STAGE, status=1, MNIST_MIRROR=str(mirror), **environment)
    assert failed.stderr.startswith("error: ")
    assert message in failed.stderr
    assert (path / "mine").is_dir() if place.endswith("/") else path.read_text() == "mine"
    assert not list(tmp_path.rglob("*.tmp"))


def in_the_way(path: Path, folder: bool) -> Path:
    """Put a file, or a folder with something in it, at `path`."""
    if folder:
        (path / "mine").mkdir(parents=True)
    else:
        path.write_text("mine")
    return path


READ_ONLY = "mkdir -p $CACHE && mount --bind $CACHE $CACHE && mount -o remount,bind,ro $CACHE"
FULL = "mkdir $CACHE && mount -t tmpfs -o size=1m none $CACHE"


def prepared(line: str) -> list[str]:
    """Return the command that runs the stage after the shell's `line`; what that mounts, no other process sees."""
    mounts = ["unshare", "--map-root-user", "--mount"] if "mount" in line else []
    if mounts and subprocess.run([*mounts, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        pytest.skip("needs user namespaces, to mount a folder that is read-only for root, too")
    return [*mounts, "sh", "-ec", f'{line}; exec "$@"', "sh", *STAGE]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("touch $CACHE", "cache: File exists"),
        ("mkdir -p $CACHE/lock", "cache: Is a directory"),
        ("mkdir -p $CACHE/train-images-idx3-ubyte.gz", "cache/train-images-idx3-ubyte.gz: Is a directory"),
        (READ_ONLY, "cache: Read-only file system"),
        (FULL, "cache/train-images-idx3-ubyte.gz: No space left on device"),
    ],
    ids=["file in its place", "no lock", "folder for a file", "read-only", "full"],
)
def test_a_cache_that_cannot_be_written_is_done_without(
    origin: Clone, mirror: Path, tmp_path: Path, line: str, message: str
) -> None:
    """The stage says why, and takes the files from the mirror."""
    clone, environment = project(origin, tmp_path)
    cache = tmp_path / "cache/mnist-pipeline/mnist"
    cache.parent.mkdir(parents=True)
    done = clone.run(*prepared(line), MNIST_MIRROR=str(mirror), CACHE=str(cache), **environment)
    assert f"going on without the download cache: {message.replace('cache', str(cache), 1)}" in done.stderr
    assert left(clone.path / raw.FOLDER) == NAMES
    assert not list(tmp_path.rglob("*.tmp"))


def filled(mirror: Path, tmp_path: Path) -> Path:
    """Return a cache that has all of MNIST."""
    cache = tmp_path / "cache/mnist-pipeline/mnist"
    cache.mkdir(parents=True)
    for name in sorted(NAMES):
        shutil.copy(mirror / f"{name}.gz", cache)
    return cache


def test_a_cache_with_all_files_is_only_read(origin: Clone, mirror: Path, tmp_path: Path) -> None:
    """Read-only, and its lock held by another process: the stage asks nobody, waits for nobody, and says nothing."""
    clone, environment = project(origin, tmp_path)
    cache = filled(mirror, tmp_path)
    with FileLock(cache / "lock"):
        done = clone.run(*prepared(READ_ONLY), CACHE=str(cache), **environment)
    assert done.stderr == ""
    assert left(clone.path / raw.FOLDER) == NAMES


def test_a_lock_that_is_held_is_named_and_waited_for(origin: Clone, mirror: Path, tmp_path: Path) -> None:
    """The stage says which lock it waits for, and goes on when that is free."""
    clone, environment = project(origin, tmp_path)
    cache = tmp_path / "cache/mnist-pipeline/mnist"
    cache.mkdir(parents=True)
    environment = {**os.environ, **environment, "MNIST_MIRROR": str(mirror)}
    with FileLock(cache / "lock"):
        process = subprocess.Popen(STAGE, cwd=clone.path, env=environment, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert process.stderr.readline().startswith(f"waiting for the process that holds {cache / 'lock'}, ")
        assert process.poll() is None
    assert process.communicate(timeout=60) == (None, "")
    assert process.returncode == 0
    assert left(cache) == {"lock", *(f"{name}.gz" for name in NAMES)}


def test_a_lock_that_stays_held_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a time limit the files are taken without the cache, which is left as it is."""
    monkeypatch.setattr(mirrors, "SILENT_SECONDS", 0.1)
    monkeypatch.setattr(mirrors, "LOCK_SECONDS", 0.2)
    monkeypatch.setenv("MNIST_MIRROR", str(tmp_path))
    (tmp_path / "x.gz").write_bytes(PACKED)
    cache = tmp_path / "cache"
    cache.mkdir()
    with FileLock(cache / "lock"):
        assert mirrors.collect([FILE], cache) == [RAW]
    waited, given_up = capsys.readouterr().err.splitlines()
    assert waited.startswith(f"waiting for the process that holds {cache / 'lock'}, ")
    assert given_up == (
        f"going on without the download cache: {cache}: The file lock '{cache / 'lock'}' could not be acquired."
    )
    assert left(cache) == {"lock"}
    assert mirrors.collect([FILE], cache) == [RAW]
    assert left(cache) == {"lock", "x.gz"}
    assert capsys.readouterr().err == ""


def test_a_relative_mirror_starts_at_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC says in DVC_ROOT where the project is; without DVC it is the current folder."""
    monkeypatch.setenv("MNIST_MIRROR", "mnist")
    assert mirrors.own_mirror() == [str(Path.cwd() / "mnist")]
    monkeypatch.setenv("DVC_ROOT", "/project")
    assert mirrors.own_mirror() == ["/project/mnist"]
    monkeypatch.setenv("MNIST_MIRROR", "/mnist")
    assert mirrors.own_mirror() == ["/mnist"]
    monkeypatch.setenv("MNIST_MIRROR", "http://host/mnist/")
    assert mirrors.own_mirror() == ["http://host/mnist"]


@pytest.mark.slow
def test_a_relative_mirror_in_an_experiment(origin: Clone, mirror: Path, tmp_path: Path) -> None:
    """It starts at the project, too, where DVC runs an experiment in a folder of its own."""
    clone, environment = project(origin, tmp_path)
    (tmp_path / "mnist").symlink_to(mirror)
    unreachable = {"HTTPS_PROXY": "http://127.0.0.1:9"}
    clone.run("dvc", "exp", "run", "--temp", "download", MNIST_MIRROR="../mnist", **unreachable, **environment)
    assert left(tmp_path / "cache/mnist-pipeline/mnist") == {"lock", *(f"{name}.gz" for name in NAMES)}


@pytest.mark.parametrize(
    "value",
    [
        "http://[::1", "http://", "https:///mnist", "http://host:port", "http://host:0", "http://host:99999", "://",
        "file:///mnist", "ftp://host/mnist", "s3://bucket", "http://me:secret@host:port", "http://me:se/cret@host",
    ],
)  # fmt: skip
def test_what_is_no_mirror_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A URL that cannot be one is named, without a name and a password in it, and what was expected."""
    monkeypatch.setenv("MNIST_MIRROR", value)
    with pytest.raises(StageError, match=r"^MNIST_MIRROR: got '.*', expected a folder, or a URL") as error:
        mirrors.collect([], Path("cache"))
    assert "secret" not in str(error.value)
    assert "se/cret" not in str(error.value)


def test_an_empty_mirror_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with most variables, an empty value is none."""
    monkeypatch.setenv("MNIST_MIRROR", "")
    assert mirrors.own_mirror() == []


def test_no_space(mirror: Path, origin: Clone, tmp_path: Path) -> None:
    """Where a file cannot be written to its end, the message says so, and no part of it is left."""
    clone, environment = project(origin, tmp_path)
    limited = ["sh", "-c", f"trap '' XFSZ; ulimit -f 4000; exec {sys.executable} -m stages.download"]
    failed = clone.run(*limited, status=1, MNIST_MIRROR=str(mirror), **environment)
    assert "File too large" in failed.stderr
    assert "train-images-idx3-ubyte.gz" not in left(tmp_path / "cache/mnist-pipeline/mnist")
    assert not list(tmp_path.rglob("*.tmp"))
    assert left(clone.path / raw.FOLDER) == set()


@pytest.mark.slow
def test_eight_at_once(mirror: Path, origin: Clone, tmp_path: Path) -> None:
    """Eight processes with one empty cache: one takes the files from the mirror, all end well."""
    clones = [origin.clone(tmp_path / f"clone{number}") for number in range(8)]
    clones[0].run("git", "--version")
    Handler.calls = {}
    served: list[str] = []

    class Real(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(mirror))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            served.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Real) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            **os.environ,
            "MNIST_MIRROR": f"http://127.0.0.1:{server.server_port}",
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        }
        running = [subprocess.Popen(STAGE, cwd=clone.path, env=environment) for clone in clones]
        assert [process.wait() for process in running] == [0] * 8
        server.shutdown()
    assert sorted(served) == sorted(f"/{name}.gz" for name in NAMES)
    assert left(tmp_path / "cache/mnist-pipeline/mnist") == {"lock", *(f"{name}.gz" for name in NAMES)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_at_any_byte(origin: Clone, mirror: Path, tmp_path: Path, number: int) -> None:
    """Stopped while a file comes in, a later run ends as if nothing had been, and removes what a kill left."""
    clone, environment = project(origin, tmp_path)
    arrived, on = threading.Event(), threading.Event()

    class Slow(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            content = Path(mirror, self.path[1:]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 3])
            self.wfile.flush()
            arrived.set()
            on.wait()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        slow = {**os.environ, **environment, "MNIST_MIRROR": f"http://127.0.0.1:{server.server_port}"}
        process = subprocess.Popen(STAGE, cwd=clone.path, env=slow, stderr=subprocess.PIPE, text=True)
        assert arrived.wait(60)
        process.send_signal(number)
        _, message = process.communicate(timeout=60)
        on.set()
        server.shutdown()
    assert process.returncode == {signal.SIGKILL: -9}.get(signal.Signals(number), 128 + number)
    assert "Traceback" not in message
    assert not (clone.path / "data").exists()
    clone.run(*STAGE, MNIST_MIRROR=str(mirror), **environment)
    assert left(tmp_path / "cache/mnist-pipeline/mnist") == {"lock", *(f"{name}.gz" for name in NAMES)}


def test_a_kill_in_the_middle_of_a_write_leaves_nothing_trusted(origin: Clone, mirror: Path, tmp_path: Path) -> None:
    """The part of a file that a killed process wrote is removed by the next one that writes it."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    clone, environment = project(origin, tmp_path)
    cache = tmp_path / "cache/mnist-pipeline/mnist"
    cache.mkdir(parents=True)
    (cache / f"train-images-idx3-ubyte.gz.{platform.node()}.{ended.pid}.tmp").write_bytes(b"a part")
    clone.run(*STAGE, MNIST_MIRROR=str(mirror), **environment)
    assert left(cache) == {"lock", *(f"{name}.gz" for name in NAMES)}


@pytest.mark.skipif("TEST_MIRRORS" not in os.environ, reason="reaches the internet: set TEST_MIRRORS=1")
@pytest.mark.parametrize("name", sorted(name for name, of in ENTRIES.items() if of.files))
def test_the_public_mirrors(name: str, tmp_path: Path) -> None:
    """Each public mirror of each file of each data set has what it is asked for."""
    for file in ENTRIES[name].files.values():
        for mirror in file.mirrors:
            assert mirrors.obtain(file, [mirror], tmp_path / str(file.mirrors.index(mirror)))


def test_a_machine_with_no_way_out_is_told_so(origin: Clone, tmp_path: Path) -> None:
    """With no mirror in reach `dvc repro` fails, names each, and never takes another data set."""
    clone = origin.clone(tmp_path / "clone")
    proxy = "http://127.0.0.1:9"  # nobody answers there
    failed = clone.run("dvc", "repro", status=None, XDG_CACHE_HOME=str(tmp_path), https_proxy=proxy, HTTPS_PROXY=proxy)
    assert failed.returncode != 0
    for mirror in FILES[0].mirrors:
        assert f"{mirror}: " in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "to get it back: dvc checkout\n" in failed.stderr
    assert not (clone.path / "data").exists()


def test_mnist_from_a_folder(mirror: Path, origin: Clone, tmp_path: Path) -> None:
    """The real four files, from MNIST_MIRROR to data/raw; the raw bytes are those that the whole field has."""
    clone = origin.clone(tmp_path / "clone")
    clone.run("python", "-m", "stages.download", MNIST_MIRROR=str(mirror), XDG_CACHE_HOME=str(tmp_path / "cache"))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (clone.path / raw.FOLDER).iterdir()}
    assert found == {file.name: file.raw_sha256 for file in FILES}
    assert list(map(len, (MNIST(clone.path / "data/raw", train=train) for train in (True, False)))) == [60_000, 10_000]


def test_digits_are_made_as_mnist_was(finished: Clone) -> None:
    """1,797 of them, the last 500 for the test; each within 20 x 20 and its centre of mass at the centre."""
    folder = finished.path / raw.FOLDER
    train, test = (idx.read(folder / f"{part}-images-idx3-ubyte") for part in ("train", "t10k"))
    assert (train.shape, test.shape) == ((1297, 28, 28), (500, 28, 28))
    labels = np.concatenate([idx.read(folder / f"{part}-labels-idx1-ubyte") for part in ("train", "t10k")])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    for image in np.concatenate([train, test]).astype(float):
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert max(np.ptp(rows), np.ptp(columns)) < 20
        centre = (image.sum(1) @ np.arange(28) / image.sum(), image.sum(0) @ np.arange(28) / image.sum())
        assert np.abs(np.array(centre) - 13.5).max() <= 0.5 + 1e-9


def test_ink_is_scaled_and_centred() -> None:
    """A bar of 1 x 2 becomes one of 10 x 20 in the middle; ink whose mass is at its lower end stays on the canvas."""
    made = digit.as_mnist(np.array([[0, 0, 0], [0, 7, 0], [0, 7, 0]]))
    expected = np.zeros((28, 28), dtype=np.uint8)
    expected[4:24, 9:19] = 255
    assert np.array_equal(made, expected)
    heavy = np.zeros((20, 20))
    heavy[:, 0], heavy[19] = 1, 255
    assert (digit.as_mnist(heavy)[19, 4:24] == 255).all()

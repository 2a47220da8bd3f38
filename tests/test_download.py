"""Download: MNIST held to its digests, from the cache, a folder, a server; scikit-learn's digits in MNIST's format."""

import functools
import gzip
import hashlib
import http.server
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stages import download
from stages.common import idx
from stages.common.errors import StageError
from tests.conftest import Clone

CONTENT = gzip.compress(b"fifty-nine bytes", mtime=0)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that has the file `x.gz`."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "x.gz").write_bytes(CONTENT)
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """The URL of a real server of `folder` on the loopback address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_comes_from_a_folder_or_a_server(folder: Path, server: str, tmp_path: Path) -> None:
    """Either gives the file, whole, and nothing else is in the cache."""
    for number, mirror in enumerate((str(folder), server)):
        cache = tmp_path / f"cache{number}"
        assert download.obtain("x.gz", SHA256, [mirror], cache).read_bytes() == CONTENT
        assert [path.name for path in cache.iterdir()] == ["x.gz"]


def test_what_is_cached_is_not_asked_for_again(folder: Path, tmp_path: Path) -> None:
    """A second call needs no mirror; a broken cache heals itself."""
    cache = tmp_path / "cache"
    download.obtain("x.gz", SHA256, [str(folder)], cache)
    shutil.move(folder, tmp_path / "away")
    assert download.obtain("x.gz", SHA256, [str(folder)], cache).read_bytes() == CONTENT
    shutil.move(tmp_path / "away", folder)
    (cache / "x.gz").write_bytes(CONTENT[:-1])
    assert download.obtain("x.gz", SHA256, [str(folder)], cache).read_bytes() == CONTENT


def test_the_next_mirror_serves_where_one_does_not(folder: Path, server: str, tmp_path: Path) -> None:
    """Wrong bytes, a missing file and a closed port are passed over."""
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "x.gz").write_bytes(b"<html>")
    mirrors = [str(tmp_path / "wrong"), str(tmp_path / "none"), "http://127.0.0.1:9", f"{server}/nothing", server]
    assert download.obtain("x.gz", SHA256, mirrors, tmp_path / "cache").read_bytes() == CONTENT


def test_when_no_mirror_serves_each_is_named_with_its_reason(server: str, tmp_path: Path) -> None:
    """The message says of each mirror why, without its password, and names both ways out; nothing is cached."""
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "x.gz").write_bytes(b"<html>")
    mirrors = [str(tmp_path / "wrong"), str(tmp_path / "none"), "http://u:secret@127.0.0.1:9", f"{server}/nothing"]
    with pytest.raises(StageError) as error:
        download.obtain("x.gz", SHA256, mirrors, tmp_path / "cache")
    lines = str(error.value).splitlines()
    assert lines[:5] == [
        "no mirror gave x.gz",
        f"  {tmp_path / 'wrong'}: sent other bytes: their SHA-256 is not {SHA256[:16]}…",
        f"  {tmp_path / 'none'}: has no such file",
        "  http://127.0.0.1:9: ConnectionError: [Errno 111] Connection refused",
        f"  {server}/nothing: answered 404 File not found",
    ]
    assert "MNIST_MIRROR=… dvc repro" in str(error.value)
    assert "dvc exp run -S download.dataset=digits" in str(error.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_machine_with_no_way_out_is_told_so(origin: Clone, tmp_path: Path) -> None:
    """With no mirror in reach `dvc repro` fails within a minute, names each, and never takes another data set."""
    clone = origin.clone(tmp_path / "clone")
    start = time.monotonic()
    proxy = "http://127.0.0.1:9"  # nobody answers there
    failed = clone.run("dvc", "repro", status=None, XDG_CACHE_HOME=str(tmp_path), https_proxy=proxy, HTTPS_PROXY=proxy)
    assert time.monotonic() - start < 60
    assert failed.returncode != 0
    for mirror in download.MIRRORS:
        assert f"{mirror}: " in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (clone.path / "data").exists()


def test_mnist_from_a_folder(mirror: Path, origin: Clone, tmp_path: Path) -> None:
    """The real four files, from MNIST_MIRROR to data/raw; the raw bytes are those that the whole field has."""
    clone = origin.clone(tmp_path / "clone")
    clone.run("python", "-m", "stages.download", MNIST_MIRROR=str(mirror), XDG_CACHE_HOME=str(tmp_path / "cache"))
    raw = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (clone.path / download.RAW).iterdir()}
    assert raw == {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }


def test_digits_are_made_as_mnist_was(finished: Clone) -> None:
    """1,797 of them, the last 500 for the test; each within 20 x 20 and its centre of mass at the centre."""
    raw = finished.path / download.RAW
    train, test = (idx.read(raw / f"{part}-images-idx3-ubyte") for part in ("train", "t10k"))
    assert (train.shape, test.shape) == ((1297, 28, 28), (500, 28, 28))
    labels = np.concatenate([idx.read(raw / f"{part}-labels-idx1-ubyte") for part in ("train", "t10k")])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    for image in np.concatenate([train, test]).astype(float):
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert max(np.ptp(rows), np.ptp(columns)) < 20
        centre = (image.sum(1) @ np.arange(28) / image.sum(), image.sum(0) @ np.arange(28) / image.sum())
        assert np.abs(np.array(centre) - 13.5).max() <= 0.5 + 1e-9


def test_ink_is_scaled_and_centred() -> None:
    """A bar of 1 x 2 becomes one of 10 x 20 in the middle."""
    made = download.as_mnist(np.array([[0, 0, 0], [0, 7, 0], [0, 7, 0]]))
    expected = np.zeros((28, 28), dtype=np.uint8)
    expected[4:24, 9:19] = 255
    assert np.array_equal(made, expected)

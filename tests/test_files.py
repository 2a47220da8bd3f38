"""Files appear whole or not at all, with the same bytes for the same content."""

import itertools
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.common import files, idx
from stages.common.errors import StageError
from tests.conftest import PROJECT


def test_json_is_sorted_and_rounded(tmp_path: Path) -> None:
    """Keys are sorted, floats rounded to six digits, and the file ends in a newline."""
    files.write_json(tmp_path / "m.json", {"b": {"x": 1 / 3}, "a": 2})
    assert (tmp_path / "m.json").read_text() == '{\n  "a": 2,\n  "b": {\n    "x": 0.333333\n  }\n}\n'


def test_json_refuses_what_dvc_cannot_read(tmp_path: Path) -> None:
    """A NaN raises, and the file that was there stays as it was."""
    files.write_json(tmp_path / "m.json", {"a": 1})
    before = (tmp_path / "m.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "m.json", {"a": math.nan})
    assert (tmp_path / "m.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


def test_csv_is_the_same_on_every_system(tmp_path: Path) -> None:
    """Lines end in one line feed, floats are rounded."""
    files.write_csv(tmp_path / "t.csv", ("a", "b"), [(1, 2 / 3)])
    assert (tmp_path / "t.csv").read_bytes() == b"a,b\n1,0.666667\n"


def test_a_failed_write_leaves_no_part(tmp_path: Path) -> None:
    """Where the target cannot be replaced, no temporary file is left."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        files.write_whole(tmp_path / "taken", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    with pytest.raises(IsADirectoryError, match=r"Is a directory: '\.'"):
        files.write_whole(Path(), b"content")


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    """A file takes the place of a file alone: a pipe, as a device such as /dev/null, is refused and stays."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match=r"a device or a pipe, expected a file: '.*pipe'"):
        files.write_whole(tmp_path / "pipe", b"content")
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


KILLED_IN_A_WRITE = """
import os, signal
from pathlib import Path
from stages.common import files
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
files.write_whole(Path("{name}"), b"content")
"""


def test_the_file_of_a_killed_write_is_removed(tmp_path: Path) -> None:
    """The next write of the same file removes it: not those of other files, of other machines or of live processes."""

    def names() -> set[str]:
        return {path.name for path in tmp_path.iterdir()}

    for name in ("m[1].json", "other.json"):
        code = KILLED_IN_A_WRITE.format(name=tmp_path / name)
        assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == -signal.SIGKILL
    first, second = sorted(names())
    assert (first.endswith(".tmp"), second.endswith(".tmp")) == (True, True)
    assert (tmp_path / first).read_bytes() == b"content"  # all of it is there when the disk is asked to keep it
    dead = first.split(".")[-2]
    host = first.removesuffix(f".{dead}.tmp")
    live = {f"{host}.{process}.tmp" for process in (os.getppid(), 1)}  # 1: of another user, unless root runs the tests
    others = {second, *live, f"{host}.mine.tmp", f"m[1].json.elsewhere.{dead}.tmp", f"m[1].json.{dead}.tmp"}
    others.add("m[1].json.tmp")
    for name in others:
        (tmp_path / name).touch()
    files.write_json(tmp_path / "m[1].json", {})
    assert names() == {"m[1].json", *others}
    files.remove_stale(tmp_path)
    assert names() == {"m[1].json", *others - {second}}


ROWS = np.arange(0, 400, 2)


def test_rows_come_back(tmp_path: Path) -> None:
    """What `write_npy` wrote."""
    files.write_npy(tmp_path / "rows.npy", ROWS)
    assert np.array_equal(files.read_rows(tmp_path / "rows.npy", 399), ROWS)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (ROWS.astype(np.int32), r"int32 of shape \(200,\)"),
        (ROWS.astype(np.float64), r"float64 of shape \(200,\)"),
        (ROWS.reshape(20, 10), r"int64 of shape \(20, 10\)"),
        (ROWS[:0], r"int64 of shape \(0,\)"),
        (ROWS + 1, r"int64 of shape \(200,\), expected int64, of 0 to 398 in rising order"),
        (ROWS - 1, r"int64 of shape \(200,\)"),
        (ROWS[::-1].copy(), r"int64 of shape \(200,\)"),
        (ROWS.repeat(2), r"int64 of shape \(400,\)"),
    ],
)
def test_other_rows_are_refused(tmp_path: Path, rows: np.ndarray, reason: str) -> None:
    """Another dtype or shape, none, and rows that are out of range, twice there or not in order."""
    files.write_npy(tmp_path / "rows.npy", rows)
    with pytest.raises(StageError, match=rf"rows\.npy: damaged \({reason}.*\); delete it and run `dvc repro`"):
        files.read_rows(tmp_path / "rows.npy", 399)


@pytest.mark.filterwarnings("ignore:Data type alias")  # NumPy's, of a damaged dtype
def test_a_damaged_file_of_rows_is_refused(tmp_path: Path) -> None:
    """Cut anywhere, longer, or with any bit of its header flipped, it is refused by name, or gives the same rows."""
    path = tmp_path / "rows.npy"
    files.write_npy(path, ROWS)
    content = path.read_bytes()
    damaged = [content[:size] for size in range(0, len(content), 61)] + [content + b"\0"]
    damaged.append(content[:8] + b"\xff\x3f" + content[10:] + bytes(2**14))  # of a longer header, NumPy has two lines
    for place, bit in itertools.product(range(128), range(8)):
        damaged.append(content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :])
    refused = 0
    for other in damaged:
        path.write_bytes(other)
        try:
            assert np.array_equal(files.read_rows(path, 399), ROWS)
        except StageError as error:
            assert re.fullmatch(rf"{path}: damaged \(.*", str(error))
            refused += 1
    assert refused >= len(damaged) - 10  # a blank is padding here and there


def test_idx_known_bytes(tmp_path: Path) -> None:
    """Two images of 1 x 3 pixels: magic 0x00000803, three dimensions, six bytes; and back. So do two integers."""
    values = np.arange(6, dtype=np.uint8).reshape(2, 1, 3)
    content = bytes.fromhex("00000803 00000002 00000001 00000003 000102030405")
    assert idx.encode(values) == content
    (tmp_path / "x").write_bytes(content)
    assert np.array_equal(idx.read(tmp_path / "x"), values)
    integers = bytes.fromhex("00000c01 00000002 fffffffe 00000003")
    assert idx.encode(idx.decode(integers, "x")) == idx.encode(np.array([-2, 3], np.int32)) == integers
    with pytest.raises(TypeError, match="got float64, expected uint8 or int32"):
        idx.encode(np.zeros(1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", "not an IDX file"),
        (b"", "not an IDX file"),
        (bytes.fromhex("0000"), "not an IDX file"),
        (bytes.fromhex("000008"), "not an IDX file"),
        (bytes.fromhex("1f8b0800"), "not an IDX file"),  # of a packed one
        (bytes.fromhex("00000d01 00000000"), "not an IDX file"),  # floats
        (bytes.fromhex("00000801 00000003 0001"), "do not hold its dimensions"),
        (bytes.fromhex("00000801 00000001 0001"), "do not hold its dimensions"),
        (bytes.fromhex("00000803 0000"), "do not hold its dimensions"),
        (bytes.fromhex("00000803 00000001"), "do not hold its dimensions"),
        (bytes.fromhex("00000803 80000000 80000000 00000004"), "do not hold its dimensions"),  # 2 ** 64 bytes
    ],
)
def test_idx_refuses_what_is_not_whole(tmp_path: Path, content: bytes, message: str) -> None:
    """Another file, none, one cut short and one too long are refused by name."""
    with pytest.raises(StageError, match="x: not found; run `dvc repro download` or `dvc pull` first"):
        idx.read(tmp_path / "x")
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(StageError, match=f"x: .*{message}.*dvc repro"):
        idx.read(tmp_path / "x")

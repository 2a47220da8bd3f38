"""Files appear whole or not at all, with the same bytes for the same content."""

import math
from pathlib import Path

import numpy as np
import pytest

from stages.common import files, idx
from stages.common.errors import StageError


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


def test_idx_known_bytes(tmp_path: Path) -> None:
    """Two images of 1 x 3 pixels: magic 0x00000803, three dimensions, six bytes; and back."""
    values = np.arange(6, dtype=np.uint8).reshape(2, 1, 3)
    content = bytes.fromhex("00000803 00000002 00000001 00000003 000102030405")
    assert idx.encode(values) == content
    (tmp_path / "x").write_bytes(content)
    assert np.array_equal(idx.read(tmp_path / "x"), values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", "not an IDX file"),
        (b"", "not an IDX file"),
        (bytes.fromhex("00000801 00000003 0001"), "do not hold its dimensions"),
        (bytes.fromhex("00000801 00000001 0001"), "do not hold its dimensions"),
        (bytes.fromhex("00000803 00000001"), "do not hold its dimensions"),
    ],
)
def test_idx_refuses_what_is_not_whole(tmp_path: Path, content: bytes, message: str) -> None:
    """Another file, one cut short and one too long are refused by name."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(StageError, match=f"x: .*{message}.*dvc repro"):
        idx.read(tmp_path / "x")

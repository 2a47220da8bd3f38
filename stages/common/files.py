"""Files that appear whole or not at all, with the same bytes for the same content."""

import csv
import errno
import glob
import io
import json
import os
import platform
import shutil
import tokenize
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.common.errors import StageError

DIGITS = 6  # after the point, of every float in a tracked file


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: whoever looks finds the old file or the new one, never a part.

    Raises OSError, which names `path`.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():  # such as /dev/null, which root could replace
        raise FileExistsError(errno.EEXIST, "a device or a pipe, expected a file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path.parent, glob.escape(path.name))
    temporary = path.with_name(f"{path.name}.{platform.node()}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # that of a full disk names no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale(folder: Path, names: str = "*") -> None:
    """Remove the temporary files of `write_whole` for `names` (a pattern) in `folder` that killed processes have left.

    Folders of such names, too: tools.dataset fills them. Processes of other machines are not looked at: they may share
    the folder.
    """
    for temporary in folder.glob(f"{names}.{platform.node()}.*.tmp"):
        try:
            os.kill(int(temporary.suffixes[-2][1:]), 0)  # asks whether there is such a process
        except ProcessLookupError:
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink(missing_ok=True)
        except (PermissionError, ValueError):
            pass  # there is, of another user; or the name has no number


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write `values` as JSON, keys sorted, floats rounded. Raises ValueError for a float that is not finite."""
    text = json.dumps(_rounded(values), indent=2, sort_keys=True, allow_nan=False)
    write_whole(path, f"{text}\n".encode())


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write `rows` under `header` as CSV, floats rounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(_rounded(list(row)) for row in rows)
    write_whole(path, text.getvalue().encode())


def write_npy(path: Path, values: np.ndarray) -> None:
    """Write `values` in NumPy's own format."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    write_whole(path, buffer.getvalue())


def read_rows(path: Path, count: int) -> np.ndarray:
    """Return the rows (n; of 0 to `count - 1`, rising) that `write_npy` wrote. Raises StageError if they are others."""
    try:
        with path.open("rb") as file:
            rows, rest = np.lib.format.read_array(file, allow_pickle=False), file.read()
        whole = not rest and rows.dtype == np.int64 and rows.ndim == 1 and len(rows) > 0
        if not whole or rows[0] < 0 or rows[-1] >= count or (np.diff(rows) <= 0).any():
            raise ValueError(f"{rows.dtype} of shape {rows.shape}, expected int64, of 0 to {count - 1} in rising order")
    except (ValueError, SyntaxError, tokenize.TokenError) as error:  # the last two are of NumPy's header
        reason = str(error).partition("\n")[0]
        raise StageError(f"{path}: damaged ({reason}); delete it and run `dvc repro`") from None
    return rows


def _rounded(values: Any) -> Any:
    match values:
        case float():
            return round(values, DIGITS)
        case dict():
            return {key: _rounded(value) for key, value in values.items()}
        case list():
            return [_rounded(value) for value in values]
    return values

"""Files that appear whole or not at all, with the same bytes for the same content."""

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

DIGITS = 6  # after the point, of every float in a tracked file


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: whoever looks finds the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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


def _rounded(values: Any) -> Any:
    match values:
        case float():
            return round(values, DIGITS)
        case dict():
            return {key: _rounded(value) for key, value in values.items()}
        case list():
            return [_rounded(value) for value in values]
    return values

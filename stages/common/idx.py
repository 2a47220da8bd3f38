"""IDX, the file format of MNIST: a magic number, the dimensions, the bytes."""

import math
from pathlib import Path

import numpy as np

from stages.common.errors import StageError

DTYPES = {0x08: "u1", 0x0C: ">i4"}


def encode(values: np.ndarray) -> bytes:
    """Return `values` (uint8 or int32, any shape) as the bytes of an IDX file. Raises TypeError for another dtype."""
    for code, dtype in DTYPES.items():
        if values.dtype.newbyteorder(">") == dtype:
            header = np.array([code << 8 | values.ndim, *values.shape], dtype=">u4")
            return b"".join([header.tobytes(), np.ascontiguousarray(values, dtype).data])
    raise TypeError(f"got {values.dtype}, expected uint8 or int32")


def read(path: Path) -> np.ndarray:
    """Return what the IDX file at `path` holds (uint8 or int32). Raises StageError if it is missing, or not whole."""
    if not path.is_file():
        raise StageError(f"{path}: not found; run `dvc repro download` or `dvc pull` first")
    return decode(np.fromfile(path, np.uint8).data, str(path))


def decode(content: bytes | memoryview, name: str) -> np.ndarray:
    """Return what `content`, that of an IDX file called `name`, holds: the same memory, not a copy."""
    advice = "delete it and run `dvc repro`"
    if len(content) < 4 or content[:2] != bytes(2) or content[2] not in DTYPES:
        raise StageError(f"{name}: not an IDX file of bytes or integers (starts with {content[:4].hex()}); {advice}")
    dtype, header = np.dtype(DTYPES[content[2]]), 4 * (1 + content[3])
    shape = [int.from_bytes(content[at : at + 4]) for at in range(4, header, 4)]
    if len(content) - header != dtype.itemsize * math.prod(shape):
        raise StageError(f"{name}: {len(content)} bytes do not hold its dimensions {shape}; {advice}")
    return np.frombuffer(content, dtype=dtype, offset=header).reshape(shape)

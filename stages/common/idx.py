"""IDX, the file format of MNIST: a magic number, the dimensions, the bytes."""

from pathlib import Path

import numpy as np

from stages.common.errors import StageError

UNSIGNED_BYTE = 0x08


def encode(values: np.ndarray) -> bytes:
    """Return `values` (uint8, any shape) as the bytes of an IDX file. Raises TypeError for another dtype."""
    if values.dtype != np.uint8:
        raise TypeError(f"got {values.dtype}, expected uint8")
    header = np.array([UNSIGNED_BYTE << 8 | values.ndim, *values.shape], dtype=">u4")
    return header.tobytes() + values.tobytes()


def read(path: Path) -> np.ndarray:
    """Return what the IDX file at `path` holds (uint8). Raises StageError if it is none, or not whole."""
    content = path.read_bytes()
    mend = "delete it and run `dvc repro`"
    if len(content) < 4 or content[:3] != bytes([0, 0, UNSIGNED_BYTE]):
        raise StageError(f"{path}: not an IDX file of bytes (starts with {content[:4].hex()}); {mend}")
    header = 4 * (1 + content[3])
    shape = np.frombuffer(content[4:header], dtype=">u4").tolist()
    if len(shape) != content[3] or len(content) - header != np.prod(shape, dtype=np.int64):
        raise StageError(f"{path}: {len(content)} bytes do not hold its dimensions {shape}; {mend}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)

"""A digit as MNIST has it: 28 x 28 bytes, the ink scaled into 20 x 20 and centred by its mass."""

import numpy as np
from PIL import Image


def as_mnist(ink: np.ndarray) -> np.ndarray:
    """Return `ink` (any shape and scale, 0 is paper) as 28 x 28 bytes, made as MNIST was.

    The ink's box is scaled into 20 x 20, its proportions kept, and its centre of mass put at the centre of 28 x 28
    (LeCun, Bottou, Bengio and Haffner 1998, section III.A).
    """
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = np.maximum(1, np.array(box.shape) * 20 // max(box.shape)).tolist()
    # Pillow resizes bytes in whole numbers and the moments are whole, too: the same on every machine
    ink_bytes = Image.fromarray((box * (255 / box.max())).astype(np.uint8))
    scaled = np.asarray(ink_bytes.resize((width, height), Image.Resampling.BICUBIC))
    mass = scaled.sum(dtype=np.int64)
    centre_row = (scaled.sum(1, dtype=np.int64) * np.arange(height)).sum() / mass
    centre_column = (scaled.sum(0, dtype=np.int64) * np.arange(width)).sum() / mass
    top = np.clip(round(13.5 - centre_row), 0, 28 - height)
    left = np.clip(round(13.5 - centre_column), 0, 28 - width)
    canvas = np.zeros((28, 28), dtype=np.uint8)
    canvas[top : top + height, left : left + width] = scaled
    return canvas

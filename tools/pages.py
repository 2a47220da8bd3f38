"""Picture files as pages of grey values: five formats, of any depth, in grey or colour, upright."""

import io
import sys
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from stages.common.errors import StageError
from stages.download.folder import BROKEN

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
SAMPLE_FORMAT = 339  # a tag of TIFF
MOST_BYTES, MOST_PIXELS, LARGEST_SIDE = 64 * 2**20, 64 * 10**6, 768


class Page(NamedTuple):
    """A page of a picture."""

    grey: np.ndarray  # (height, width; 0..255), the longest side at most LARGEST_SIDE
    width: int  # of the page as it is, in pixels
    height: int


def read(name: str) -> list[Page]:
    """Return the pages of the picture called `name` (`-` is standard input). Raises StageError if it cannot be read."""
    content = content_of(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd files; what cannot be read raises
            image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
            # More pictures in a JPEG are a camera's previews
            count = 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
            pages, pixels = [], 0
            for number in range(count):
                image.seek(number)
                pixels += image.width * image.height
                if pixels > MOST_PIXELS:
                    size = f"{image.width} x {image.height} pixels" if count == 1 else f"{count} pages"
                    raise StageError(f"{size}; expected at most {MOST_PIXELS:,} pixels")
                pages.append(page(image))
            return pages
    except UnidentifiedImageError:
        raise StageError(f"not a picture of the kinds {', '.join(FORMATS)}, or a broken or rare one") from None
    except BROKEN as error:
        raise StageError(f"a broken picture: {error}") from None


def content_of(name: str) -> bytes:
    """Return the bytes of the file called `name`, or of standard input. Raises StageError for none, or too many."""
    try:
        if name == "-":
            content = sys.stdin.buffer.read(MOST_BYTES + 1) if sys.stdin else b""
        else:
            with open(name, "rb") as file:  # noqa: PTH123 - Path("") is this folder
                content = file.read(MOST_BYTES + 1)
    except IsADirectoryError:
        raise StageError("a folder with no files in it; folders inside are not read") from None
    except OSError as error:
        raise StageError(error.strerror or str(error)) from None
    if len(content) > MOST_BYTES:
        raise StageError(f"larger than {MOST_BYTES // 2**20} MiB")
    if not content:
        raise StageError("nothing on standard input, or it was read before" if name == "-" else "an empty file")
    return content


def page(image: Image.Image) -> Page:
    """Return the page that `image` stands at, upright. Raises one of BROKEN."""
    width, height = image.size
    image.draft("RGB", (LARGEST_SIDE, LARGEST_SIDE))  # a JPEG is decoded no larger than needed
    upright = ImageOps.exif_transpose(image)
    if (upright.width > upright.height) != (width > height):
        width, height = height, width
    if upright.mode[0] in "IF":  # which `convert` would cut off instead of scaling
        upright = Image.fromarray(eight_bits(np.asarray(upright)))
    if upright.mode == "L" and getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT) == (2,):
        upright = upright.point(lambda value: value ^ 128)  # signed bytes, which Pillow takes for unsigned ones
    colored = upright.convert("RGBA")
    colored.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    *channels, alpha = np.moveaxis(np.asarray(colored).astype(np.float32), 2, 0)
    # What is transparent is paper, and paper is unlike the ink
    ground = 0 if alpha.min() < 255 and (np.mean(channels, axis=0) * alpha).sum() > 127.5 * alpha.sum() else 255
    blended = [ground + (channel - ground) * (alpha / 255) for channel in channels]
    return Page(max(blended, key=np.std), width, height)  # yellow on white differs in blue alone


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Return `values` (height, width; integers or floats) as bytes: 0 to the most that their number of bits holds.

    Floats up to 1 are of 0..1. Raises ValueError if one is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("it has pixels that are NaN or infinite")
    low = min(0.0, float(values.min()))
    high = float(values.max()) - low
    most = next((most for most in (1, *(2.0**bits - 1 for bits in range(8, 33))) if high <= most), high)
    return ((values - low) * (255 / most)).astype(np.uint8)

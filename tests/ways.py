"""Pictures of a digit, made in many ways, as phones, scanners and drawing programs make them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# A digit as lines, in a frame of 100 x 100
STROKES = {
    0: [[(50, 8), (30, 20), (24, 50), (30, 80), (50, 92), (70, 80), (76, 50), (70, 20), (50, 8)]],
    1: [[(52, 8), (48, 92)]],
    2: [[(26, 28), (38, 12), (60, 10), (72, 26), (64, 46), (24, 90), (76, 90)]],
    3: [[(28, 16), (52, 8), (70, 22), (64, 42), (46, 48), (68, 56), (74, 76), (52, 92), (26, 84)]],
    4: [[(34, 8), (26, 54), (74, 54)], [(66, 10), (62, 92)]],
    5: [[(72, 10), (34, 10), (30, 44), (56, 42), (74, 60), (66, 84), (46, 92), (24, 84)]],
    6: [[(62, 8), (36, 36), (26, 66), (38, 90), (62, 88), (70, 68), (56, 54), (30, 66)]],
    7: [[(24, 12), (76, 12), (44, 92)]],
    8: [[(68, 20), (48, 8), (32, 24), (68, 70), (50, 92), (30, 76), (68, 30), (68, 20)]],
    9: [[(70, 28), (50, 10), (32, 26), (42, 48), (68, 36), (70, 28), (66, 60), (58, 92)]],
}
SIDE = 280  # pixels of a page


def drawn(
    figure: int, ink: Any = 0, paper: Any = 255, mode: str = "L", size: int = 300, width: int | None = None
) -> Image.Image:
    """Return a picture of `figure`, drawn by lines of `width` pixels."""
    image = Image.new(mode, (size, size), paper)
    for stroke in STROKES[figure]:
        points = [(x * size / 100, y * size / 100) for x, y in stroke]
        ImageDraw.Draw(image).line(points, fill=ink, width=width or size // 11, joint="curve")
    return image


def page(ink: Image.Image, random: np.random.Generator) -> np.ndarray:
    """Return `ink` (grey, paper 0) at some place of a page, and of some size (SIDE, SIDE; 0 is ink, 1 is paper)."""
    side = int(random.integers(SIDE // 2, SIDE - 30))
    image = Image.new("L", (SIDE, SIDE))
    left, top = random.integers(10, SIDE - side - 9, 2).tolist()
    image.paste(ink.resize((side, side), Image.Resampling.BICUBIC), (left, top))
    return 1 - np.asarray(image) / 255


def saved(values: np.ndarray, path: Path, **options: Any) -> None:
    """Write `values` (0..1, grey or in colours) as a picture of 8 bits."""
    Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8)).save(path, **options)


def ramp(random: np.random.Generator) -> np.ndarray:
    """Return values (SIDE, SIDE) that rise from about -1 to 1 in some direction."""
    angle = random.uniform(0, 2 * np.pi)
    rise = np.linspace(-1, 1, SIDE)
    return (rise * np.cos(angle) + rise[:, None] * np.sin(angle)) / np.sqrt(2)


Way = Callable[[np.ndarray, np.random.Generator, Path], None]


def gradient(values: np.ndarray, random: np.random.Generator, path: Path) -> None:
    """A photo: lit from one side, with the noise of a camera."""
    photo = (0.15 + 0.75 * values) * (0.65 + 0.35 * ramp(random))
    saved(photo + random.normal(0, 0.012, values.shape), path, quality=85)


def border(pixels: int) -> Way:
    """Return the way to have a black border of so many `pixels`."""
    return lambda values, random, path: saved(np.pad(values, pixels), path)


def desk(values: np.ndarray, random: np.random.Generator, path: Path) -> None:
    """A photo of a sheet that lies askew on dark wood."""
    sheet, angle = Image.fromarray((values * 225).astype(np.uint8)), random.uniform(-8, 8)
    turned = sheet.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    where = Image.new("L", sheet.size, 255).rotate(angle, Image.Resampling.BICUBIC, expand=True)
    height, width = turned.height + int(random.integers(20, 200)), turned.width + int(random.integers(20, 200))
    wood = 45 + 12 * np.sin(np.arange(height)[:, None] / 3 + 0.02 * np.arange(width))
    photo = Image.fromarray(wood.astype(np.uint8))
    at = int(random.integers(5, width - turned.width - 5)), int(random.integers(5, height - turned.height - 5))
    photo.paste(turned, at, where)
    saved(np.asarray(photo) / 255 + random.normal(0, 0.01, (height, width)), path, quality=85)


def card(values: np.ndarray, random: np.random.Generator, path: Path) -> None:
    """A white card with round corners on a transparent ground."""
    alpha, grey = (Image.new("L", (SIDE + 120, SIDE + 80)) for _ in range(2))
    ImageDraw.Draw(alpha).rounded_rectangle((60, 40, SIDE + 59, SIDE + 39), radius=20, fill=255)
    grey.paste(Image.fromarray((values * 255).astype(np.uint8)), (60, 40))
    Image.merge("LA", (grey, alpha)).save(path)


def ruled(values: np.ndarray, random: np.random.Generator, path: Path) -> None:
    """Ruled paper, whose lines cross the digit."""
    distance, first = random.integers(24, 60), random.integers(0, 24)
    lines = np.where((np.arange(SIDE)[:, None] - first) % distance < 2, 0.45, 1)
    saved(np.minimum(lines, values), path)


def shadow(values: np.ndarray, random: np.random.Generator, path: Path) -> None:
    """The shadow of the phone on a part of the paper, its edge sharp or soft."""
    lit = (ramp(random) - random.uniform(-0.4, 0.4)) / random.uniform(0.01, 0.15)
    saved((0.1 + 0.8 * values) * (0.55 + 0.45 / (1 + np.exp(-lit))), path, quality=85)


def small(side: int) -> Way:
    """Return the way to cut the digit out as a square, and scale it down to `side` pixels."""

    def way(values: np.ndarray, random: np.random.Generator, path: Path) -> None:
        top, bottom, left, right = box(values)
        half = max(bottom - top, right - left) // 2 + 1
        row, column = (top + bottom) // 2 + SIDE, (left + right) // 2 + SIDE
        square = np.pad(values, SIDE, constant_values=1)[row - half : row + half, column - half : column + half]
        Image.fromarray((square * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BOX).save(path)

    return way


def tight(values: np.ndarray, random: np.random.Generator, path: Path) -> None:
    """Cut out along the ink."""
    top, bottom, left, right = box(values)
    saved(values[top:bottom, left:right], path)


def box(values: np.ndarray) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of the ink."""
    rows, columns = np.flatnonzero((values < 0.5).any(1)), np.flatnonzero((values < 0.5).any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def inverted(values: np.ndarray, random: np.random.Generator, path: Path) -> None:
    """White on black."""
    saved(1 - values, path)


def chalk(values: np.ndarray, random: np.random.Generator, path: Path) -> None:
    """A blackboard, lit from one side."""
    saved((0.8 - 0.6 * values) * (0.65 + 0.35 * ramp(random)), path, quality=80)


def colours(values: np.ndarray, random: np.random.Generator, path: Path) -> None:
    """Yellow on white, red on green and others, which differ in one of the three channels at least."""
    ink, paper = random.choice([0.05, 0.95], (2, 3))
    if (ink == paper).all():
        ink[2] = 1 - ink[2]
    saved(ink + values[..., None] * (paper - ink), path, lossless=True)


def jpeg(values: np.ndarray, random: np.random.Generator, path: Path) -> None:
    """Out of focus, and with the noise of strong compression."""
    blurred = Image.fromarray((70 + values * 130).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
    blurred.save(path, quality=12)


def turned(values: np.ndarray, random: np.random.Generator, path: Path) -> None:
    """Stored lying on its side, as phones do."""
    saved(np.rot90(values), path, exif=orientation(6), quality=90)


def sixteen(values: np.ndarray, random: np.random.Generator, path: Path) -> None:
    """16 bits, stored lying on the other side."""
    lying = (np.rot90(values, -1) * 50_000 + 9_000).astype(np.uint16)
    Image.fromarray(lying).save(path, exif=orientation(8))


def orientation(number: int) -> Image.Exif:
    """Return the EXIF data that say how the picture is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def numbers(kind: type, ink: float, paper: float) -> Way:
    """Return the way to have pixels of `kind`."""
    return lambda values, random, path: Image.fromarray((ink + values * (paper - ink)).astype(kind)).save(path)


WAYS: dict[str, Way] = {
    "gradient.jpg": gradient,
    "border2.png": border(2),
    "border10.png": border(10),
    "desk.jpg": desk,
    "card.png": card,
    "ruled.png": ruled,
    "shadow.jpg": shadow,
    "5pixels.png": small(5),
    "12pixels.bmp": small(12),
    "tight.png": tight,
    "inverted.png": inverted,
    "chalk.jpg": chalk,
    "colours.webp": colours,
    "compressed.jpg": jpeg,
    "turned.jpg": turned,
    "sixteen_bits.png": sixteen,
    "twelve_bits.tiff": numbers(np.uint16, 300, 3_900),
    "integers.tiff": numbers(np.int32, -900_000, 1_100_000),
    "floats.tiff": numbers(np.float32, 0.02, 0.9),
}

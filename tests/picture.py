"""Make two pictures of the documentation.

    python -m tests.picture

docs/page.png is the report, with a digit drawn by the pointer as a hand draws it. docs/distortions.png are training
images, distorted. Needs MNIST and report/index.html (`dvc repro`), and Chromium.
"""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from scipy.interpolate import splev, splprep

from stages.common import raw, settings
from stages.net import exact
from stages.net.workers import Workers
from stages.train import recipe
from stages.train.distortion import distort
from stages.train.images import Images

PAGE, DISTORTIONS = Path("docs/page.png"), Path("docs/distortions.png")
WIDTH, SCALE = 1000, 1.5
# What a hand went through, as shares of the square
THREE = [(0.31, 0.25), (0.44, 0.16), (0.62, 0.19), (0.66, 0.33), (0.52, 0.46), (0.45, 0.48)]
BELOW = [(0.46, 0.48), (0.63, 0.5), (0.72, 0.63), (0.64, 0.79), (0.45, 0.85), (0.28, 0.77)]


SHOWN: dict[str, dict[str, float | bool]] = {
    "as they are": {},
    "shift: 2": {"shift": 2},
    "rotate: 15": {"rotate": 15},
    "scale: 0.2": {"scale": 0.2},
    "elastic: 2": {"elastic": 2},
    "flip: true": {"flip": True},
    "all but flip": {"shift": 2, "rotate": 15, "scale": 0.2, "elastic": 2},
}


def main() -> None:
    """Write both pictures."""
    page()
    distortions()


def distortions() -> None:
    """Draw the first training images, in a line for each of the ways SHOWN."""
    images, rows = torch.from_numpy(raw.images("train"))[:10], torch.arange(10)
    fast = settings.load(recipe.Recipe, path=recipe.path("fast"))
    figure, lines = pyplot.subplots(len(SHOWN), figsize=(5, 2.9), dpi=160, layout="constrained")
    for axes, (name, changes) in zip(lines, SHOWN.items(), strict=True):
        chosen, distorted = fast.model_copy(update={"shift": 0, **changes}), images.clone()
        with Workers(1) as workers:
            distort(images, rows, chosen, exact.generator(0, "distortion"), workers, out=distorted)
        moves = torch.randint(2 * chosen.shift + 1, (10, 2), generator=exact.generator(0, "shift"))
        pixels = Images(distorted, chosen.shift)(torch.column_stack([rows, moves]))[:, 0]
        axes.imshow(torch.cat(list(pixels), 1), cmap="gray", vmin=0, vmax=1)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.set(xticks=[], yticks=[])
    figure.savefig(drawn := io.BytesIO(), bbox_inches="tight")
    Image.open(drawn).convert("L").quantize(32).save(DISTORTIONS, optimize=True)


def page() -> None:
    """Open the report, draw, and write the picture of its first section."""
    with report() as tab:
        draw(tab, [*curve(THREE), *curve(BELOW)])
        tab.mouse.move(0, 0)
        end = tab.locator("#maps").bounding_box()
        assert end is not None
        shot = tab.screenshot(
            clip={"x": 0, "y": 0, "width": WIDTH, "height": end["y"] + end["height"] + 10}, full_page=True
        )
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(PAGE, optimize=True)
    print(f"{PAGE}: {picture.width} x {picture.height}, {PAGE.stat().st_size:,} bytes")


@contextmanager
def report() -> Iterator[Page]:
    """Open report/index.html in a headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_page(
            viewport={"width": WIDTH, "height": 900}, device_scale_factor=SCALE, color_scheme="light"
        )
        tab.goto(Path("report/index.html").absolute().as_uri())
        yield tab
        browser.close()


def curve(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return a smooth way through `points`."""
    spline, _ = splprep(np.array(points).T, s=0)
    return list(zip(*splev(np.linspace(0, 1, 40), spline), strict=True))


def draw(tab: Page, points: list[tuple[float, float]]) -> None:
    """Draw one stroke through `points`, shares of the square."""
    box = tab.locator("#square").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    for place in places:
        tab.mouse.move(*place)
    tab.mouse.up()


if __name__ == "__main__":
    main()

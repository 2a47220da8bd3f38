"""Make the README's picture, docs/page.png: the page, with a digit drawn by the pointer as a hand draws it.

    python -m tests.picture

Needs report/index.html (`dvc repro`) and Chromium.
"""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from scipy.interpolate import splev, splprep

TARGET = Path("docs/page.png")
WIDTH, SCALE = 1000, 1.5
# What a hand went through, as shares of the square
THREE = [(0.31, 0.25), (0.44, 0.16), (0.62, 0.19), (0.66, 0.33), (0.52, 0.46), (0.45, 0.48)]
BELOW = [(0.46, 0.48), (0.63, 0.5), (0.72, 0.63), (0.64, 0.79), (0.45, 0.85), (0.28, 0.77)]


def main() -> None:
    """Open the page, draw, and write the picture of its first section."""
    with report() as tab:
        draw(tab, [*curve(THREE), *curve(BELOW)])
        tab.mouse.move(0, 0)
        end = tab.locator("#maps").bounding_box()
        assert end is not None
        shot = tab.screenshot(
            clip={"x": 0, "y": 0, "width": WIDTH, "height": end["y"] + end["height"] + 10}, full_page=True
        )
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(TARGET, optimize=True)
    print(f"{TARGET}: {picture.width} x {picture.height}, {TARGET.stat().st_size:,} bytes")


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

"""Measure which share of MNIST's test digits `predict` answers, and of letters, shapes and blank pages.

    python -m tests.unclear

Needs models/model.pt and data/raw (`dvc repro`). Prints a table in Markdown.
"""

import string
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from stages.common import errors, raw
from stages.net import exact, inference, model
from stages.net.workers import Workers, available
from tools import predict
from tools.pages import Page

FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Italic")
ALIKE = "BbDGgIiJjlOoQqSsTtZz"  # letters that many write as they write a digit
SIDE = 200  # pixels of the pictures


def main() -> None:
    """Print the table."""
    exact.pin()
    net = model.trained(model.read())
    random = np.random.default_rng(0)
    images, labels = raw.images("t10k"), raw.labels("t10k")
    digits = answered(net, images)
    wrong = sum(said != [label] for said, label in zip(digits, labels, strict=True) if said)
    unlike = "".join(letter for letter in string.ascii_letters if letter not in ALIKE)
    print("| pictures | number | answered |\n|---|---|---|")
    line("MNIST's test digits", digits)
    print(f"| of these, with another digit than the label | | {wrong} |")
    line("printed letters, unlike digits", answered(net, letters(unlike)))
    line(f"printed letters, much like digits: {' '.join(ALIKE)}", answered(net, letters(ALIKE)))
    line("shapes and scribbles", answered(net, shapes(random)))
    line("blank pages: lit from a side, noisy, shaded, ruled, framed", answered(net, blanks(random)))


def line(name: str, answers: list[list[int]]) -> None:
    """Print a line of the table."""
    print(f"| {name} | {len(answers):,} | {np.mean([bool(said) for said in answers]):.1%} |")


def answered(net: torch.nn.Module, pictures: Iterable[np.ndarray]) -> list[list[int]]:
    """Return the digits that `predict` reads in each picture (height, width; 0..255); none where it says an error."""
    found = []
    for grey in pictures:
        try:
            found.append(predict.in_place(Page(np.asarray(grey, dtype=np.float32), grey.shape[1], grey.shape[0])))
        except errors.StageError:
            found.append([])
    with Workers(available()) as workers:
        images = torch.from_numpy(np.stack([image for places in found for image, _ in places]))
        rows = iter(inference.predict(net, images, workers).double().softmax(1).numpy())
    answers: list[dict[str, Any]] = [{"digits": [{"box": box} for _, box in places]} for places in found]
    for answer in answers:
        predict.name_digits(answer, rows)
    return [[of["digit"] for of in answer["digits"]] if "error" not in answer else [] for answer in answers]


def letters(characters: str) -> Iterator[np.ndarray]:
    """Yield each of `characters` in each font, black on white (SIDE, SIDE; 0..255)."""
    folder = Path(matplotlib.get_data_path(), "fonts/ttf")
    for name in FONTS:
        font = ImageFont.truetype(folder / f"{name}.ttf", SIDE // 2)
        for character in characters:
            image = Image.new("L", (SIDE, SIDE), 255)
            ImageDraw.Draw(image).text((SIDE // 2, SIDE // 2), character, fill=0, font=font, anchor="mm")
            yield np.asarray(image)


def shapes(random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield discs, boxes, triangles, stars, crosses, arrows, ticks, waves, spirals and scribbles, of three widths."""
    turn = np.linspace(0, 2 * np.pi, 60)
    star = [(50 + r * np.sin(k * np.pi / 5), 50 - r * np.cos(k * np.pi / 5)) for k, r in enumerate([40, 16] * 5)]
    outlines = {
        "box": [(15, 15), (85, 15), (85, 85), (15, 85), (15, 15)],
        "triangle": [(50, 12), (88, 85), (12, 85), (50, 12)],
        "star": [*star, star[0]],
        "zigzag": [(10, 40), (30, 65), (50, 35), (70, 65), (90, 35)],
        "tick": [(15, 55), (40, 80), (85, 15)],
        "wave": [(10 + 80 * t / 6.29, 50 + 25 * np.sin(2 * t)) for t in turn],
        "spiral": [(50 + 6 * t * np.cos(3 * t), 50 + 6 * t * np.sin(3 * t)) for t in turn],
        "heart": [
            (50 + 2.4 * 16 * np.sin(t) ** 3, 50 - 2.4 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t)))
            for t in turn
        ],
        "arrow": [(10, 50), (88, 50), (65, 28), (88, 50), (65, 72)],
        "cross": [(15, 15), (85, 85), (50, 50), (85, 15), (15, 85)],
        "plus": [(50, 10), (50, 90), (50, 50), (10, 50), (90, 50)],
        "dash": [(15, 50), (85, 50)],
    }
    for number in range(20):
        points = random.uniform(10, 90, (7, 2))
        outlines[f"scribble {number}"] = [tuple(of) for of in points]
    for outline in outlines.values():
        scaled = [(x * SIDE / 100, y * SIDE / 100) for x, y in outline]
        for width in (6, 14, 24):
            image = Image.new("L", (SIDE, SIDE), 255)
            ImageDraw.Draw(image).line(scaled, fill=0, width=width, joint="curve")
            yield np.asarray(image)
        if outline[0] == outline[-1]:
            image = Image.new("L", (SIDE, SIDE), 255)
            ImageDraw.Draw(image).polygon(scaled, fill=0)
            yield np.asarray(image)
    for radius in (20, 60, 90):
        image = Image.new("L", (SIDE, SIDE), 255)
        ImageDraw.Draw(image).circle((SIDE // 2, SIDE // 2), radius, fill=0)
        yield np.asarray(image)


def blanks(random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield pages with nothing on them: lit from one side, noisy, in shadow, ruled, with a border."""
    y, x = np.mgrid[0 : 1 : SIDE * 1j, 0 : 1 : SIDE * 1j]
    for number in range(40):
        angle = random.uniform(0, 2 * np.pi)
        lit = 140 + 100 * (x * np.cos(angle) + y * np.sin(angle)) / 1.5
        noise = random.normal(0, 1, (SIDE, SIDE))
        yield np.clip(lit, 0, 255)
        yield np.clip(lit + number % 10 * noise, 0, 255)
        edge = 1 / (1 + np.exp(np.clip((x * np.cos(angle) + y * np.sin(angle) - 0.5) * 60, -50, 50)))
        yield 110 + 100 * edge + 2 * noise
        rules = np.where(np.arange(SIDE)[:, None] % (15 + number) < 2, 110.0, 230.0) + 2 * noise
        yield np.clip(rules, 0, 255)
        yield np.pad(lit, number % 10 + 1)


if __name__ == "__main__":
    main()

"""Read your own digits: pictures of any size, dark on light or light on dark, the digit anywhere in the frame.

    python -m tools.predict PICTURE...

A PICTURE is a PNG, JPEG, BMP, TIFF or WebP file, a folder of them, or - for standard input. Needs models/model.pt
(`dvc repro`) and nothing else. The exit status is 2 if a picture cannot be read; the others are still answered.
"""

import argparse
import io
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from stages.common import command, errors, files, raw
from stages.download import digit
from stages.net import exact, inference, model
from stages.net.workers import Workers
from stages.report import pictures

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
MOST_BYTES, MOST_PIXELS, LARGEST_SIDE = 64 * 2**20, 64 * 10**6, 1024
LEAST_CONTRAST = 24  # of 255, between the ink and the paper
INK = 0.3  # of the full contrast: what is fainter is paper, or the noise of JPEG
SPECK = 0.03  # of the ink of the largest stroke: what has less is dirt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command line takes."""
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument("--json", action="store_true", help="print a list for programs")
    parser.add_argument("--show", type=Path, metavar="FILE.png", help="draw the images that the net gets")


def main(arguments: argparse.Namespace) -> int:
    """Read the pictures that the command line names, and print what they show."""
    exact.pin()
    net = model.trained(model.read())
    answers: list[dict[str, Any]] = []
    seen = []
    for name in found(arguments.pictures):
        try:
            image = digit.as_mnist(ink(read(name)))
            image = (image * (255 / image.max())).astype(np.uint8)  # a thin stroke fades when it is scaled down
        except errors.StageError as error:
            answers.append({"picture": name, "error": str(error)})
        else:
            seen.append(image)
            answers.append({"picture": name})
    read_well = [answer for answer in answers if "error" not in answer]
    if seen:
        with Workers(1) as workers:
            logits = inference.predict(net, torch.from_numpy(np.stack(seen)), workers)
        for answer, probabilities in zip(read_well, logits.double().softmax(1).tolist(), strict=True):
            answer["digit"] = int(np.argmax(probabilities))
            answer["probabilities"] = [round(probability, 6) for probability in probabilities]
        if arguments.show:
            captions = [f"{a['digit']}  {max(a['probabilities']):.0%}" for a in read_well]
            drawn = pictures.png(pictures.grid(np.stack(seen), captions))
            files.write_whole(arguments.show, drawn)
    if arguments.json:
        print(json.dumps(answers, indent=2))
    else:
        show(answers)
    return 2 if len(read_well) < len(answers) else 0


def found(names: list[str]) -> Iterator[str]:
    """Yield `names`, a folder as the files in it, in the order of their names."""
    for name in names:
        if name != "-" and Path(name).is_dir():
            yield from sorted(str(path) for path in Path(name).iterdir() if path.is_file())
        else:
            yield name


def read(name: str) -> np.ndarray:
    """Return the picture called `name` (`-` is standard input) as grey values (height, width) in 0..255.

    Raises StageError that says why it cannot be read.
    """
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise errors.StageError(error.strerror or str(error)) from None
    if len(content) > MOST_BYTES:
        raise errors.StageError(f"larger than {MOST_BYTES // 2**20} MiB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd files; what cannot be read raises
            image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
            if image.width * image.height > MOST_PIXELS:
                raise errors.StageError(f"{image.width} x {image.height} pixels; expected at most {MOST_PIXELS:,}")
            image.draft("L", (LARGEST_SIDE, LARGEST_SIDE))  # a JPEG is decoded no larger than needed
            if image.mode.startswith("I"):  # 16 bits, which `convert` would cut off instead of scaling
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            colored = ImageOps.exif_transpose(image).convert("RGBA")
    except UnidentifiedImageError:
        raise errors.StageError(f"not a picture of the kinds {', '.join(FORMATS)}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise errors.StageError(f"a broken picture: {error}") from None
    colored.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    rgba = np.asarray(colored).astype(np.float64)
    grey, alpha = rgba[..., :3] @ (0.299, 0.587, 0.114), rgba[..., 3] / 255
    # What is transparent is paper, and paper is unlike the ink
    paper = 0.0 if alpha.min() < 1 and (grey * alpha).sum() > 127.5 * alpha.sum() else 255.0
    return np.asarray(grey * alpha + paper * (1 - alpha))


def ink(grey: np.ndarray) -> np.ndarray:
    """Return how much ink there is (height, width; 0..1) in `grey`: what is unlike the frame's edge is ink."""
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    difference = grey - np.median(edge)
    contrast = np.abs(difference).max()
    if contrast < LEAST_CONTRAST:
        raise errors.StageError("blank: no digit stands out from the paper")
    side = 1 if difference.max() == contrast else -1  # light on dark, or dark on light
    darkness = np.clip(side * difference / contrast, 0, 1)
    strokes, count = ndimage.label(darkness > INK, structure=np.ones((3, 3)))
    sizes = ndimage.sum_labels(darkness, strokes, range(1, count + 1))
    digits = 1 + np.flatnonzero(sizes >= SPECK * sizes.max())
    return np.where(np.isin(strokes, digits), darkness, 0)


def show(answers: list[dict[str, Any]]) -> None:
    """Print a table of digits and probabilities, and the errors on standard error."""
    width = max(len(answer["picture"]) for answer in answers)
    print(f"{'picture':<{width}}  digit ", *(f"{digit:>5}" for digit in range(raw.CLASSES)))
    for answer in answers:
        if "error" in answer:
            print(f"{answer['picture']}: {answer['error']}", file=sys.stderr)
        else:
            percents = (f"{100 * probability:5.1f}" for probability in answer["probabilities"])
            print(f"{answer['picture']:<{width}}  {answer['digit']:>5} ", *percents)


if __name__ == "__main__":
    command.run_tool("predict", main, __doc__, add_arguments)

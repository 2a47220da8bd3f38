"""Classify your own pictures: digits anywhere in a picture, or pictures of the kind that the net was trained on.

    python -m tools.predict PICTURE...

A PICTURE is a file, a folder of files, or - for standard input. A net that was trained on digits in MNIST's format
finds and reads the digits in a PNG, JPEG, BMP, TIFF or WebP of any size, dark on light or light on dark. Another net
classifies a PNG or JPEG as a whole, scaled as the stage download does it. The command needs only models/model.pt (run
`dvc repro`). The exit status is 2 if a picture cannot be read, or shows something that is no clear digit; the other
pictures are still answered.
"""

import argparse
from pathlib import Path

from stages.common import command

MOST_SHOWN = 600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command line takes."""
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    shown = f"draw the images that the net gets, the first {MOST_SHOWN}"
    parser.add_argument("--show", type=Path, metavar="FILE.png", help=shown)


if __name__ == "__main__":
    command.run_tool("predict", __doc__, add_arguments)

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from stages.common import errors, files
from stages.download import digit, folder
from stages.net import exact, inference, model
from stages.net.workers import Workers
from tools import ink, pages

CLEAR = 0.8  # the least probability of a clear digit: `python -m tests.unclear` measures what it refuses
WIDEST = 2  # times its height; the widest of MNIST's test digits is 1.8 times as wide as high


def main(arguments: argparse.Namespace) -> int:
    """Read the pictures that the command line names, and print what they show."""
    if arguments.show and arguments.show.suffix != ".png":  # such as a picture to read, which would be lost
        raise errors.StageError(f"--show: got {arguments.show}, expected a name that ends with .png")
    exact.pin()
    trained = model.read()
    net, data = model.trained(trained), trained["data"]
    classes: list[str] = data["classes"]
    digits = data["drawing"] == "centred"
    looked = [of for name in found(arguments.pictures) for of in (look(name) if digits else whole(name, data["shape"]))]
    answers, images = [answer for answer, _ in looked], [image for _, seen in looked for image in seen]
    if images:
        with Workers(1) as workers:
            logits = inference.predict(net, torch.from_numpy(np.stack(images)), workers)
        probabilities = inference.probabilities(logits).numpy()
        rows = iter(probabilities)
        for answer in answers:
            if digits:
                name_digits(answer, rows)
            elif "error" not in answer:
                row = next(rows)
                if np.isnan(row).any():
                    answer["error"] = "no class: the net's probabilities are not numbers (NaN)"
                    continue
                answer["class"] = classes[row.argmax()]
                answer["probabilities"] = dict(zip(classes, row.round(6).tolist(), strict=True))
    if arguments.json:
        print(json.dumps(answers, indent=2))
    else:
        show(answers, classes)
    if images and arguments.show:
        from stages.report import pictures  # here: it takes a third of a second that others need not wait for

        captions = [f"{classes[row.argmax()]}  {row.max():.0%}" for row in probabilities[:MOST_SHOWN]]
        figure = pictures.grid(np.stack(images[:MOST_SHOWN]), captions, data["drawing"] != "none")
        files.write_whole(arguments.show, pictures.png(figure))
    elif arguments.show:
        print(f"{arguments.show}: not written, as the net gets no image", file=sys.stderr)
    return 2 if any("error" in answer for answer in answers) else 0


def found(names: list[str]) -> Iterator[str]:
    """Yield `names`, a folder as the files in it, in the order of their names, without hidden ones."""
    for name in names:
        inside: list[str] = []
        # No folder, or one that cannot be read, is said when it is read; so is a link to nothing
        with contextlib.suppress(OSError), os.scandir("" if name == "-" else name) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
            inside = [entry.path for entry in shown if entry.is_file() or not Path(entry.path).exists()]
        yield from sorted(inside) or [name]


def whole(name: str, shape: list[int]) -> Iterator[tuple[dict[str, Any], list[np.ndarray]]]:
    """Yield the answer so far on the picture called `name`, and its image of `shape` (channels, height, width)."""
    try:
        yield {"picture": name}, [folder.fitted(folder.opened(pages.content_of(name)), shape)]
    except errors.StageError as error:
        yield {"picture": name, "error": str(error)}, []
    except folder.BROKEN as error:
        yield {"picture": name, "error": f"cannot be read: {error}"}, []


def look(name: str) -> Iterator[tuple[dict[str, Any], list[np.ndarray]]]:
    """Yield, for each page of the picture called `name`, the answer so far, and what may be digits, as MNIST has them.

    An answer has an `error`, or `digits`, of which only the `box` is known yet: left, top, right, bottom, in pixels.
    """
    try:
        read = pages.read(name)
    except errors.StageError as error:
        yield {"picture": name, "error": str(error)}, []
        return
    for number, page in enumerate(read, start=1):
        answer: dict[str, Any] = {"picture": name} | ({"page": number} if len(read) > 1 else {})
        try:
            places = in_place(page)
        except errors.StageError as error:
            yield answer | {"error": str(error)}, []
        else:
            yield answer | {"digits": [{"box": box} for _, box in places]}, [image for image, _ in places]


def in_place(page: pages.Page) -> list[tuple[np.ndarray, list[int]]]:
    """Return what may be a digit on `page`, as MNIST has it, with its box. Raises StageError if there is nothing."""
    for grey in (page.grey, 255 - page.grey):
        if (box := digit_box(grey)) is not None:
            return [(grey.astype(np.uint8), box)]
    places = []
    for strokes, ((top, bottom), (left, right)) in ink.find(page.grey):
        image = digit.as_mnist(strokes)
        box = [left * page.width, top * page.height, right * page.width, bottom * page.height]
        places.append(((image * (255 / image.max())).astype(np.uint8), [round(side) for side in box]))
    return places


def digit_box(grey: np.ndarray) -> list[int] | None:
    """Return the box of the ink in `grey` if it is just as MNIST has digits: to be read as it is.

    That is 28 x 28 pixels, paper 0, the longest side of the box 20 pixels, the centre of mass in the middle.
    """
    if grey.shape != (28, 28) or not grey.any():
        return None
    rows, columns = np.flatnonzero(grey.any(1)), np.flatnonzero(grey.any(0))
    centre = np.average(np.indices(grey.shape), axis=(1, 2), weights=grey)
    if max(np.ptp(rows), np.ptp(columns)) + 1 not in (19, 20) or (abs(centre - 13.75) > 0.8).any():
        return None
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def name_digits(answer: dict[str, Any], rows: Iterator[np.ndarray]) -> None:
    """Complete the `digits` of `answer` with the next of `rows`, probabilities (10); what is unclear is an `error`."""
    clear, unclear, least = [], [], ""
    for box in (of["box"] for of in answer.get("digits", [])):
        row = next(rows)
        left, top, right, bottom = box
        if right - left > WIDEST * (bottom - top):
            unclear.append(f"{box} is too wide")
        elif row.max() >= CLEAR:  # NaN is not
            clear.append({"digit": int(row.argmax()), "probabilities": row.round(6).tolist(), "box": box})
        else:
            unclear.append(f"{box} is most like {row.argmax()}, {row.max():.0%}")
            least = f"; expected {CLEAR:.0%} or more"
    if "digits" in answer:
        answer["digits"] = clear
    if unclear:
        more = f", and {len(unclear) - 3} more" if len(unclear) > 3 else ""
        answer["error"] = f"no clear digit: {', '.join(unclear[:3])}{more}{least}"
    elif len(clear) == 1:
        answer["digit"] = clear[0]["digit"]


def show(answers: list[dict[str, Any]], classes: list[str]) -> None:
    """Print a table of digits and probabilities in percent; then, on standard error, what is no clear digit.

    Of pictures that are classified as a whole, the table has the class and its probability.
    """
    if any(answer.get("digits") for answer in answers):
        print("digit", *(f"{name:>5}" for name in classes), " picture")
    width = max(map(len, ["class", *classes]))
    if any("class" in answer for answer in answers):
        print(f"{'class':<{width}}  percent  picture")
    for answer in answers:
        if "class" in answer:
            percent = 100 * answer["probabilities"][answer["class"]]
            print(f"{answer['class']:<{width}}  {percent:7.1f}  {title(answer)}")
        digits = answer.get("digits", [])
        for place, of in enumerate(digits, start=1):
            percents = (f"{100 * probability:5.1f}" for probability in of["probabilities"])
            which = f" ({place} of {len(digits)})" if len(digits) > 1 else ""
            print(f"{of['digit']:>5}", *percents, f" {title(answer)}{which}")
    sys.stdout.flush()
    for answer in answers:
        if "error" in answer:
            print(f"{title(answer)}: {answer['error']}", file=sys.stderr)


def title(answer: dict[str, Any]) -> str:
    """Return what `answer` is about."""
    return f"{answer['picture']}, page {answer['page']}" if "page" in answer else answer["picture"]

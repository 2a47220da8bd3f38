"""Predictions for pictures of all kinds, with the real command; and messages for what is no picture."""

import io
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from stages.common import idx
from stages.download import digit
from stages.net import exact
from tests.conftest import Clone
from tools import predict

# A digit a line of strokes, in a frame of 100 x 100
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


def drawn(figure: int, ink: Any = 0, paper: Any = 255, mode: str = "L", size: int = 300) -> Image.Image:
    """Return a picture of `figure`, drawn by strokes."""
    image = Image.new(mode, (size, size), paper)
    for stroke in STROKES[figure]:
        points = [(x * size / 100, y * size / 100) for x, y in stroke]
        ImageDraw.Draw(image).line(points, fill=ink, width=size // 11, joint="curve")
    return image


def answers(clone: Clone, *arguments: str, status: int = 0) -> list[dict[str, Any]]:
    """Return what `python -m tools.predict --json` says."""
    listed: list[dict[str, Any]] = json.loads(
        clone.run(sys.executable, "-m", "tools.predict", "--json", *arguments, status=status).stdout
    )
    return listed


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "grey.png": ({}, {}),
    "dark.png": ({"ink": 255, "paper": 0}, {}),
    "colored.png": ({"ink": (20, 60, 120), "paper": (250, 240, 200), "mode": "RGB"}, {}),
    "transparent.png": ({"ink": (0, 0, 0, 255), "paper": (0, 0, 0, 0), "mode": "RGBA"}, {}),
    "white_on_nothing.webp": ({"ink": (255, 255, 255, 255), "paper": (0, 0, 0, 0), "mode": "RGBA"}, {"lossless": True}),
    "sixteen_bits.png": ({"ink": 9_000, "paper": 60_000, "mode": "I;16"}, {}),
    "photo.jpg": ({"ink": (40, 40, 60), "paper": (200, 190, 180), "mode": "RGB"}, {"quality": 40}),
    "scan.tiff": ({"ink": 0, "paper": 1, "mode": "1"}, {}),
    "old.bmp": ({"size": 88}, {}),
    "large.png": ({"size": 3000}, {}),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_picture_shows_the_same_digit(name: str, tmp_path: Path) -> None:
    """PNG, JPEG, BMP, TIFF, WebP; grey, colour, alpha, 1 and 16 bits; small and large: ink in the same places."""
    how, options = KINDS[name]
    drawn(5, **how).save(tmp_path / name, **options)
    seen = digit.as_mnist(predict.ink(predict.read(str(tmp_path / name)))).astype(float)
    plain = digit.as_mnist((255 - np.asarray(drawn(5))) / 255).astype(float)
    assert np.corrcoef(seen.ravel(), plain.ravel())[0, 1] > 0.97


def test_dirt_is_not_part_of_the_digit() -> None:
    """A speck in a corner moves nothing."""
    clean = drawn(3)
    dirty = clean.copy()
    ImageDraw.Draw(dirty).ellipse((8, 8, 14, 14), fill=0)
    grey = [np.asarray(image).astype(float) for image in (clean, dirty)]
    assert np.array_equal(*(digit.as_mnist(predict.ink(values)) for values in grey))


def broken(folder: Path) -> None:
    """Write what cannot be read into `folder`."""
    Image.new("L", (50, 50), 255).save(folder / "blank.png")
    (folder / "text.png").write_text("seven")
    content = io.BytesIO()
    drawn(7).save(content, format="png")
    (folder / "cut.png").write_bytes(content.getvalue()[:200])
    Image.new("1", (9000, 9000)).save(folder / "huge.png")
    (folder / "empty.png").write_bytes(b"")


MESSAGES = {
    "blank.png": "blank: no digit stands out",
    "text.png": "not a picture of the kinds PNG, JPEG, BMP, TIFF, WEBP",
    "cut.png": "a broken picture",
    "huge.png": "9000 x 9000 pixels; expected at most",
    "empty.png": "not a picture",
}


def test_a_folder_with_bad_pictures(finished: Clone, tmp_path: Path) -> None:
    """Each bad picture has a message; the good ones are answered in their order; the exit status is 2."""
    broken(tmp_path)
    drawn(1).save(tmp_path / "one.png")
    listed = answers(finished, str(tmp_path), str(tmp_path / "nowhere.png"), status=2)
    assert [Path(answer["picture"]).name for answer in listed] == [*sorted([*MESSAGES, "one.png"]), "nowhere.png"]
    for answer in listed[:-1]:
        name = Path(answer["picture"]).name
        if name in MESSAGES:
            assert answer["error"].startswith(MESSAGES[name])
            assert "digit" not in answer
        else:
            assert answer["digit"] in range(10)
            assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
            assert answer["digit"] == int(np.argmax(answer["probabilities"]))
    assert listed[-1]["error"] == "No such file or directory"


def test_standard_input_a_table_and_what_was_seen(finished: Clone, tmp_path: Path) -> None:
    """`-` reads standard input; the table names it; `--show` draws what the net saw; no params.yaml is needed."""
    clone = finished.copy(tmp_path / "clone")
    (clone.path / "params.yaml").unlink()
    content = io.BytesIO()
    drawn(0).save(content, format="png")
    command = [sys.executable, "-m", "tools.predict", "-", "--show", str(tmp_path / "seen.png")]
    done = subprocess.run(command, cwd=clone.path, input=content.getvalue(), capture_output=True, check=True)
    header, line = done.stdout.decode().splitlines()
    assert header.split() == ["picture", "digit", *"0123456789"]
    assert line.split()[0] == "-"
    assert len(line.split()) == 12
    assert Image.open(tmp_path / "seen.png").format == "PNG"


def test_no_model_is_said(origin: Clone, tmp_path: Path) -> None:
    """Without a model there is one message that says how to get it."""
    failed = origin.run(sys.executable, "-m", "tools.predict", "some.png", status=1)
    assert failed.stderr == "error: models/model.pt: not found; run `dvc repro` or `dvc pull` first\n"


@pytest.mark.parametrize("command", ["tools.predict -", "tools.export", "stages.evaluate", "stages.report"])
def test_a_model_that_is_not_finite_is_refused(finished: Clone, tmp_path: Path, command: str) -> None:
    """Whoever reads a model with a weight that is NaN or infinite says which, and writes nothing."""
    clone = finished.copy(tmp_path / "clone")
    trained = torch.load(clone.path / "models/model.pt", weights_only=True)
    trained["weights"]["4_batch_norm.running_var"][2] = float("nan" if "report" in command else "inf")
    trained["weights_sha256"] = exact.digest(trained["weights"])
    torch.save(trained, clone.path / "models/model.pt")
    failed = clone.run(sys.executable, "-m", *command.split(), status=1)
    assert failed.stderr == (
        "error: models/model.pt: 4_batch_norm.running_var has values that are NaN or infinite, expected finite "
        "weights: the training diverged; lower the recipe's learning_rate, and run `dvc repro`\n"
    )
    assert clone.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_drawn_digits_are_read(on_mnist: Clone, tmp_path: Path) -> None:
    """`fast` reads all ten digits drawn by strokes."""
    for figure in range(10):
        drawn(figure).save(tmp_path / f"{figure}.png")
    assert [answer["digit"] for answer in answers(on_mnist, str(tmp_path))] == list(range(10))


@pytest.mark.slow
def test_changed_mnist_digits_are_read(on_mnist: Clone, tmp_path: Path) -> None:
    """Of 500 test digits, enlarged, shifted, coloured, half inverted, most blurred by JPEG, 97 % are read."""
    raw = on_mnist.path / "data/raw/MNIST/raw"
    images, labels = idx.read(raw / "t10k-images-idx3-ubyte"), idx.read(raw / "t10k-labels-idx1-ubyte")
    draws = random.Random(0)  # noqa: S311 - nothing secret
    for row in range(500):
        side = draws.randrange(56, 336)
        enlarged = Image.fromarray(255 - images[row]).resize((side, side), Image.Resampling.BICUBIC)
        frame = Image.new("L", (2 * side, 3 * side // 2), 255)
        frame.paste(enlarged, (draws.randrange(side), draws.randrange(side // 2)))
        light = np.asarray(frame)[..., None] / 255
        ink = np.array([draws.randrange(60) for _ in range(3)])
        paper = np.array([draws.randrange(190, 256) for _ in range(3)])
        if row % 2:
            ink, paper = paper, ink
        picture = Image.fromarray((ink + light * (paper - ink)).astype(np.uint8))
        if row % 3 == 0:
            picture = picture.filter(ImageFilter.GaussianBlur(side / 112))
        picture.save(tmp_path / f"{row:03}.{'jpg' if row % 5 else 'png'}", **({"quality": 30} if row % 5 else {}))
    read = [answer["digit"] for answer in answers(on_mnist, str(tmp_path))]
    assert np.mean(np.array(read) == labels[:500]) >= 0.97

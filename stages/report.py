"""Draw what people look at, and put it together on one page: numbers, curves, errors, and what the net is like inside.

    python -m stages.report [--against REVISION]

Reads what the other stages wrote; writes plots/*.png and plots/report.html, which needs no network. A change of a
colour runs this stage alone. With --against, writes plots/against.html alone: this run beside that of a revision.
"""

import base64
import io
import math
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from ruamel.yaml import YAML
from torch import nn

from stages import compare
from stages.common import command, exact, files, idx, inference, nets, pictures, revisions, settings, statistics
from stages.common.revisions import Run

RAW, PLOTS = Path("data/raw/MNIST/raw"), Path("plots")
SPLIT, MODEL = Path("data/split/train.npy"), Path("models/model.pt")
TEMPLATE = Path("stages/report.html.jinja")
PAGE, AGAINST = PLOTS / "report.html", PLOTS / "against.html"
SAMPLES, ERRORS, MAPS = 40, 30, 6  # digits in a grid, and maps shown of each convolution
SEEN = {
    "confusion": "Errors by actual and predicted digit; right answers are left blank",
    "per_class": "Error rate of each digit",
    "training": "Loss and error rate while the net is trained",
    "reliability": "How often the net is right, against how sure it is",
    "errors": "The misread test digits that the net is surest of",
    "only": "Test digits that this run reads and the other does not",
    "predictions": "The first test digits, with what the net reads",
    "samples": "The first training digits",
    "kernels": "Kernels of the first layer, untrained and trained",
    "feature_maps": "What each convolution makes of one digit of each class",
}


class Picture(NamedTuple):
    """A picture on the page."""

    source: str  # a data URL
    width: int
    height: int


def main(against: str | None = None) -> None:
    """Draw the pictures and the page; or, `against` a revision, the page that shows both."""
    exact.pin()
    run = revisions.load(None)
    test = idx.read(RAW / "t10k-images-idx3-ubyte")
    drawn = of_tables(run) | {"errors": errors(run, test)}
    if against is None:
        drawn |= of_data(run, test) | of_net(run, test)
        seen = {name: pictures.png(figure) for name, figure in drawn.items()}
        for name, content in seen.items():
            files.write_whole(PLOTS / f"{name}.png", content)
        files.write_whole(PAGE, page([run], [seen], None))
        return
    other = revisions.load(against)
    compared = compare.compare(other, run)
    others = of_tables(other) | {"errors": errors(other, test)}
    for this, that, figures in ((run, other, drawn), (other, run, others)):
        rows = np.flatnonzero(this.right & ~that.right)
        figures["only"] = grid(that, test, rows, f"{this.name} reads these, {that.name} does not")
    both = [{name: pictures.png(figure) for name, figure in figures.items()} for figures in (others, drawn)]
    files.write_whole(AGAINST, page([other, run], both, compared["verdict"]))
    print(f"{AGAINST}: {compared['verdict']}")


def page(runs: list[Run], drawn: list[dict[str, bytes]], verdict: str | None) -> bytes:
    """Return the page that shows `runs` and their pictures, as PNG by name, side by side."""
    recipe = io.StringIO()
    YAML().dump({runs[-1].recipe: settings.value(f"recipes.{runs[-1].recipe}")}, recipe)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    shown = [run.shown() for run in runs]
    return (
        environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
        .render(
            runs=runs,
            numbers={name: [texts.get(name, "") for texts in shown] for texts in shown for name in texts},
            pictures={
                name: (text, [embedded(of[name]) for of in drawn]) for name, text in SEEN.items() if name in drawn[0]
            },
            verdict=verdict,
            recipe=recipe.getvalue(),
            seed=settings.value("train.seed"),
        )
        .encode()
    )


def embedded(content: bytes) -> Picture:
    """Return the PNG `content` as the page has it."""
    return Picture(f"data:image/png;base64,{base64.b64encode(content).decode()}", *Image.open(io.BytesIO(content)).size)


def title(run: Run) -> str:
    """Return what is said over each picture of `run`."""
    return f"{run.dataset}, {run.recipe}: {run.metrics['accuracy']:.2%} of the test digits"


def of_tables(run: Run) -> dict[str, Figure]:
    """Return the pictures, by name, that the tracked tables of `run` suffice for."""
    actual, predicted = (run.predictions[name].astype(int) for name in ("actual", "predicted"))
    counts = np.zeros((nets.CLASSES, nets.CLASSES), dtype=np.int64)
    np.add.at(counts, (actual, predicted), 1)
    bins = statistics.calibration(run.predictions["probability"], run.right)
    return {
        "confusion": pictures.confusion(counts, title(run)),
        "per_class": pictures.per_class(counts.sum(1) - counts.diagonal(), counts.sum(1), title(run)),
        "training": pictures.training(run.training, title(run)),
        "reliability": pictures.reliability(bins, title(run)),
    }


def errors(run: Run, test: np.ndarray) -> Figure:
    """Return the misread ones of the `test` images that the net is surest of."""
    wrong = np.flatnonzero(~run.right)
    surest = wrong[np.argsort(-run.predictions["probability"][wrong], kind="stable")]
    return grid(run, test, surest, f"The surest errors\n{title(run)}")


def grid(run: Run, test: np.ndarray, rows: np.ndarray, over: str) -> Figure:
    """Return the first of the `rows` of the `test` images, each with its number, its label and what `run` reads."""
    captions = [
        f"no. {row}\nis {of['actual']:.0f}\nread {of['predicted']:.0f} {of['probability']:.0%}"
        for row, of in zip(rows[:ERRORS], run.predictions[rows[:ERRORS]], strict=True)
    ]
    return pictures.grid(test[rows[:ERRORS]], captions, over)


def of_data(run: Run, test: np.ndarray) -> dict[str, Figure]:
    """Return digits of the training part with their labels, and `test` images with what the net reads."""
    images, labels = (idx.read(RAW / f"train-{name}-ubyte") for name in ("images-idx3", "labels-idx1"))
    rows = np.load(SPLIT)[:SAMPLES]
    captions = [f"{of['predicted']:.0f}  {of['probability']:.0%}" for of in run.predictions[:SAMPLES]]
    over = f"Test digits: what the net reads, and how sure it is\n{title(run)}"
    return {
        "samples": pictures.grid(images[rows], [f"{labels[row]}" for row in rows], f"Training digits\n{title(run)}"),
        "predictions": pictures.grid(test[:SAMPLES], captions, over),
    }


def of_net(run: Run, test: np.ndarray) -> dict[str, Figure]:
    """Return what the first layer looks like, and what the convolutions make of one `test` image of each class."""
    model = nets.read(MODEL)
    first = next(name for name in model["weights"] if name.endswith(("_conv.weight", "_linear.weight")))
    untrained = nets.build(model["layers"])
    nets.draw_weights(untrained, exact.generator(settings.value("train.seed"), "weights"))
    side = math.isqrt(model["weights"][first][0].numel())  # of a kernel; a linear layer's is the whole image
    before, after = (
        state[first].reshape(-1, side, side).numpy() for state in (untrained.state_dict(), model["weights"])
    )
    rows = np.array([np.flatnonzero(run.predictions["actual"] == digit)[0] for digit in range(nets.CLASSES)])
    maps = feature_maps(nets.trained(model), torch.from_numpy(test[rows].copy()))
    over = f"Feature maps, {MAPS} of each convolution\n{title(run)}"
    return {
        "kernels": pictures.kernels(before, after, f"The first layer's kernels\n{title(run)}"),
        "feature_maps": pictures.feature_maps(test[rows], maps, over),
    }


def feature_maps(net: nn.Sequential, images: torch.Tensor) -> dict[str, np.ndarray]:
    """Return the first MAPS maps (n, maps, height, width) of each convolution for `images` (n, 28, 28; bytes)."""
    maps = {}
    with torch.inference_mode():
        values = inference.scaled(images)
        for name, layer in net.named_children():
            values = layer(values)
            if name.endswith("_conv"):
                # a copy: an activation that works in place comes next
                maps["layer " + name.replace("_", ": ")] = values[:, :MAPS].clone().numpy()
    return maps


if __name__ == "__main__":
    command.run("report", main, __doc__, against="show a revision, branch, tag or experiment beside this run")

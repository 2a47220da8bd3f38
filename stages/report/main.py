"""Draw what people look at, and put it together on one page: numbers, curves, errors, and what the net is like inside.

    python -m stages.report [--against REVISION]

Reads what the other stages wrote; writes report/index.html, which needs no network, and its pictures. A change of a
colour runs this stage alone. With --against, writes report/against.html alone: this run beside that of a revision.
"""

import base64
import io
import math
import shlex
from pathlib import Path
from typing import NamedTuple

import jinja2
import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from ruamel.yaml import YAML
from torch import nn

from stages.common import files, raw
from stages.net import exact, inference, layers, model
from stages.report import comparison, pictures, runs
from stages.report.runs import Run

FOLDER, SPLIT = Path("report"), Path("data/split/train.npy")
TEMPLATE = Path("stages/report/page.html.jinja")
SAMPLES, ERRORS, MAPS = 36, 24, 6  # digits in a grid, and maps shown of each convolution
# What is said over each picture, in the order of the page
TITLES = {
    "confusion": "Confusion matrix of the test set, with the accuracy of each class",
    "errors": "The misclassified test digits that the net is surest of",
    "only": "Test digits that this run alone classifies correctly",
    "training": "Loss and error rate during training",
    "per_class": "Error rate of each class, with its 95 % interval",
    "reliability": "Accuracy against predicted probability",
    "predictions": "The first test digits, with predicted class and probability",
    "samples": "The first training digits, with their labels",
    "classes": "Images of each class in each part of the data",
    "kernels": "Kernels of the first layer, untrained and trained",
    "feature_maps": "Feature maps of each convolution for one digit of each class",
}


class Picture(NamedTuple):
    """A picture on the page."""

    source: str  # a data URL
    width: int  # in CSS pixels
    height: int


def main(against: str | None = None) -> None:
    """Draw the pictures and the page; or, `against` a revision, the page that shows both."""
    exact.pin()
    exact.warn_of_other_versions("matplotlib", "pillow")
    matplotlib.rcdefaults()  # whatever a matplotlibrc in this folder says
    run = runs.load(None)
    test = raw.images("t10k")
    drawn = of_tables(run) | {"errors": errors(run, test)}
    if against is None:
        drawn |= of_data(run, test) | of_net(run, test)
        shown = {name: pictures.png(figure) for name, figure in drawn.items()}
        for name, content in shown.items():
            files.write_whole(FOLDER / f"{name}.png", content)
        target = FOLDER / "index.html"
        files.write_whole(target, page([run], [shown], None, model.read()["environment"]))
        print(f"{target}: accuracy {run.metrics['accuracy']:.2%}, {run.metrics['errors']} errors")
        return
    other = runs.load(against)
    verdict = comparison.compare(other, run)["verdict"]
    others = of_tables(other) | {"errors": errors(other, test)}
    for this, that, figures in ((run, other, drawn), (other, run, others)):
        figures["only"] = grid(that, test, np.flatnonzero(this.right & ~that.right))
    both = [{name: pictures.png(figure) for name, figure in figures.items()} for figures in (others, drawn)]
    target = FOLDER / "against.html"
    files.write_whole(target, page([other, run], both, verdict, None))
    print(f"{target}: {verdict}")


def page(
    shown: list[Run], drawn: list[dict[str, bytes]], verdict: str | None, trained_in: exact.Environment | None
) -> bytes:
    """Return the page that shows the runs `shown` and their pictures, as PNG by name, side by side."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    texts = [run.shown() for run in shown]
    return (
        environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
        .render(
            runs=shown,
            numbers={name: [text.get(name, "") for text in texts] for text in texts for name in text},
            pictures={
                name: (title, [embedded(of[name]) for of in drawn])
                for name, title in TITLES.items()
                if name in drawn[0]
            },
            verdict=verdict,
            trained_in=trained_in,
            params=runs.differing(shown),
            again=again(shown[-1]),
        )
        .encode()
    )


def again(run: Run) -> str:
    """Return the commands that give `run` again: its params, all of them, and `dvc repro`."""
    yaml, lines = YAML(typ="safe"), io.StringIO()
    yaml.default_flow_style = False
    for path, values in run.files.items():
        lines.write(f"cat > {shlex.quote(path.as_posix())} <<'END'\n")
        yaml.dump(values, lines)
        lines.write("END\n")
    return f"{lines.getvalue()}dvc repro"


def embedded(content: bytes) -> Picture:
    """Return the PNG `content` as the page has it: two pixels of its own for each of the page's, sharp on a phone."""
    width, height = Image.open(io.BytesIO(content)).size
    return Picture(f"data:image/png;base64,{base64.b64encode(content).decode()}", width // 2, height // 2)


def of_tables(run: Run) -> dict[str, Figure]:
    """Return the pictures, by name, that the tracked tables of `run` suffice for."""
    counts = np.zeros((raw.CLASSES, raw.CLASSES), dtype=np.int64)
    np.add.at(counts, (run.predictions["actual"].astype(int), run.predictions["predicted"].astype(int)), 1)
    return {
        "confusion": pictures.confusion(counts),
        "per_class": pictures.per_class(run.per_class),
        "training": pictures.training(run.training),
        "reliability": pictures.reliability(run.reliability),
    }


def errors(run: Run, test: np.ndarray) -> Figure:
    """Return the misclassified ones of the `test` images that the net is surest of."""
    wrong = np.flatnonzero(~run.right)
    return grid(run, test, wrong[np.argsort(-run.predictions["probability"][wrong], kind="stable")])


def grid(run: Run, test: np.ndarray, rows: np.ndarray) -> Figure:
    """Return the first of the `rows` of the `test` images, each with its number, label, prediction and probability."""
    captions = [
        f"no. {row}\nlabel {of['actual']:.0f}\nnet {of['predicted']:.0f}, {of['probability']:.0%}"
        for row, of in zip(rows[:ERRORS], run.predictions[rows[:ERRORS]], strict=True)
    ]
    return pictures.grid(test[rows[:ERRORS]], captions)


def of_data(run: Run, test: np.ndarray) -> dict[str, Figure]:
    """Return how many images each class has, digits of the training part, and `test` images with their predictions."""
    images, labels = raw.images("train"), raw.labels("train")
    rows = files.read_rows(SPLIT, len(images))[:SAMPLES]
    captions = [f"{of['predicted']:.0f}  {of['probability']:.0%}" for of in run.predictions[:SAMPLES]]
    return {
        "classes": pictures.classes(run.classes),
        "samples": pictures.grid(images[rows], [f"{labels[row]}" for row in rows]),
        "predictions": pictures.grid(test[:SAMPLES], captions),
    }


def of_net(run: Run, test: np.ndarray) -> dict[str, Figure]:
    """Return what the first layer looks like, and what the convolutions make of one `test` image of each class."""
    trained = model.read()
    first = next(name for name in trained["weights"] if name.endswith(("_conv.weight", "_linear.weight")))
    untrained = layers.build(trained["layers"])
    layers.draw_weights(untrained, exact.generator(run.seed, "weights"))
    side = math.isqrt(trained["weights"][first][0].numel())  # of a kernel; a linear layer's is the whole image
    before, after = (
        state[first].reshape(-1, side, side).numpy() for state in (untrained.state_dict(), trained["weights"])
    )
    rows = np.array([np.flatnonzero(run.predictions["actual"] == digit)[0] for digit in range(raw.CLASSES)])
    maps = feature_maps(model.trained(trained), torch.from_numpy(test[rows].copy()))
    return {"kernels": pictures.kernels(before, after), "feature_maps": pictures.feature_maps(test[rows], maps)}


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

"""Pictures that are legible at a glance, in colours that everybody can tell apart, the same bytes from run to run."""

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from stages.common import files

# Okabe and Ito's palette for all kinds of colour vision: blue and vermilion
TRAINING, VALIDATION = "#0072B2", "#D55E00"


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG, without the version of the program that drew it."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100, metadata={"Software": None})
    files.write_whole(path, content.getvalue())


def confusion(counts: np.ndarray, title: str) -> Figure:
    """Draw `counts` (10, 10; actual, predicted), the right answers left blank: they would drown the errors."""
    errors = counts.copy()
    np.fill_diagonal(errors, 0)
    figure = Figure(figsize=(5.4, 5.4), layout="constrained")
    axes = figure.add_subplot()
    shown = np.ma.masked_array(errors, mask=np.eye(10, dtype=bool))
    axes.imshow(shown, cmap="Blues", vmin=0, vmax=max(1, errors.max()))
    for actual, predicted in zip(*np.nonzero(errors), strict=True):
        count = errors[actual, predicted]
        color = "white" if count > errors.max() / 2 else "black"
        axes.text(predicted, actual, str(count), ha="center", va="center", color=color)
    axes.set(title=title, xlabel="predicted", ylabel="actual", xticks=range(10), yticks=range(10))
    axes.set_xticks(np.arange(11) - 0.5, minor=True)
    axes.set_yticks(np.arange(11) - 0.5, minor=True)
    axes.grid(which="minor", color="#DDDDDD", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    for digit in range(10):
        axes.text(digit, digit, "·", ha="center", va="center", color="#AAAAAA")
    return figure


def training(curve: np.ndarray, title: str) -> Figure:
    """Draw loss against examples seen and accuracy against epochs from the columns of plots/training.csv."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for part, color, marker in (("train", TRAINING, "o"), ("validation", VALIDATION, "s")):
        style = {"color": color, "marker": marker, "markersize": 4, "label": part}
        left.plot(curve["examples"], curve[f"{part}_loss"], **style)
        right.plot(curve["epoch"], 1 - curve[f"{part}_accuracy"], **style)
    left.set(xlabel="examples seen", ylabel="loss (nats, log scale)", yscale="log")
    left.ticklabel_format(axis="x", style="plain")
    right.set(xlabel="epoch", ylabel="error rate (log scale)", yscale="log")
    right.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (left, right):
        axes.grid(color="#DDDDDD")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.suptitle(title)
    return figure

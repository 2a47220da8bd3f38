"""Pictures that are legible at a glance, in colours that everybody can tell apart, the same bytes from run to run."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

from stages.common.statistics import Bin, wilson

# Okabe and Ito's palette for all kinds of colour vision: blue and vermilion
TRAINING, VALIDATION = "#0072B2", "#D55E00"
DIVERGING = "PuOr"


def png(figure: Figure) -> bytes:
    """Return `figure` as PNG of 256 colours, which is a third of the size and looks the same."""
    drawn, content = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    # Pillow writes no version of a program, which would be another on each machine
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(content, format="png", optimize=True)
    return content.getvalue()


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
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (left, right):
        axes.grid(color="#DDDDDD")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.suptitle(title)
    return figure


def reliability(bins: list[Bin], title: str) -> Figure:
    """Draw the share of right answers, with its interval, against what the net said its probability is."""
    figure = Figure(figsize=(5.4, 5.4), layout="constrained")
    axes = figure.add_subplot()
    confidence = np.array([of.confidence for of in bins])
    accuracy = np.array([of.right / of.size for of in bins])
    intervals = np.array([wilson(of.right, of.size) for of in bins])
    least = max(0.0, min(intervals.min(), confidence.min()) - 0.02)
    axes.plot([least, 1], [least, 1], color="#888888", linestyle="--", label="as sure as it is right")
    spread = np.abs(intervals.T - accuracy)
    axes.errorbar(confidence, accuracy, spread, color=TRAINING, fmt="o", markersize=4, capsize=2, label="test digits")
    axes.set(title=title, xlabel="probability that the net gives", ylabel="share of right answers")
    axes.set(xlim=(least, 1.005), ylim=(least, 1.005))
    _percents(axes)
    axes.legend(frameon=False, loc="upper left")
    return figure


def per_class(missed: np.ndarray, count: np.ndarray, title: str) -> Figure:
    """Draw the error rate of each class, with its interval: `missed` (10) out of `count` (10)."""
    figure = Figure(figsize=(5.4, 5.4), layout="constrained")
    axes = figure.add_subplot()
    rate = missed / count
    intervals = np.array([wilson(hits, n) for hits, n in zip(missed.tolist(), count.tolist(), strict=True)])
    digits = np.arange(len(count))
    axes.errorbar(rate, digits, xerr=np.abs(intervals.T - rate), color=TRAINING, fmt="o", markersize=5, capsize=3)
    axes.axvline(missed.sum() / count.sum(), color="#888888", linestyle="--", label="all digits")
    axes.set(title=title, xlabel="error rate, with its 95 % interval", ylabel="digit", yticks=digits)
    axes.set(xlim=(0, None), ylim=(len(count) + 0.2, -0.6))  # room for the legend below the last digit
    _percents(axes, of_x_alone=True)
    axes.legend(frameon=False, loc="lower right")
    return figure


def _percents(axes: Axes, of_x_alone: bool = False) -> None:
    for axis in [axes.xaxis] if of_x_alone else [axes.xaxis, axes.yaxis]:
        axis.set_major_formatter(PercentFormatter(1))
    axes.grid(color="#DDDDDD")
    axes.spines[["top", "right"]].set_visible(False)


def grid(images: np.ndarray, captions: list[str], title: str, columns: int = 10) -> Figure:
    """Draw `images` (n, 28, 28; 0 is paper), each over its caption of one or more lines."""
    rows, lines = max(1, -(-len(images) // columns)), "".join(captions[:1]).count("\n") + 1
    figure = Figure(figsize=(0.8 * columns, rows * (0.8 + 0.17 * lines) + 0.4), layout="constrained")
    figure.suptitle(title)
    every = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in every:
        axes.set_axis_off()
    for axes, image, caption in zip(every, images, captions, strict=False):
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=255)
        axes.text(0.5, -0.06, caption, transform=axes.transAxes, ha="center", va="top", fontsize=8)
    return figure


def kernels(before: np.ndarray, after: np.ndarray, title: str) -> Figure:
    """Draw the kernels (n, height, width) of the first convolution before and after training, on one scale."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    figure.suptitle(title)
    most = max(np.abs(before).max(), np.abs(after).max())
    columns = 8 if len(before) > 8 else 4
    for axes, values, name in zip(figure.subplots(1, 2), (before, after), ("untrained", "trained"), strict=True):
        drawn = axes.imshow(_tiles(values, columns), cmap=DIVERGING, vmin=-most, vmax=most)
        axes.set_title(name, fontsize=10)
        axes.set_axis_off()
    figure.colorbar(drawn, ax=figure.axes, shrink=0.8, label="weight")
    return figure


def feature_maps(images: np.ndarray, layers: dict[str, np.ndarray], title: str) -> Figure:
    """Draw a row for each of `images` (n, 28, 28): the image, then maps of each layer (n, maps, height, width).

    Each map is on a scale of its own: white is 0, orange below it, purple above.
    """
    figure = Figure(figsize=(1.1 + 3.2 * len(layers), 6.2), layout="constrained")
    figure.suptitle(title)
    shares = [1.0] + [float(maps.shape[1]) for maps in layers.values()]
    first, *others = figure.subplots(1, 1 + len(layers), width_ratios=shares, squeeze=False).flat
    count = len(images)  # with one unit a tile, the rows of all layers are level
    first.imshow(_tiles(images.astype(float), 1), cmap="gray_r", vmin=0, vmax=255, extent=(0, 1, count, 0))
    first.set_title("image", fontsize=10)
    for axes, (name, maps) in zip(others, layers.items(), strict=True):
        scaled = maps / np.maximum(np.abs(maps).max((2, 3), keepdims=True), 1e-12)
        tiles, extent = _tiles(scaled.reshape(-1, *maps.shape[2:]), maps.shape[1]), (0, maps.shape[1], count, 0)
        axes.imshow(tiles, cmap=DIVERGING, vmin=-1, vmax=1, extent=extent)
        axes.set_title(name, fontsize=10)
    for axes in figure.axes:
        axes.set_axis_off()
    return figure


def _tiles(images: np.ndarray, columns: int) -> np.ndarray:
    """Return `images` (n, height, width) side by side as one, a gap of NaN around each."""
    count, height, width = images.shape
    rows, gap = -(-count // columns), 1
    canvas = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap), np.nan)
    for place, image in enumerate(images):
        top, left = gap + place // columns * (height + gap), gap + place % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas

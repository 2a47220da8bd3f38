"""Pictures that are legible at a glance, in colours that everybody can tell apart, the same bytes from run to run.

They have no titles of their own: the page says over each what it shows. They are narrow enough for a phone.
"""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter
from PIL import Image

DPI, WIDTH = 200, 4.4  # dots an inch, inches
# Okabe and Ito's palette for all kinds of colour vision: blue, vermilion, sky blue
TRAINING, VALIDATION, TEST = "#0072B2", "#D55E00", "#56B4E9"
QUIET, LINE = "#767676", "#DDDDDD"
COLUMNS = 6  # of a grid of images
NUMBERED, LONGEST = 12, 9  # classes with numbers in the confusion matrix, and characters of a name


def png(figure: Figure) -> bytes:
    """Return `figure` as PNG of 256 colours, which is a third of the size and looks the same."""
    figure.set_dpi(DPI)
    canvas, content = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()  # type: ignore[no-untyped-call]
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")  # type: ignore[no-untyped-call]
    # Pillow writes no version of a program, which would be another on each machine
    drawn.quantize(256, dither=Image.Dither.NONE).save(content, format="png", optimize=True)
    return content.getvalue()


def confusion(counts: np.ndarray, names: list[str]) -> Figure:
    """Draw `counts` (n, n; actual, predicted): right answers in quiet grey, errors coloured, then each accuracy.

    More than NUMBERED classes have no numbers: the colours alone are legible.
    """
    classes, numbered = len(counts), len(counts) <= NUMBERED
    upright = max(map(len, names)) > 2
    errors = counts * (1 - np.eye(classes, dtype=counts.dtype))
    figure = Figure(figsize=(WIDTH, WIDTH * 0.95), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(np.ma.masked_equal(errors, 0), cmap="Blues", vmin=0, vmax=errors.max())
    if numbered:
        for actual, predicted in zip(*np.nonzero(counts), strict=True):
            count = counts[actual, predicted]
            color = QUIET if actual == predicted else "white" if count > errors.max() / 2 else "black"
            axes.text(predicted, actual, str(count), ha="center", va="center", color=color, fontsize=8)
        middle = classes + 0.035 * classes  # of the column of the accuracies
        for actual, (hits, of) in enumerate(zip(counts.diagonal(), counts.sum(1), strict=True)):
            axes.text(middle, actual, f"{hits / of:.2%}", ha="center", va="center", fontsize=7 if upright else 9)
        axes.text(middle, -0.65, "accuracy", ha="center", va="bottom", fontsize=7 if upright else 9, color=QUIET)
    size = None if numbered else max(2.0, 120 / classes)
    axes.set_xticks(range(classes), names, rotation=90 if upright else 0, fontsize=size, parse_math=False)
    axes.set_yticks(range(classes), names, fontsize=size, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="actual class", xlim=(-0.5, classes + 0.12 * classes))
    for draw_lines in (axes.hlines, axes.vlines):
        draw_lines(np.arange(classes + 1) - 0.5, -0.5, classes - 0.5, color=LINE, linewidth=0.8)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def shortened(names: list[str]) -> list[str]:
    """Return the beginnings of `names` that are longer than LONGEST, after their places where two would be the same.

    A name that matplotlib's font cannot write, as in Chinese or with an emoji, is "class" and its place.
    """
    written = get_font(findfont("DejaVu Sans")).get_charmap().keys()
    names = [name if written >= set(map(ord, name)) else f"class {place}" for place, name in enumerate(names)]
    short = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]
    placed = [f"{place} {name}"[: LONGEST - 1] + "…" for place, name in enumerate(names)]
    return [of if short.count(of) == 1 else other for of, other in zip(short, placed, strict=True)]


def training(curve: np.ndarray) -> Figure:
    """Draw loss and error rate against examples seen from the rows of plots/training.csv."""
    figure = Figure(figsize=(WIDTH, WIDTH * 1.1), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    batches, epochs = (curve[~np.isnan(curve[column])] for column in ("batch_loss", "epoch"))
    top.plot(batches["examples"], batches["batch_loss"], color=TEST, linewidth=1, label="batches, as trained on")
    parts = ("train", "training", TRAINING, "o"), ("validation", "validation", VALIDATION, "s")
    for part, name, color, marker in parts:
        style = {"color": color, "marker": marker, "markersize": 4, "linewidth": 1, "label": name}
        top.plot(epochs["examples"], epochs[f"{part}_loss"], **style)
        bottom.plot(epochs["examples"], 1 - epochs[f"{part}_accuracy"], **style)
    top.set(ylabel="loss (nats)", yscale="log")
    bottom.set(xlabel="training images seen", ylabel="error rate", yscale="log")
    bottom.xaxis.set_major_locator(MaxNLocator(5))
    bottom.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    bottom.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (top, bottom):
        axes.yaxis.set_minor_formatter(NullFormatter())
        quiet_axes(axes)
    top.legend(frameon=False, fontsize=9)
    return figure


def quiet_axes(axes: Axes) -> None:
    """Draw a light grid under what `axes` has, and no frame at the top and right."""
    axes.grid(color=LINE)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def grid(images: np.ndarray, captions: list[str], ink: bool) -> Figure:
    """Draw `images` (n, H, W[, 3]), each over its caption of one or more lines; `ink` on black paper is inverted."""
    rows, lines = max(1, -(-len(images) // COLUMNS)), "".join(captions[:1]).count("\n") + 1
    side, text = WIDTH / COLUMNS, 0.15 * lines + 0.08  # inches
    high = side * images.shape[1] / images.shape[2]
    height = rows * (high + text)
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1))  # one for all, in inches: axes for each image take five times as long
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = place % COLUMNS * side, place // COLUMNS * (high + text)
        extent = (left, left + side, top + high, top)
        axes.imshow(image, cmap="gray_r" if ink else "gray", vmin=0, vmax=255, extent=extent, aspect="auto")
        axes.text(left + side / 2, top + high, caption, ha="center", va="top", fontsize=8, parse_math=False)
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.set_axis_off()
    return figure

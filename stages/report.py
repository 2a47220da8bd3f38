"""Draw what people look at: the curves, samples, errors, and what the net is like inside.

    python -m stages.report

Reads what the other stages wrote; writes plots/*.png. A change of a colour runs this stage alone.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.common import command, exact, idx, inference, nets, pictures, settings

RAW, PLOTS = Path("data/raw/MNIST/raw"), Path("plots")
SPLIT, MODEL, METRICS = Path("data/split/train.npy"), Path("models/model.pt"), Path("metrics/evaluate.json")
SAMPLES, ERRORS, MAPS = 40, 30, 6  # digits in a grid, and maps shown of each convolution


def main() -> None:
    """Draw, and write the pictures."""
    exact.pin()
    model = torch.load(MODEL, weights_only=True)
    metrics = json.loads(METRICS.read_text())
    dataset = settings.value("download.dataset")
    title = f"{dataset}, {model['recipe']}: {metrics['accuracy']:.2%} of the test digits"
    images, labels = (idx.read(RAW / f"train-{name}-ubyte") for name in ("images-idx3", "labels-idx1"))
    test = idx.read(RAW / "t10k-images-idx3-ubyte")
    table = np.genfromtxt(PLOTS / "predictions.csv", delimiter=",", names=True)
    actual, predicted = (table[name].astype(int) for name in ("actual", "predicted"))
    probability = table["probability"]

    counts = np.zeros((nets.CLASSES, nets.CLASSES), dtype=np.int64)
    np.add.at(counts, (actual, predicted), 1)
    pictures.save(pictures.confusion(counts, title), PLOTS / "confusion.png")
    curve = np.genfromtxt(PLOTS / "training.csv", delimiter=",", names=True)
    pictures.save(pictures.training(curve, title), PLOTS / "training.png")

    rows = np.load(SPLIT)[:SAMPLES]
    sampled = pictures.grid(images[rows], [f"{labels[row]}" for row in rows], f"Training digits\n{title}")
    pictures.save(sampled, PLOTS / "samples.png")
    captions = [f"{digit}  {share:.0%}" for digit, share in zip(predicted[:SAMPLES], probability, strict=False)]
    read = pictures.grid(test[:SAMPLES], captions, f"Test digits: what the net reads, and how sure it is\n{title}")
    pictures.save(read, PLOTS / "predictions.png")
    wrong = np.flatnonzero(predicted != actual)
    surest = wrong[np.argsort(-probability[wrong], kind="stable")][:ERRORS]
    captions = [f"no. {row}\nis {actual[row]}\nread {predicted[row]} {probability[row]:.0%}" for row in surest]
    pictures.save(pictures.grid(test[surest], captions, f"The surest errors\n{title}"), PLOTS / "errors.png")

    net = nets.trained(model)
    first = next(name for name in model["weights"] if name.endswith(("_conv.weight", "_linear.weight")))
    before, after = (model[state][first][:, 0].numpy() for state in ("untrained", "weights"))
    figure = pictures.kernels(before, after, f"The first layer's kernels\n{title}")
    pictures.save(figure, PLOTS / "kernels.png")
    firsts = np.array([np.flatnonzero(actual == digit)[0] for digit in range(nets.CLASSES)])
    maps = feature_maps(net, torch.from_numpy(test[firsts].copy()))
    figure = pictures.feature_maps(test[firsts], maps, f"Feature maps, {MAPS} of each convolution\n{title}")
    pictures.save(figure, PLOTS / "feature_maps.png")


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
    command.run("report", main, __doc__)

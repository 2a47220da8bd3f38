"""Read the test set, once, with the trained net: numbers, and what the net said of each image.

    python -m stages.evaluate

Reads models/model.pt and the official test set; writes metrics/evaluate.json, plots/predictions.csv (a row for each
test image) and plots/per_class.csv. Always on the CPU: the same weights give the same numbers everywhere.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from stages.common import command, errors, exact, files, idx, inference, nets, settings
from stages.common.workers import Workers, available

RAW = Path("data/raw/MNIST/raw")
MODEL, METRICS = Path("models/model.pt"), Path("metrics/evaluate.json")
PREDICTIONS, PER_CLASS = Path("plots/predictions.csv"), Path("plots/per_class.csv")


class Evaluate(settings.Settings):
    """The section `evaluate` of params.yaml."""

    batch_size: Annotated[int, Field(ge=1)]


def main() -> None:
    """Evaluate, and write the metrics and the tables."""
    batch_size = settings.load("evaluate", Evaluate).batch_size
    exact.pin()
    net = nets.trained(torch.load(MODEL, weights_only=True))
    images, labels = read_test_set()
    with Workers(available()) as workers:
        logits = inference.predict(net, images, batch_size, workers)
    loss, accuracy = inference.loss_and_accuracy(logits, labels)
    actual, predicted = labels.numpy(), logits.argmax(1).numpy()
    counts = np.zeros((nets.CLASSES, nets.CLASSES), dtype=np.int64)
    np.add.at(counts, (actual, predicted), 1)
    images_of, right = counts.sum(1).tolist(), counts.diagonal().tolist()
    if 0 in images_of:
        raise errors.StageError(f"{RAW}: no test image of class {images_of.index(0)}; delete it and run `dvc repro`")
    probabilities = [round(value, 4) for value in logits.double().softmax(1).amax(1).tolist()]
    rows = zip(actual.tolist(), predicted.tolist(), probabilities, strict=True)
    files.write_csv(PREDICTIONS, ("actual", "predicted", "probability"), rows)
    files.write_csv(
        PER_CLASS,
        ("digit", "count", "errors", "error_rate"),
        ((digit, n, n - r, 1 - r / n) for digit, (n, r) in enumerate(zip(images_of, right, strict=True))),
    )
    per_class = {
        str(digit): {"accuracy": r / n, "count": n} for digit, (n, r) in enumerate(zip(images_of, right, strict=True))
    }
    numbers = {"accuracy": accuracy, "loss": loss, "errors": len(labels) - sum(right)}
    files.write_json(METRICS, {**numbers, "per_class": per_class})


def read_test_set() -> tuple[Tensor, Tensor]:
    """Return the official test set: images (n, 28, 28; bytes) and labels (n)."""
    images = torch.from_numpy(idx.read(RAW / "t10k-images-idx3-ubyte").copy())
    return images, torch.from_numpy(idx.read(RAW / "t10k-labels-idx1-ubyte").astype(np.int64))


if __name__ == "__main__":
    command.run("evaluate", main, __doc__)

"""Read the test set, once, with the trained net: numbers, tables and pictures of what it gets wrong.

    python -m stages.evaluate

Reads models/model.pt, the official test set and the curve of the training; writes metrics/evaluate.json,
plots/confusion.csv (a row for each test image), plots/per_class.csv and two pictures. Always on the CPU: the same
weights give the same numbers everywhere.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from stages.common import command, errors, exact, files, idx, inference, nets, pictures, settings
from stages.common.workers import Workers, available

RAW = Path("data/raw/MNIST/raw")
MODEL, TRAINING = Path("models/model.pt"), Path("plots/training.csv")
METRICS = Path("metrics/evaluate.json")
CONFUSION, PER_CLASS = Path("plots/confusion.csv"), Path("plots/per_class.csv")
CONFUSION_PICTURE, TRAINING_PICTURE = Path("plots/confusion.png"), Path("plots/training.png")


class Evaluate(settings.Settings):
    """The section `evaluate` of params.yaml."""

    batch_size: Annotated[int, Field(ge=1)]


def main() -> None:
    """Evaluate, and write the metrics, the tables and the pictures."""
    batch_size = settings.load("evaluate", Evaluate).batch_size
    exact.pin()
    model = torch.load(MODEL, weights_only=True)
    net = nets.build(model["layers"])
    net.load_state_dict(model["weights"])
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
    files.write_csv(CONFUSION, ("actual", "predicted"), zip(actual.tolist(), predicted.tolist(), strict=True))
    files.write_csv(
        PER_CLASS,
        ("digit", "count", "errors", "error_rate"),
        ((digit, n, n - r, 1 - r / n) for digit, (n, r) in enumerate(zip(images_of, right, strict=True))),
    )
    title = f"{model['recipe']}: {accuracy:.2%} of {len(labels):,} test digits"
    pictures.save(pictures.confusion(counts, title), CONFUSION_PICTURE)
    pictures.save(pictures.training(np.genfromtxt(TRAINING, delimiter=",", names=True), title), TRAINING_PICTURE)
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

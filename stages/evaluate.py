"""Read the test set, once, with the trained net: numbers, and what the net said of each image.

    python -m stages.evaluate

Reads models/model.pt and the official test set; writes metrics/evaluate.json, plots/predictions.csv (a row for each
test image), plots/per_class.csv and plots/reliability.csv. Always on the CPU: the same weights give the same numbers
everywhere. Intervals are Wilson's, of 95 %.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor

from stages.common import command, errors, exact, files, idx, inference, nets, settings, statistics
from stages.common.workers import Workers, available

RAW = Path("data/raw/MNIST/raw")
MODEL, METRICS = Path("models/model.pt"), Path("metrics/evaluate.json")
PREDICTIONS, PER_CLASS, RELIABILITY = (
    Path(f"plots/{name}.csv") for name in ("predictions", "per_class", "reliability")
)
# Test digits of MNIST whose label people, asked again, found wrong (Northcutt, Athalye, Mueller 2021); rows from 0
MISLABELLED = (947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729)


class Evaluate(settings.Settings):
    """The section `evaluate` of params.yaml."""

    batch_size: Annotated[int, Field(ge=1)]


def main() -> None:
    """Evaluate, and write the metrics and the tables."""
    batch_size = settings.load("evaluate", Evaluate).batch_size
    exact.pin()
    net = nets.trained(nets.read(MODEL))
    images, labels = read_test_set()
    with Workers(available()) as workers:
        logits = inference.predict(net, images, batch_size, workers)
    loss, accuracy = inference.loss_and_accuracy(logits, labels)
    actual, predicted = labels.numpy(), logits.argmax(1).numpy()
    right = actual == predicted
    # as the table has them, so that what is computed from it is what is written here
    probability = logits.double().softmax(1).amax(1).numpy().round(4)
    bins = statistics.calibration(probability, right)
    precision, recall, f1, count = precision_recall_fscore_support(
        actual, predicted, labels=range(nets.CLASSES), zero_division=0.0
    )
    if not count.all():
        raise errors.StageError(f"{RAW}: no test image of class {count.argmin()}; delete it and run `dvc repro`")
    files.write_csv(
        PREDICTIONS, ("actual", "predicted", "probability"), zip(actual, predicted, probability, strict=True)
    )
    shares = [(confidence, hits / n, *statistics.wilson(hits, n), n) for n, hits, confidence in bins]
    files.write_csv(RELIABILITY, ("confidence", "accuracy", "lower", "upper", "count"), shares)
    missed = np.bincount(actual[~right], minlength=nets.CLASSES)
    rates = [(digit, missed[digit] / n, *statistics.wilson(missed[digit], n), n) for digit, n in enumerate(count)]
    files.write_csv(PER_CLASS, ("digit", "error_rate", "lower", "upper", "count"), rates)
    lower, upper = statistics.wilson(int(right.sum()), len(right))
    numbers = {
        "accuracy": accuracy,
        "accuracy_interval": {"lower": lower, "upper": upper},
        "errors": int((~right).sum()),
        "loss": loss,
        "expected_calibration_error": statistics.expected_calibration_error(bins),
        "macro_f1": float(f1.mean()),
        "per_class": {
            str(digit): {
                "accuracy": float(recall[digit]),
                "count": int(count[digit]),
                "precision": float(precision[digit]),
                "recall": float(recall[digit]),
                "f1": float(f1[digit]),
            }
            for digit in range(nets.CLASSES)
        },
    }
    if settings.value("download.dataset") == "mnist":
        numbers["accuracy_without_mislabelled"] = float(np.delete(right, MISLABELLED).mean())
    files.write_json(METRICS, numbers)


def read_test_set() -> tuple[Tensor, Tensor]:
    """Return the official test set: images (n, 28, 28; bytes) and labels (n)."""
    images = torch.from_numpy(idx.read(RAW / "t10k-images-idx3-ubyte").copy())
    return images, torch.from_numpy(idx.read(RAW / "t10k-labels-idx1-ubyte").astype(np.int64))


if __name__ == "__main__":
    command.run("evaluate", main, __doc__)

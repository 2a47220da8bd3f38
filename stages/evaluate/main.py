"""Measure the trained net on the test set: metrics, and the predicted class of each image.

    python -m stages.evaluate

Reads models/model.pt and the official test set; writes metrics/evaluate.json, plots/predictions.csv (a row for each
test image), plots/per_class.csv and plots/reliability.csv. Always on the CPU: the same weights give the same numbers
everywhere. Intervals are Wilson's, of 95 %.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
import torch

from stages.common import files, raw
from stages.net import exact, inference, model
from stages.net.workers import Workers, available

METRICS, PREDICTIONS = Path("metrics/evaluate.json"), Path("plots/predictions.csv")
PER_CLASS, RELIABILITY = Path("plots/per_class.csv"), Path("plots/reliability.csv")
CONFIDENCE = 0.95
BINS = 15  # of the expected calibration error
# Predictions of about the same probability: their mean probability, how many are right, and how many they are
Bin = tuple[float, int, int]


def main() -> None:
    """Evaluate, and write the metrics and the tables."""
    exact.pin()
    exact.warn_of_other_versions("torch", "numpy")
    net = model.trained(model.read())
    data = raw.describe()
    classes = data.classes
    images, actual = torch.from_numpy(raw.images("t10k")), raw.labels("t10k").astype(np.int64)
    with Workers(available()) as workers:
        logits = inference.predict(net, images, workers)
    loss, accuracy = inference.loss_and_accuracy(logits, torch.from_numpy(actual))
    predicted = logits.argmax(1).numpy()
    right = actual == predicted
    # as the table has them, so that what is computed from it is what is written here
    probability = inference.probabilities(logits).amax(1).numpy().round(4)
    bins = calibration(probability, right)
    hits, count, claims = (np.bincount(of, minlength=len(classes)) for of in (actual[right], actual, predicted))
    # by hand, as sklearn.metrics takes a second to import
    recall, precision, f1 = hits / count, hits / np.maximum(1, claims), 2 * hits / (count + claims)
    intervals = np.array([wilson(*of) for of in zip(hits, count, strict=True)])
    named = np.array(classes)
    rows = zip(named[actual], named[predicted], probability, strict=True)
    files.write_csv(PREDICTIONS, ("actual", "predicted", "probability"), rows)
    files.write_csv(
        PER_CLASS,
        ("class", "count", "errors", "recall", "lower", "upper", "precision", "f1"),
        zip(classes, count, count - hits, recall, *intervals.T, precision, f1, strict=True),
    )
    files.write_csv(
        RELIABILITY,
        ("confidence", "accuracy", "lower", "upper", "count"),
        [(confidence, hits / count, *wilson(hits, count), count) for confidence, hits, count in bins],
    )
    metrics = {
        "accuracy": accuracy,
        "errors": int((~right).sum()),
        "loss": loss,
        "expected_calibration_error": expected_calibration_error(bins),
        "macro_f1": math.fsum(f1) / len(f1),
        "per_class": {name: float(of) for name, of in zip(classes, recall, strict=True)},
    }
    if data.mislabelled:
        metrics["accuracy_without_mislabelled"] = float(np.delete(right, data.mislabelled).mean())
    files.write_json(METRICS, metrics)
    print(f"{METRICS}: accuracy {accuracy:.2%}, {metrics['errors']} errors in {len(actual):,} test images")


def calibration(probability: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Return the bins, of equal mass and in rising order, of predictions: `probability` (n) and whether `right` (n)."""
    order = np.argsort(probability, kind="stable")
    return [
        (math.fsum(probability[rows]) / len(rows), int(right[rows].sum()), len(rows))
        for rows in np.array_split(order, min(bins, len(order)))
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Return the mean distance between confidence and accuracy, weighted by count (Naeini, Cooper, Hauskrecht 2015)."""
    distance = sum(abs(count * confidence - hits) for confidence, hits, count in bins)
    return distance / sum(count for *_, count in bins)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of the share that `hits` out of `count` estimate (Wilson 1927)."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)  # by hand, as scipy.stats takes a second to import
    middle, half = hits + z * z / 2, z * math.sqrt(hits * (count - hits) / count + z * z / 4)
    return max(0.0, (middle - half) / (count + z * z)), min(1.0, (middle + half) / (count + z * z))

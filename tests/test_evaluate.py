"""Which test digits of MNIST count as mislabelled."""

import csv
import json

import pytest

from stages.common import settings
from stages.download import entry
from tests.conftest import PROJECT, Clone

# Of the test digits that Northcutt, Athalye and Mueller (2021) showed to five people each: those whose label fewer than
# three of them found right, with that label (github.com/cleanlab/label-errors, mturk/mnist_mturk.json at 5457895e).
LABELS = {
    **{947: 8, 1621: 0, 1901: 9, 2130: 4, 2462: 2, 2597: 5, 2654: 6, 3520: 6},
    **{3558: 5, 5937: 5, 6651: 0, 6783: 1, 8527: 4, 9679: 6, 9729: 5},
}


def test_the_mislabelled_digits() -> None:
    """They are the fifteen of the source, and no other."""
    assert list(LABELS) == settings.load(entry.Entry, path=PROJECT / "datasets/mnist/dataset.yaml").mislabelled


@pytest.mark.slow
def test_the_accuracy_without_the_mislabelled_digits(on_mnist: Clone) -> None:
    """MNIST has the labels of the source in these rows, and the metric is the accuracy of all other rows."""
    metrics = json.loads((on_mnist.path / "metrics/evaluate.json").read_text())
    with (on_mnist.path / "plots/predictions.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert {row: int(rows[row]["actual"]) for row in LABELS} == LABELS
    right = [row["actual"] == row["predicted"] for number, row in enumerate(rows) if number not in LABELS]
    assert len(right) == 9985
    assert metrics["accuracy_without_mislabelled"] == round(sum(right) / 9985, 6)

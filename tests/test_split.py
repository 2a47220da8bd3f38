"""Split: stratified, seeded, and nothing in both parts."""

import subprocess
import sys

import numpy as np
import pytest

from stages.common.errors import StageError
from stages.split import stratified
from tests.conftest import PROJECT

LABELS = np.repeat(np.arange(10, dtype=np.uint8), [10, 20, 30, 40, 50, 60, 70, 80, 90, 100])


def test_each_class_gives_its_share() -> None:
    """A tenth of each class is in validation; together the parts are all rows, each once, in rising order."""
    train, validation = stratified(LABELS, 0.1, seed=0)
    assert np.bincount(LABELS[validation]).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(550))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()


def test_the_seed_decides() -> None:
    """The same seed gives the same rows on every machine; another seed gives others."""
    assert stratified(LABELS, 0.1, seed=0)[1][:6].tolist() == [2, 12, 25, 35, 46, 50]
    assert not np.array_equal(stratified(LABELS, 0.1, seed=0)[1], stratified(LABELS, 0.1, seed=1)[1])


@pytest.mark.parametrize("fraction", [0.01, 0.96])
def test_a_class_left_empty_is_refused(fraction: float) -> None:
    """A fraction that leaves a class without an image in a part is refused."""
    with pytest.raises(StageError, match=rf"split\.validation_fraction: {fraction} of the 10 images of class 0"):
        stratified(LABELS, fraction, seed=0)


def test_split_does_not_import_torch() -> None:
    """The stage starts in a fraction of the time that importing torch takes."""
    code = "import sys, stages.split; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0

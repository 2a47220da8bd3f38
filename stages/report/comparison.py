"""Whether two nets differ by more than chance: the test images that only one of both reads, and a verdict in words."""

from typing import Any

import numpy as np
from scipy import stats

from stages.common.errors import StageError
from stages.report.runs import CONFIDENCE, Run


def compare(first: Run, second: Run) -> dict[str, Any]:
    """Return metrics side by side, the rows of the digits that only one of both reads, p-value and verdict."""
    check_same_test_set([first, second])
    only_first, only_second = np.flatnonzero(first.right & ~second.right), np.flatnonzero(second.right & ~first.right)
    p = mcnemar(len(only_first), len(only_second))
    return {
        "metrics": {run.name: run.metrics for run in (first, second)},
        "accuracy_interval": {run.name: run.interval for run in (first, second)},
        "only_read_by": {first.name: only_first.tolist(), second.name: only_second.tolist()},
        "mcnemar_p": p,
        "verdict": verdict(first, second, len(only_first), len(only_second), p),
    }


def verdict(first: Run, second: Run, only_first: int, only_second: int, p: float) -> str:
    """Return in words what `only_first` digits against `only_second` say."""
    if first.weights == second.weights:
        return f"{first.name} and {second.name} have the same weights, bit for bit."
    if only_first == only_second == 0:
        return f"{first.name} and {second.name} err on the same digits."
    counts = (
        f"{only_first} against {only_second} digits that only {first.name} or only {second.name} reads (p = {p:.2g})"
    )
    if p > 1 - CONFIDENCE:
        return f"{counts}: no evidence of a difference."
    better, worse = (first, second) if only_first > only_second else (second, first)
    return f"{counts}: {better.name} reads better than {worse.name}. Other seeds may not: see --seeds."


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of the exact test that two nets err alike (McNemar 1947).

    Only the images that one of them reads and the other does not say anything: `only_first` and `only_second`.
    """
    count = only_first + only_second
    return float(stats.binomtest(only_first, count).pvalue) if count else 1.0


def check_same_test_set(runs: list[Run]) -> None:
    """Raise StageError unless the predictions of all `runs` are of the same test images."""
    first = runs[0]
    for other in runs[1:]:
        if other.dataset != first.dataset or not np.array_equal(
            other.predictions["actual"], first.predictions["actual"]
        ):
            both = (f"{run.name} has {len(run.predictions):,} of {run.dataset}" for run in (first, other))
            raise StageError(f"predictions of other test images: {', '.join(both)}; compare runs on one data set")

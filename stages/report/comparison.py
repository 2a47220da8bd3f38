"""Whether two nets differ by more than chance: the test images that one alone classifies correctly, and a verdict."""

from collections import Counter
from itertools import accumulate
from typing import Any

import numpy as np

from stages.common.errors import StageError
from stages.report.runs import CONFIDENCE, Run, check_model, differing, raw_data, test_list


def compare(first: Run, second: Run) -> dict[str, Any]:
    """Return both runs' metrics and the rows that one alone classifies correctly, what params differ, and a verdict."""
    check_same_test_set([first, second])
    only_first, only_second = np.flatnonzero(first.right & ~second.right), np.flatnonzero(second.right & ~first.right)
    p = mcnemar(len(only_first), len(only_second))
    return {
        "runs": [
            {
                "name": run.name,
                "metrics": run.metrics,
                "accuracy_interval": run.interval,
                "only_right": only.tolist(),
                "only_right_by_class": by_class(run, only),
            }
            for run, only in ((first, only_first), (second, only_second))
        ],
        "params": differing([first, second]),
        "mcnemar_p": p,
        "verdict": verdict(first, second, len(only_first), len(only_second), p),
    }


def by_class(run: Run, rows: np.ndarray) -> dict[str, int]:
    """Return how many of the test images `rows` each class has, the most first; only classes that have some."""
    return dict(Counter(run.names[int(place)] for place in run.predictions["actual"][rows]).most_common())


def verdict(first: Run, second: Run, only_first: int, only_second: int, p: float) -> str:
    """Return in words what `only_first` images against `only_second` say."""
    if first.weights == second.weights:
        return f"{first.name} and {second.name} have the same weights, bit for bit."
    if only_first == only_second == 0:
        return f"{first.name} and {second.name} err on the same images."
    images = "1 image is" if only_first == 1 else f"{only_first} images are"
    counts = f"{images} right only in {first.name}, {only_second} only in {second.name} (p = {p:.2g})"
    same = "" if differing([first, second]) else " No param differs: the code does, or the data, or the device."
    both = raw_data(first), raw_data(second)
    if all(both) and both[0] != both[1]:
        same = " The data in data/raw differ: if the test images do, too, this comparison says nothing."
    if p > 1 - CONFIDENCE:
        return f"{counts}: no evidence of a difference.{same}"
    better, worse = (first, second) if only_first > only_second else (second, first)
    seeds = "With other seeds it may not be: try `python -m tools.compare --seeds`."
    return f"{counts}: {better.name} is better than {worse.name}. {seeds}{same}"


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of the exact test that two nets err alike (McNemar 1947).

    Only the images that one alone classifies correctly say anything: `only_first` and `only_second`.
    """
    count = only_first + only_second
    # binomial coefficients as whole numbers: exact, and scipy.stats would take half a second to import
    ways = accumulate(range(min(only_first, only_second)), lambda of, k: of * (count - k) // (k + 1), initial=1)
    return min(1.0, 2 * sum(ways) / 2**count)


def check_same_test_set(runs: list[Run]) -> None:
    """Raise StageError unless the predictions of all `runs` are of the same test images, each run's of its model."""
    for run in runs:
        check_model(run)
    first = runs[0]
    for other in runs[1:]:
        same = np.array_equal(other.predictions["actual"], first.predictions["actual"])
        if not same or other.dataset != first.dataset or test_list(other) != test_list(first):
            both = (f"{run.name} has {len(run.predictions):,} of {run.dataset}" for run in (first, other))
            advice = "compare runs on one data set, with one `test.txt` if it has one"
            raise StageError(f"predictions of other test images: {', '.join(both)}; {advice}")

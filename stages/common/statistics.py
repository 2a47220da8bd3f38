"""What numbers from a sample are worth: intervals, calibration, and whether a difference is one."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
POWER = 0.8  # the chance to see a difference that is there, which is what people usually ask for


class Bin(NamedTuple):
    """Predictions of about the same probability: how many, how many of them are right, and their mean probability."""

    size: int
    right: int
    confidence: float


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of the share that `hits` out of `count` estimate (Wilson 1927)."""
    interval = stats.binomtest(hits, count).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def calibration(probability: np.ndarray, right: np.ndarray, bins: int = 15) -> list[Bin]:
    """Return the bins, of equal mass and in rising order, of predictions: `probability` (n) and whether `right` (n)."""
    order = np.argsort(probability, kind="stable")
    return [
        Bin(len(rows), int(right[rows].sum()), float(probability[rows].mean()))
        for rows in np.array_split(order, min(bins, len(order)))
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Return the mean distance between confidence and accuracy, weighted by count (Naeini, Cooper, Hauskrecht 2015)."""
    distances = (abs(count * confidence - right) for count, right, confidence in bins)
    return sum(distances) / sum(count for count, _, _ in bins)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of the exact test that two nets err alike (McNemar 1947).

    Only the samples that one of them reads and the other does not say anything: `only_first` and `only_second`.
    """
    count = only_first + only_second
    return float(stats.binomtest(only_first, count).pvalue) if count else 1.0


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the p-value of the test that two groups, of two values or more, have one mean (Welch 1947)."""
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return float(first[0] == second[0])
    return float(stats.ttest_ind(first, second, equal_var=False).pvalue)


def seeds_to_tell(difference: float, *deviations: float) -> int:
    """Return how many seeds a side show a `difference` of means at 95 % in 80 % of the cases, by the normal formula.

    n = (z(0.975) + z(0.8))^2 (s1^2 + s2^2) / d^2, `deviations` being the two standard deviations.
    """
    z = stats.norm.ppf((1 + CONFIDENCE) / 2) + stats.norm.ppf(POWER)
    return max(2, math.ceil(z**2 * sum(deviation**2 for deviation in deviations) / difference**2))

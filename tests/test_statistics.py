"""Intervals, calibration and tests: against cases worked by hand, and a second implementation of each formula."""

import math
import random
from statistics import mean, variance

import numpy as np
import pytest

from stages.evaluate.main import Bin, calibration, expected_calibration_error, wilson
from stages.report.comparison import mcnemar
from tools.seeds import seeds_to_tell, welch

Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution


@pytest.mark.parametrize(("hits", "count"), [(8, 10), (0, 10), (10, 10), (1, 1), (9950, 10_000), (9952, 10_000)])
def test_wilson(hits: int, count: int) -> None:
    """The interval is the one of Wilson's formula, written out."""
    share = hits / count
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    assert wilson(hits, count) == pytest.approx((middle - half, middle + half), abs=1e-12)


def test_wilson_by_hand() -> None:
    """99.5 % of 10,000 is 99.34 to 99.62 %, and 8 of 10 is 49.0 to 94.3 %."""
    assert [round(100 * end, 2) for end in wilson(9950, 10_000)] == [99.34, 99.62]
    assert [round(100 * end, 1) for end in wilson(8, 10)] == [49.0, 94.3]


def test_calibration_by_hand() -> None:
    """Two bins of two: 0.65 sure and half right, 0.85 sure and all right: 0.15 and 0.15."""
    probability, right = np.array([0.9, 0.6, 0.8, 0.7]), np.array([True, True, True, False])
    bins = calibration(probability, right, bins=2)
    assert bins == [Bin(2, 1, pytest.approx(0.65)), Bin(2, 2, pytest.approx(0.85))]
    assert expected_calibration_error(bins) == pytest.approx(0.15)


def test_calibration_agrees_with_a_second_implementation() -> None:
    """15 bins of equal mass, of 1,000 and of 1,007 predictions, many of them equal: as loops and lists have them."""
    source = random.Random(0)  # noqa: S311
    for count in (1000, 1007, 7):
        probability = [round(source.random() ** 0.2, 2) for _ in range(count)]
        right = [source.random() < value for value in probability]
        pairs = sorted(zip(probability, right, strict=True), key=lambda pair: pair[0])
        size, larger = divmod(count, min(15, count))
        total, start = 0.0, 0
        for place in range(min(15, count)):
            of_bin = pairs[start : start + size + (place < larger)]
            start += len(of_bin)
            confidence, accuracy = (mean(values) for values in zip(*of_bin, strict=True))
            total += len(of_bin) / count * abs(confidence - accuracy)
        bins = calibration(np.array(probability), np.array(right))
        assert expected_calibration_error(bins) == pytest.approx(total, abs=1e-12)


def test_mcnemar() -> None:
    """Twice the tail of the binomial distribution, counted; 5 against 0 is 1 in 16; none against none is 1."""
    assert mcnemar(5, 0) == pytest.approx(1 / 16)
    tail = sum(math.comb(21, k) for k in range(10)) / 2**21
    assert mcnemar(12, 9) == mcnemar(9, 12) == pytest.approx(2 * tail)
    assert mcnemar(0, 0) == 1.0


def test_welch() -> None:
    """The p-value of Welch's t and degrees of freedom, written out, the distribution added up in small steps."""
    first, second = [99.51, 99.54, 99.48, 99.55], [99.47, 99.50, 99.43]
    parts = [variance(values) / len(values) for values in (first, second)]
    t = (mean(first) - mean(second)) / math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2)
    scale = math.gamma((freedom + 1) / 2) / math.sqrt(freedom * math.pi) / math.gamma(freedom / 2)
    steps = 20_000
    density = ((1 + ((place + 0.5) * t / steps) ** 2 / freedom) ** (-(freedom + 1) / 2) for place in range(steps))
    assert welch(first, second) == pytest.approx(1 - 2 * scale * sum(density) * t / steps, abs=1e-6)
    assert welch([0.5, 0.5], [0.5, 0.5]) == 1.0
    assert welch([0.5, 0.5], [0.6, 0.6]) == 0.0


def test_seeds_to_tell() -> None:
    """To tell 0.05 points apart takes 16 seeds a side where they spread by 0.05; four times as many for half of it."""
    assert seeds_to_tell(0.05, 0.05, 0.05) == 16
    assert seeds_to_tell(-0.025, 0.05, 0.05) == 63
    assert seeds_to_tell(1.0, 0.05, 0.05) == 2

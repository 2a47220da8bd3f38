"""Intervals, calibration and tests: against cases worked by hand, and a second implementation of each formula."""

import math
import random
from statistics import mean, variance

import numpy as np
import pytest
from scipy import stats

from stages.evaluate.main import calibration, expected_calibration_error, wilson
from stages.report import runs
from stages.report.comparison import mcnemar
from tools.seeds import difference, holm, seeds_to_tell

Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution


COUNTS = [(8, 10), (0, 10), (10, 10), (1, 1), (31, 31), (9950, 10_000), (9952, 10_000)]


@pytest.mark.parametrize(("hits", "count"), COUNTS)
def test_wilson(hits: int, count: int) -> None:
    """The interval is the one of Wilson's formula, written out, in evaluate and in the report."""
    share = hits / count
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    assert wilson(hits, count) == runs.wilson(hits, count) == pytest.approx((middle - half, middle + half), abs=1e-12)
    assert 0 <= wilson(hits, count)[0] <= wilson(hits, count)[1] <= 1


def test_wilson_by_hand() -> None:
    """99.5 % of 10,000 is 99.34 to 99.62 %, and 8 of 10 is 49.0 to 94.3 %."""
    assert [round(100 * end, 2) for end in wilson(9950, 10_000)] == [99.34, 99.62]
    assert [round(100 * end, 1) for end in wilson(8, 10)] == [49.0, 94.3]


def test_calibration_by_hand() -> None:
    """Two bins of two: 0.65 sure and half right, 0.85 sure and all right: 0.15 and 0.15."""
    probability, right = np.array([0.9, 0.6, 0.8, 0.7]), np.array([True, True, True, False])
    bins = calibration(probability, right, bins=2)
    assert bins == [(pytest.approx(0.65), 1, 2), (pytest.approx(0.85), 2, 2)]
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
    assert mcnemar(5, 0) == 1 / 16
    tail = sum(math.comb(21, k) for k in range(10)) / 2**21
    assert mcnemar(12, 9) == mcnemar(9, 12) == 2 * tail
    assert mcnemar(40, 91) == pytest.approx(stats.binomtest(40, 131).pvalue, rel=1e-12)
    assert mcnemar(0, 0) == 1.0


def two_sided(t: float, freedom: float) -> float:
    """Return the p-value of Student's `t`, the distribution added up in small steps."""
    scale = math.gamma((freedom + 1) / 2) / math.sqrt(freedom * math.pi) / math.gamma(freedom / 2)
    steps = 20_000
    density = ((1 + ((place + 0.5) * t / steps) ** 2 / freedom) ** (-(freedom + 1) / 2) for place in range(steps))
    return 1 - 2 * scale * sum(density) * abs(t) / steps


def test_welch() -> None:
    """The p-value of Welch's t and degrees of freedom, written out, where the groups have one seed in common."""
    first, second = {1: 0.9951, 2: 0.9954, 3: 0.9948, 4: 0.9955}, {4: 0.9947, 5: 0.995, 6: 0.9943}
    parts = [variance(values.values()) / len(values) for values in (first, second)]
    t = (mean(first.values()) - mean(second.values())) / math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2)
    found = difference(first, second)
    assert found["test"] == "Welch's test"
    assert found["p"] == pytest.approx(two_sided(t, freedom), abs=1e-6)
    scipys = stats.ttest_ind(list(first.values()), list(second.values()), equal_var=False)
    assert found["p"] == pytest.approx(scipys.pvalue, rel=1e-9)
    assert "no evidence of a difference. To detect one of this size, each group needs about" in found["verdict"]


def test_the_paired_test() -> None:
    """The p-value of Student's t of the differences, of the seeds that both groups have."""
    first, second = {1: 0.9951, 2: 0.9954, 3: 0.9948, 9: 0.1}, {8: 0.2, 3: 0.9943, 2: 0.9950, 1: 0.9948}
    found = difference(first, second)
    assert found["test"] == "paired t-test of the seeds 1, 2, 3"
    assert found["difference"] == pytest.approx(0.0004)
    assert found["p"] == pytest.approx(two_sided(0.0004 / (0.0001 / math.sqrt(3)), 2), abs=1e-6)
    assert found["verdict"].endswith("the first group is better.")
    assert difference(second, first)["verdict"].endswith("the second group is better.")


@pytest.mark.filterwarnings("error")
def test_one_group_without_spread() -> None:
    """Welch's test takes it, and warns of nothing."""
    first, second = {1: 0.50, 2: 0.54, 3: 0.52}, {4: 0.6, 5: 0.6}
    assert difference(first, second)["p"] == pytest.approx(two_sided(0.08 / (0.02 / math.sqrt(3)), 2), abs=1e-6)


def test_groups_without_spread() -> None:
    """Two equal numbers say nothing of how far a third would be: no p-value, and no verdict.

    19 of 5,999 images on both seeds are equal, too, though with six digits they read 0.003167 and 0.003168.
    """
    first, second = ({seed: round((of - fewer) / 5999, 6) for seed, of in ((1, 5900), (2, 5902))} for fewer in (0, 19))
    for groups in (({1: 0.5, 2: 0.6}, {1: 0.6, 2: 0.7}), ({1: 0.5, 2: 0.5}, {3: 0.4, 4: 0.4}), (first, second)):
        found = difference(*groups)
        assert "p" not in found
        assert "no spread, so nothing to test" in found["verdict"]
    assert difference(first, {**second, 2: round(5884 / 5999, 6)})["p"] > 0.01  # one image more is a spread


@pytest.mark.parametrize("deviations", [(1.0,), (1.0, 1.0), (1.0, 2.0), (1.0, 0.1)])
@pytest.mark.parametrize("size", [12.0, 5.0, 3.0, 2.0, 1.0, 0.6])
def test_seeds_to_tell_has_its_power(deviations: tuple[float, ...], size: float) -> None:
    """Simulated: that many seeds show the difference in 80 % of 10,000 cases, and three fewer do not."""
    draw = np.random.default_rng(0)

    def power(seeds: int) -> float:
        first, *second = (draw.normal(0, deviation, (10_000, seeds)) for deviation in deviations)
        if second:
            tested = stats.ttest_ind(first + size, *second, axis=1, equal_var=False)
        else:
            tested = stats.ttest_1samp(first + size, 0, axis=1)
        return float((tested.pvalue <= 0.05).mean())

    needed = seeds_to_tell(-size, *deviations)
    assert power(needed) >= 0.8 - 0.012  # three standard errors of the simulation
    assert needed <= 4 or power(needed - 3) < 0.8


def test_seeds_to_tell() -> None:
    """To tell 0.05 points apart takes 18 seeds a side where they spread by 0.05; nearly four times as many for half."""
    assert seeds_to_tell(0.05, 0.05, 0.05) == 18
    assert seeds_to_tell(-0.025, 0.05, 0.05) == 65
    assert seeds_to_tell(1.0, 0.05, 0.05) == 2


def test_holm() -> None:
    """Three p-values by hand, and many against the definition: the smallest times m, the next times m - 1."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    source = random.Random(0)  # noqa: S311
    values = [source.random() ** 3 for _ in range(20)]
    for value, corrected in zip(values, holm(values), strict=True):
        smaller = [of for of in values if of <= value]
        expected = max(min(1.0, of * sum(other >= of for other in values)) for of in smaller)
        assert corrected == pytest.approx(expected)


def test_the_interval_of_a_difference() -> None:
    """SciPy's own, of the paired test and of Welch's."""
    first, second = {1: 0.9951, 2: 0.9954, 3: 0.9948}, {1: 0.9943, 2: 0.9950, 3: 0.9947}
    paired = stats.ttest_rel([*first.values()], [*second.values()]).confidence_interval(0.99)
    assert difference(first, second, 0.99)["interval"] == pytest.approx([*paired])
    other = {4: 0.9943, 5: 0.9950}
    welch = stats.ttest_ind([*first.values()], [*other.values()], equal_var=False).confidence_interval(0.95)
    assert difference(first, other)["interval"] == pytest.approx([*welch])


def test_a_difference_of_nothing_needs_no_seeds() -> None:
    """Differences that cancel, but for rounding, say of no number of seeds that it would tell."""
    first, second = ({1: 0.995, 2: 0.996, 3: 0.995167}, {1: 0.995167, 2: 0.996667, 3: 0.994333})
    found = difference(first, second)
    assert found["p"] == pytest.approx(1)
    assert found["seeds_to_tell"] is None
    assert found["verdict"].endswith("no evidence of a difference.")

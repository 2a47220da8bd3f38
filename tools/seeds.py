"""Runs of a recipe over several random seeds: their mean and spread, and whether two recipes differ."""

import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy import stats

from stages.common.errors import StageError
from stages.report.comparison import check_same_test_set
from stages.report.runs import CONFIDENCE, Run

POWER = 0.8  # the chance to see a difference that is there, which is what people usually ask for


def compare_groups(groups: list[list[Run]]) -> dict[str, Any]:
    """Return mean and spread of each group of runs and, of two, Welch's test and how many seeds would tell."""
    check_same_test_set([run for group in groups for run in group])
    if short := [group for group in groups if len(group) < 2]:
        raise StageError(f"{short[0][0].name}: one run alone has no spread; name two or more, each of another seed")
    if twice := [run for group in groups for run in group[1:] if run.weights == group[0].weights]:
        raise StageError(f"{twice[0].name}: the same weights as another run of its group; name runs of several seeds")
    accuracies = [[run.metrics["accuracy"] for run in group] for group in groups]
    described = [
        {
            "runs": [run.name for run in group],
            "mean": mean(values),
            "deviation": stdev(values),
            "lowest": min(values),
            "highest": max(values),
        }
        for group, values in zip(groups, accuracies, strict=True)
    ]
    if len(groups) == 1:
        values = described[0]
        verdict = f"{values['mean']:.3%}, give or take {values['deviation']:.3%} from seed to seed."
        return {"groups": described, "verdict": verdict}
    difference = described[0]["mean"] - described[1]["mean"]
    p = welch(*accuracies)
    deviations = [group["deviation"] for group in described]
    needed = seeds_to_tell(difference, *deviations) if difference else None
    seen = f"A difference of {difference:+.3%} (Welch's test: p = {p:.2g})"
    if p <= 1 - CONFIDENCE:
        verdict = f"{seen}: the {'first' if difference > 0 else 'second'} group is better."
    elif needed is None:
        verdict = f"{seen}: none."
    else:
        verdict = f"{seen}: no evidence of one. To tell one of this size takes about {needed} seeds a side"
        verdict += ": these are too few." if min(map(len, groups)) < needed else "."
    return {"groups": described, "difference": difference, "welch_p": p, "seeds_to_tell": needed, "verdict": verdict}


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

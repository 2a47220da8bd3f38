"""Runs of one configuration over several random seeds: mean and spread, and whether two configurations differ."""

import math
from collections.abc import Callable, Sequence
from statistics import mean, stdev
from typing import Any

import scipy  # which imports scipy.special where it is first used

from stages.common.errors import StageError
from stages.report.comparison import check_same_test_set
from stages.report.runs import CONFIDENCE, SEED, Run, differing

POWER = 0.8  # the chance to see a difference that is there, which is what people usually ask for
ROUNDED = 1e-6  # the accuracies have six digits: a smaller difference or spread may come from the rounding alone
MEASURES: dict[str, Callable[[Run], float]] = {
    "validation": lambda run: run.validation_accuracy,
    "test": lambda run: run.metrics["accuracy"],
}


def compare_seeds(named: Sequence[Sequence[Run]]) -> dict[str, Any]:
    """Return mean and spread of each group of runs over several seeds and, of two lists `named`, whether they differ.

    Each of two lists must be one group of two runs or more; a single list must have such a group. Raises StageError.
    """
    groups = []
    for part in map(groups_of, named):
        if len(part) > 1 and len(named) > 1:
            names = ", ".join(group[0].name for group in part)
            raise StageError(f"{names} differ in {', '.join(apart(part))}; in a group, {SEED} alone may differ")
        groups += part
    sizes = [len(group) for group in groups]
    if max(sizes) < 2 or (len(named) > 1 and min(sizes) < 2):
        alone = groups[sizes.index(1)][0].name
        raise StageError(f"{alone}: one run alone has no spread; name two or more that differ in {SEED} alone")
    found: dict[str, Any] = {"groups": []}
    differing_params = apart(groups)
    for place, group in enumerate(groups):
        check_same_test_set(group)
        params = {key: values[place] for key, values in differing_params.items()}
        params = {key: value for key, value in params.items() if value is not None} or params  # or all are null
        of = {"runs": [run.name for run in group], "seeds": [run.seed for run in group], "params": params}
        for name, value in MEASURES.items():
            values = [value(run) for run in group]
            of[name] = {"mean": mean(values), "deviation": stdev(values) if len(values) > 1 else None}
        found["groups"].append(of)
    if len(named) > 1:
        check_same_test_set([group[0] for group in groups])
        for name, value in MEASURES.items():
            first, second = ({run.seed: value(run) for run in group} for group in groups)
            found[name] = difference(first, second)
    return found


def spread(of: dict[str, Any]) -> str:
    """Return in per cent the `mean`, and the standard `deviation` where there is one."""
    return f"{of['mean']:.3%}" + ("" if of["deviation"] is None else f" ± {of['deviation']:.3%}")


def groups_of(runs: Sequence[Run]) -> list[list[Run]]:
    """Return `runs` in groups that differ in the seed alone; a run that has two names is in its group once.

    Raises StageError for equal params with other weights, and for equal weights with other seeds.
    """
    groups: dict[Any, dict[int, Run]] = {}
    for run in runs:
        others = tuple(sorted((key, of) for key, of in run.params.items() if key != SEED and of is not None))
        group = groups.setdefault(others, {})
        for twin in group.values():
            if (twin.seed == run.seed) != (twin.weights == run.weights):
                what = "params, other weights: their code, data or device differs"
                what = what if twin.seed == run.seed else "weights, other seeds: params were edited without a run"
                raise StageError(f"{twin.name} and {run.name}: the same {what}")
        group.setdefault(run.seed, run)
    return [[group[seed] for seed in sorted(group)] for group in groups.values()]


def apart(groups: list[list[Run]]) -> dict[str, list[Any]]:
    """Return the params, but for the seed, in which `groups` differ, each with the value that each group has."""
    return {key: values for key, values in differing([group[0] for group in groups]).items() if key != SEED}


def difference(first: dict[int, float], second: dict[int, float], confidence: float = CONFIDENCE) -> dict[str, Any]:
    """Return the difference of the means of two groups of accuracies, by seed: its interval, test and verdict in words.

    Two seeds or more that both groups have are paired (Student 1908); else the test is Welch's (1947), of all.
    `confidence` is that of the interval, of the verdict and of the seeds to tell.
    """
    if len(common := sorted(first.keys() & second.keys())) > 1:
        test = f"paired t-test of the seeds {', '.join(map(str, common))}"
        samples = [[first[seed] - second[seed] for seed in common]]
        seen = mean(samples[0])
    else:
        test, samples = "Welch's test", [list(first.values()), list(second.values())]
        seen = mean(samples[0]) - mean(samples[1])
    found: dict[str, Any] = {"test": test, "difference": seen}
    deviations = [stdev(sample) for sample in samples]
    if max(deviations) < ROUNDED:
        return found | {"verdict": f"{seen:+.3%} on every seed: no spread, so nothing to test."}
    # Student's t and, with two samples, the degrees of freedom of Welch and Satterthwaite
    parts = [(deviation**2 / len(sample), len(sample)) for sample, deviation in zip(samples, deviations, strict=True)]
    freedom = sum(part for part, _ in parts) ** 2 / sum(part**2 / (count - 1) for part, count in parts)
    error = math.sqrt(sum(part for part, _ in parts))
    ends = scipy.special.stdtrit(freedom, [(1 - confidence) / 2, (1 + confidence) / 2])
    found["interval"] = [float(seen + error * end) for end in ends]
    found["p"] = p = 2 * float(scipy.special.stdtr(freedom, -abs(seen) / error))
    told = abs(seen) > ROUNDED
    found["seeds_to_tell"] = seeds_to_tell(seen, *deviations, confidence=confidence) if told else None
    if p <= 1 - confidence:
        verdict = f"the {'first' if seen > 0 else 'second'} group is better."
    else:
        more = f" To detect one of this size, each group needs about {found['seeds_to_tell']} seeds." if told else ""
        verdict = f"no evidence of a difference.{more}"
    return found | {"verdict": f"{seen:+.3%} ({test}: p = {p:.2g}): {verdict}"}


def holm(values: Sequence[float]) -> list[float]:
    """Return the p-values of several tests, each corrected for their number (Holm 1979), in the same order."""
    corrected, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, values[place] * (len(values) - rank)))
        corrected[place] = highest
    return corrected


def seeds_to_tell(difference: float, *deviations: float, confidence: float = CONFIDENCE) -> int:
    """Return how many seeds a side show a `difference` of means at `confidence` in 80 % of the cases, or slightly more.

    `deviations` are those of two groups for Welch's test, or that of the differences for the paired test. The power is
    the noncentral t distribution's with n - 1 degrees of freedom, the fewest that Welch's test has.
    """
    variance = sum(deviation**2 for deviation in deviations)
    z = scipy.special.ndtri((1 + confidence) / 2) + scipy.special.ndtri(POWER)
    seeds = max(2, math.ceil(z**2 * variance / difference**2))  # the normal distribution's, which are too few

    def power() -> float:
        critical = scipy.special.stdtrit(seeds - 1, (1 + confidence) / 2)
        return 1 - float(scipy.special.nctdtr(seeds - 1, abs(difference) * math.sqrt(seeds / variance), critical))

    while power() < POWER:
        seeds += 1
    return seeds

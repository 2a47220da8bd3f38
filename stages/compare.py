"""Say whether two runs differ by more than chance: revisions, branches, tags, experiments or the workspace.

    python -m stages.compare A [B]
    python -m stages.compare --seeds EXP... [--against EXP...]

B is the workspace unless it is named. Which digits only one of both reads decides (McNemar's exact test). Whether one
recipe is better than another takes several seeds of each: --seeds gives their mean and spread, --against the other
group and Welch's test. All is read from what git has, so a fresh clone with no remote and no cache will do.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
from tabulate import tabulate

from stages.common import command, revisions, statistics
from stages.common.errors import StageError
from stages.common.revisions import Run

LISTED = 20  # digits, at most, that a table names


def main() -> None:
    """Compare what the command line names, and print it."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("a", nargs="?", metavar="A", help="revision")
    parser.add_argument("b", nargs="?", metavar="B", help="revision (default: the workspace)")
    parser.add_argument("--seeds", nargs="+", metavar="EXP", help="runs of one recipe with several seeds")
    parser.add_argument("--against", nargs="+", metavar="EXP", help="runs of another recipe")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--md", action="store_true", help="print Markdown, for a pull request")
    form.add_argument("--json", action="store_true", help="print an object for programs")
    asked = parser.parse_args()
    if (asked.a is None) == (asked.seeds is None) or (asked.against and not asked.seeds):
        parser.error("name a revision A, and perhaps B, or --seeds, and perhaps --against")
    if asked.seeds:
        groups = [[revisions.load(name) for name in names] for names in (asked.seeds, asked.against) if names]
        compared = compare_groups(groups)
        rows: Sequence[Sequence[object]] = [
            [
                ", ".join(group["runs"]),
                len(group["runs"]),
                f"{group['mean']:.3%}",
                f"{group['deviation']:.3%}",
                f"{group['lowest']:.2%} to {group['highest']:.2%}",
            ]
            for group in compared["groups"]
        ]
        header = ["runs", "seeds", "mean accuracy", "standard deviation", "range"]
    else:
        first, second = revisions.load(asked.a), revisions.load(asked.b)
        compared = compare(first, second)
        rows = table(first, second, compared)
        header = ["", first.name, second.name]
    if asked.json:
        print(json.dumps(compared, indent=2))
    else:
        print(tabulate(rows, header, tablefmt="github" if asked.md else "simple", disable_numparse=True))
        print("", compared["verdict"], sep="\n")


def compare(first: Run, second: Run) -> dict[str, Any]:
    """Return metrics side by side, the rows of the digits that only one of both reads, p-value and verdict."""
    hold_to_one_test_set([first, second])
    only_first, only_second = np.flatnonzero(first.right & ~second.right), np.flatnonzero(second.right & ~first.right)
    p = statistics.mcnemar(len(only_first), len(only_second))
    return {
        "metrics": {run.name: run.metrics for run in (first, second)},
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
    if p > 1 - statistics.CONFIDENCE:
        return f"{counts}: no evidence of a difference."
    better, worse = (first, second) if only_first > only_second else (second, first)
    return f"{counts}: {better.name} reads better than {worse.name}. Other seeds may not: see --seeds."


def table(first: Run, second: Run, compared: dict[str, Any]) -> list[list[str]]:
    """Return the rows for people."""
    rows = [[name, *(getattr(run, name) for run in (first, second))] for name in ("dataset", "recipe")] + [
        ["weights", *(run.weights[:12] for run in (first, second))]
    ]
    shown = [run.shown() for run in (first, second)]
    rows += [[name, *(texts.get(name, "") for texts in shown)] for name in {**shown[0], **shown[1]}]
    only = [compared["only_read_by"][run.name] for run in (first, second)]
    rows.append(["digits that only it reads", *(str(len(digits)) for digits in only)])
    for place in range(0, min(LISTED, max(map(len, only))), 5):
        named = [", ".join(map(str, digits[place : place + 5])) for digits in only]
        rows.append(["their numbers in the test set" if place == 0 else "", *named])
    if max(map(len, only)) > LISTED:
        rows.append(["", *("…" if len(digits) > LISTED else "" for digits in only)])
    return rows


def compare_groups(groups: list[list[Run]]) -> dict[str, Any]:
    """Return mean and spread of each group of runs and, of two, Welch's test and how many seeds would tell."""
    hold_to_one_test_set([run for group in groups for run in group])
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
        said = f"{values['mean']:.3%}, give or take {values['deviation']:.3%} from seed to seed."
        return {"groups": described, "verdict": said}
    difference = described[0]["mean"] - described[1]["mean"]
    p = statistics.welch(*accuracies)
    deviations = [group["deviation"] for group in described]
    needed = statistics.seeds_to_tell(difference, *deviations) if difference else None
    seen = f"A difference of {difference:+.3%} (Welch's test: p = {p:.2g})"
    if p <= 1 - statistics.CONFIDENCE:
        said = f"{seen}: the {'first' if difference > 0 else 'second'} group is better."
    elif needed is None:
        said = f"{seen}: none."
    else:
        said = f"{seen}: no evidence of one. To tell one of this size takes about {needed} seeds a side"
        said += ": these are too few." if min(map(len, groups)) < needed else "."
    return {"groups": described, "difference": difference, "welch_p": p, "seeds_to_tell": needed, "verdict": said}


def hold_to_one_test_set(runs: list[Run]) -> None:
    """Raise StageError unless the predictions of all `runs` are of the same test images."""
    first = runs[0]
    for other in runs[1:]:
        if other.dataset != first.dataset or not np.array_equal(
            other.predictions["actual"], first.predictions["actual"]
        ):
            both = (f"{run.name} has {len(run.predictions):,} of {run.dataset}" for run in (first, other))
            raise StageError(f"predictions of other test images: {', '.join(both)}; compare runs on one data set")


if __name__ == "__main__":
    sys.exit(command.told(main))

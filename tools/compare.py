"""Say whether two runs differ by more than chance: revisions, branches, tags, experiments or the workspace.

    python -m tools.compare A [B]
    python -m tools.compare --seeds EXP... [--against EXP...]

B is the workspace unless it is named. Which digits only one of both reads decides (McNemar's exact test). Whether one
recipe is better than another takes several seeds of each: --seeds gives their mean and spread, --against the other
group and Welch's test. All is read from what git has, so a fresh clone with no remote and no cache will do.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from stages.common import command
from stages.common.errors import StageError
from stages.report import runs
from stages.report.comparison import compare
from stages.report.runs import Run
from tools.seeds import compare_groups

LISTED = 20  # digits, at most, that a table names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command line takes."""
    parser.add_argument("a", nargs="?", metavar="A", help="revision")
    parser.add_argument("b", nargs="?", metavar="B", help="revision (default: the workspace)")
    parser.add_argument("--seeds", nargs="+", metavar="EXP", help="runs of one recipe with several seeds")
    parser.add_argument("--against", nargs="+", metavar="EXP", help="runs of another recipe")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--md", action="store_true", help="print Markdown, for a pull request")
    form.add_argument("--json", action="store_true", help="print an object for programs")


def main(arguments: argparse.Namespace) -> None:
    """Compare what the command line names, and print it."""
    if (arguments.a is None) == (arguments.seeds is None) or (arguments.against and not arguments.seeds):
        raise StageError("name a revision A, and perhaps B; or --seeds, and perhaps --against (see --help)")
    if arguments.seeds:
        groups = [[runs.load(name) for name in names] for names in (arguments.seeds, arguments.against) if names]
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
        first, second = runs.load(arguments.a), runs.load(arguments.b)
        compared = compare(first, second)
        rows = table(first, second, compared)
        header = ["", first.name, second.name]
    if arguments.json:
        print(json.dumps(compared, indent=2))
    else:
        print(tabulate(rows, header, tablefmt="github" if arguments.md else "simple", disable_numparse=True))
        print("", compared["verdict"], sep="\n")


def table(first: Run, second: Run, compared: dict[str, Any]) -> list[list[str]]:
    """Return the rows for people."""
    rows = [[name, *(getattr(run, name) for run in (first, second))] for name in ("dataset", "recipe")] + [
        ["weights", *(run.weights for run in (first, second))]
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


if __name__ == "__main__":
    command.run_tool("compare", main, __doc__, add_arguments)

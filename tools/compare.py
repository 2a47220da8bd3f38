"""Say whether two runs differ by more than chance: revisions, branches, tags, experiments or the workspace.

    python -m tools.compare A [B]
    python -m tools.compare --seeds [EXP...] [--against EXP...]

Without B, A is compared with the workspace. The test is McNemar's exact test: it counts the images that only one of
the two nets classifies correctly. To compare two configurations, run several seeds of each. --seeds prints a line for
each group of runs that differ only in the seed, with mean and standard deviation. Without names, it takes all
experiments of HEAD. --against names a second group, and tests the difference between the two groups. Everything is read
from git, so it also works in a fresh clone.
"""

import argparse

from stages.common import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command line takes."""
    parser.add_argument("a", nargs="?", metavar="A", help="first run: a revision, branch, tag or experiment")
    parser.add_argument("b", nargs="?", metavar="B", help="second run (default: the workspace)")
    parser.add_argument("--seeds", nargs="*", metavar="EXP", help="runs to group (default: all experiments of HEAD)")
    parser.add_argument("--against", nargs="+", metavar="EXP", help="runs to test against those of --seeds")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--md", action="store_true", help="print Markdown, for a pull request")
    form.add_argument("--json", action="store_true", help="print JSON, for programs")


if __name__ == "__main__":
    command.run_tool("compare", __doc__, add_arguments)

import json
import re
import shutil
import textwrap
from typing import Any

from tabulate import tabulate

from stages.common.errors import StageError
from stages.report import runs
from stages.report.comparison import compare
from stages.report.runs import Run, in_words
from tools.seeds import MEASURES, compare_seeds, spread

LISTED = 20  # images, at most, that a table names
Table = tuple[list[str], list[list[str]], list[int]]  # header, rows, and how wide each column may be, in proportion


def main(arguments: argparse.Namespace) -> None:
    """Compare what the command line names, and print it."""
    seeds = arguments.seeds is not None
    if (arguments.a is None) != seeds or (arguments.against and not seeds):
        raise StageError("expected A or A B, or --seeds with or without --against (see --help)")
    if seeds:
        named = [list(map(runs.load, names)) for names in (arguments.seeds, arguments.against) if names]
        compared = compare_seeds(named if arguments.seeds else [runs.experiments(), *named])
        header, rows, widths = of_seeds(compared)
        tested = [f"{name}: {compared[name]['verdict']}" for name in MEASURES if name in compared]
        verdict = "\n".join(tested) or "mean ± standard deviation over the seeds; --against tests a difference"
    else:
        first, second = runs.load(arguments.a), runs.load(arguments.b)
        compared = compare(first, second)
        header, rows, widths = of_two(first, second, compared)
        verdict = compared["verdict"]
    if arguments.json:
        print(json.dumps(compared, indent=2))
        return
    columns = shutil.get_terminal_size((100, 0)).columns
    share = (columns - 2 * (len(widths) - 1)) / sum(widths)  # two blanks part two columns
    form, most = ("github", None) if arguments.md else ("simple", [max(1, int(share * width)) for width in widths])
    if arguments.md:  # names may have what Markdown reads as the end of a cell, or as HTML
        header, *rows = ([re.sub(r"([\\`*|<])", r"\\\1", cell) for cell in row] for row in (header, *rows))
    # A blank, which is not shown, at the end: a name `False` alone would be True in a table of tabulate's
    header, *rows = ([f"{cell} " for cell in row] for row in (header, *rows))
    print(tabulate(rows, header, form, maxcolwidths=most, maxheadercolwidths=most, disable_numparse=True))
    for line in ["", *verdict.splitlines()]:
        print(line if arguments.md else textwrap.fill(line, columns, break_on_hyphens=False))


def of_two(first: Run, second: Run, compared: dict[str, Any]) -> Table:
    """Return the table for people of two runs."""
    both = (first, second)
    params = {key: [run.params[key] for run in both] for key in (runs.DATASET, runs.RECIPE)}
    params |= compared["params"] | {"weights": [run.weights for run in both]}
    params["validation accuracy"] = [f"{run.validation_accuracy:.2%}" for run in both]
    rows = [[key, *("" if value is None else in_words(value) for value in values)] for key, values in params.items()]
    shown = [run.shown() for run in both]
    rows += [[name, *(texts.get(name, "") for texts in shown)] for name in {**shown[0], **shown[1]}]
    only = [run["only_right"] for run in compared["runs"]]
    rows.append(["images that only this run gets right", *(str(len(of)) for of in only)])
    of_classes = [[f"{name} ({count})" for name, count in of["only_right_by_class"].items()] for of in compared["runs"]]
    for name, lists in (("their classes", of_classes), ("their numbers in the test set", only)):
        listed = [", ".join(map(str, of[:LISTED])) + (", …" if len(of) > LISTED else "") for of in lists]
        rows.append([name, *listed])
    return ["", first.name, second.name], rows, [36, 30, 30]


def of_seeds(compared: dict[str, Any]) -> Table:
    """Return the table for people of groups of runs."""
    rows = []
    for group in compared["groups"]:
        spreads = [spread(group[name]) for name in MEASURES]
        params = ", ".join(f"{key}={in_words(value)}" for key, value in group["params"].items())
        rows.append([", ".join(group["runs"]), params, ", ".join(map(str, group["seeds"])), *spreads])
    return ["runs", "params that differ", "seeds", "validation accuracy", "test accuracy"], rows, [18, 34, 6, 17, 17]

"""Run a grid of params over several seeds, and say which of them differ.

    python -m tools.study --name rate --seeds 10 -S 'recipes/fast.yaml:learning_rate=0.01,0.02'

Each run is a DVC experiment, named after the study, its params and its seed. DVC's queue runs it. A run whose
experiment exists is not run again: so the same command resumes where it was stopped. At the end, the command prints a
table, and writes the page studies/NAME.html, the picture studies/NAME.png, and studies/NAME.csv for `dvc plots show`.
To show the study in the report, copy studies/NAME.json into plots/studies.
"""

import argparse

from stages.common import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command line takes."""
    parser.add_argument("--name", required=True, help="name of the study; its experiments' names begin with it")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="run seeds 1 to N of each point (default: 5)")
    parser.add_argument(
        "-S", "--set-param", action="append", default=[], metavar="KEY=VALUE,VALUE", help="values, as in `dvc exp run`"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="how many run at once (default: 1; Slurm: all)")
    parser.add_argument("--search", type=int, metavar="N", help="search by N trials first; the study tests the best")
    parser.add_argument("--on", choices=("queue", "slurm"), default="queue", help="DVC's queue (default), or Slurm")


if __name__ == "__main__":
    command.run_tool("study", __doc__, add_arguments)

import re
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate
from tqdm import tqdm

from stages.common import files, git, settings
from stages.common.errors import StageError
from stages.report import pictures, runs
from tools import summary
from tools.planned import LONGEST, Planned, plan, values
from tools.queued import Queue
from tools.slurm import Slurm

FOLDER = Path("studies")
COLUMNS = 100  # of what is printed
PAUSE = 2  # seconds between two looks at what is done
Runner = Queue | Slurm
BAR = "{desc}: {n_fmt} of {total_fmt} runs {bar} {elapsed}, {remaining} left"


def main(arguments: argparse.Namespace) -> int:
    """Run what is missing of the study, and show what there is. Return 1 if something is still missing."""
    check(arguments)
    commit = baseline()
    name, grid, seed = arguments.name, arguments.set_param, settings.value(runs.SEED)
    if arguments.search is None:
        planned = plan(name, grid, range(1, arguments.seeds + 1))
    else:
        from tools.search import search  # here: Optuna is an extra, and need not be installed

        best = search(name, arguments.search, grid, seed, Slurm(name, 1) if arguments.on == "slurm" else None)
        found = f"The best of {arguments.search} trials: {best.name}"
        print(f"\n{found}. Fresh seeds say whether it is better:\n", flush=True)
        fresh = [of for of in range(1, arguments.seeds + 2) if of != seed][: arguments.seeds]
        name = f"{name}-confirmed"
        same = [of for of in best.sets if values([of], runs.DATASET)]  # the committed params, on the data of the best
        planned = plan(name, same, fresh) + plan(name, best.sets, fresh)
    on = Slurm(name, arguments.jobs or 0) if arguments.on == "slurm" else Queue(planned, arguments.jobs or 1)
    return run(name, planned, on, commit)


def check(arguments: argparse.Namespace) -> None:
    """Raise StageError for values that no study can have."""
    if not re.fullmatch(r"\w[\w-]*", arguments.name) or len(arguments.name.encode()) > LONGEST // 2:
        expected = f"letters, digits, - and _, at most {LONGEST // 2} bytes"
        raise StageError(f"--name: got {arguments.name!r}, expected {expected}")
    for option, least in (("seeds", 2), ("jobs", 1), ("search", 1)):
        value = getattr(arguments, option)
        if value is not None and value < least:
            raise StageError(f"--{option}: got {value}, expected at least {least}")


def baseline(before: str | None = None) -> str:
    """Return the commit that the runs start from.

    Raises StageError if it is not the one `before`, if something has changed since it, or if the clone is shallow.
    """
    changed = git.run("status", "--porcelain", "--untracked-files=no").decode(errors="replace")
    if changed:
        raise StageError(
            f"a study starts from a commit; commit this, or `git restore --staged --worktree .`:\n{changed.rstrip()}"
        )
    git.refuse_shallow(Path.cwd())
    commit = runs.resolve("HEAD")
    if before not in (None, commit):
        raise StageError(f"HEAD is {commit[:7]} now, and the study began at {before:.7}; go back to it, and try again")
    return commit


def run(name: str, planned: Sequence[Planned], on: Runner, commit: str) -> int:
    """Run what is missing of `planned`, show the results, and return the exit status: 1 if something is missing."""
    try:
        missing = run_missing(name, planned, on, commit)
    except KeyboardInterrupt:
        print("\nWhat is queued goes on without this command. Type it again to see the results.", file=sys.stderr)
        raise
    there = runs.experiments_of(commit)
    found = [runs.of_commit(there[of.name], of.name) for of in planned if of.name in there]
    if missing:
        print(f"Missing, {len(missing)} of {len(planned)} (the same command tries them again):")
        print("".join(f"  {of.name}: {on.log(of.name)}\n" for of in missing))
    if found:
        show(name, found, [of.name for of in missing])
    return 1 if missing else 0


def run_missing(name: str, planned: Sequence[Planned], on: Runner, commit: str) -> list[Planned]:
    """Run what is missing of `planned`, and return what is missing in the end.

    What failed is tried again as long as each round has a new result.
    """
    before = len(planned) + 1
    with tqdm(total=len(planned), desc=name, bar_format=BAR, disable=None) as bar:
        while True:
            active = on.active()  # before the look at what is done: a run that ends in between is not run again
            done = runs.experiments_of(commit)
            missing = [of for of in planned if of.name not in done]
            bar.update(len(planned) - len(missing) - bar.n)
            if not missing or (not active and len(missing) == before):
                return missing
            if not active:
                before = len(missing)
                baseline(commit)
                on.submit(missing)
            time.sleep(PAUSE)


def show(name: str, found: Sequence[runs.Run], missing: Sequence[str]) -> None:
    """Print the table of the runs `found`, and write their page, their picture and the rows for `dvc plots`."""
    groups, numbers = summary.summarise(found)
    header, rows = summary.table(groups, numbers)
    widths = [18, 3, 15, 23, 7, 5, 15]  # at most 100 columns in all
    print(tabulate(rows, header, maxcolwidths=widths, maxheadercolwidths=widths, disable_numparse=True))
    said = [*summary.verdict(groups, numbers), *summary.legend(numbers)]
    print("", *(line for text in said for line in textwrap.wrap(text, COLUMNS)), "", sep="\n")
    page, picture, table, kept = (FOLDER / f"{name}.{kind}" for kind in ("html", "png", "csv", "json"))
    content = summary.content(name, groups, numbers, missing)
    files.write_json(kept, content)
    files.write_whole(page, summary.page(content))
    files.write_whole(picture, pictures.png(summary.picture(groups)))
    files.write_csv(table, summary.COLUMNS, summary.rows(groups))
    print(f"{page}, {picture}\nor: dvc plots show {table} -t study -x examples -y validation_loss")

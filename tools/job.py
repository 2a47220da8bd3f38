"""Run one experiment in a clone of its own, and push it to the clone in whose folder the command runs.

    python -m tools.job --name NAME --commit COMMIT [-S KEY=VALUE ...]

This is what a job on a cluster does. The clone is a temporary one (TMPDIR says where). DVC's cache is that of this
clone, so the data is read from there, and what was trained is kept there even if the push fails.
"""

import argparse

from stages.common import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command line takes."""
    parser.add_argument("--name", required=True, help="of the experiment")
    parser.add_argument("--commit", required=True, help="from which it starts")
    parser.add_argument(
        "-S", "--set-param", action="append", default=[], metavar="KEY=VALUE", help="as in `dvc exp run`"
    )


if __name__ == "__main__":
    command.run_tool("job", __doc__, add_arguments)

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dvc.repo import Repo

from stages.common import git
from stages.common.errors import StageError
from stages.report import runs
from tools.planned import Planned

ATTEMPTS = 12  # to push: the pauses between them add up to ten minutes
LONGEST = 120  # seconds of a pause


def main(arguments: argparse.Namespace) -> int:
    """Run the experiment unless it exists, and return the exit status of `dvc exp run`."""
    ref = runs.reference(arguments.commit, arguments.name)
    if ref in runs.references():
        print(f"{arguments.name}: exists")
        return 0
    with clone(arguments.commit) as place:
        with started(place, Planned(arguments.name, tuple(arguments.set_param))) as process:
            if status := process.wait():
                return status
        push(place, root(), ref)
    return 0


def root() -> str:
    """Return the folder of the repository, of which the project may be a folder."""
    return git.text("rev-parse", "--show-toplevel")


@contextlib.contextmanager
def clone(commit: str) -> Iterator[Path]:
    """A temporary clone of this repository at `commit`, with the same DVC cache: its folder of this project."""
    folder = git.text("rev-parse", "--show-prefix")
    with Repo() as repo, tempfile.TemporaryDirectory(prefix="experiment-", ignore_cleanup_errors=True) as temporary:
        git.run("clone", "--quiet", "--no-checkout", root(), temporary)
        git.run("checkout", "--quiet", "--detach", commit, cwd=Path(temporary))
        place = Path(temporary, folder)
        (place / ".dvc/config.local").write_text(f'[cache]\n    dir = "{repo.cache.local_cache_dir}"\n')
        yield place


@contextlib.contextmanager
def started(place: Path, planned: Planned, log: IO[bytes] | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """`dvc exp run` in the clone at `place`, as a process group that does not outlive the block. It prints to `log`."""
    dvc = [sys.executable, "-m", "dvc", "exp", "run", *planned.options]
    process = subprocess.Popen(dvc, cwd=place, stdout=log, stderr=log, start_new_session=True)  # noqa: S603 - no shell
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def push(place: Path, repository: str, ref: str, source: str | None = None) -> None:
    """Push `source` (`ref` itself) from the clone at `place` to `repository` as `ref`, again until it is there.

    Servers refuse connections when many jobs end at once. Raises StageError after ATTEMPTS.
    """
    for attempt in range(ATTEMPTS):
        try:
            # without the hook pre-push, which is for branches
            git.run("push", "--quiet", "--no-verify", repository, f"{source or ref}:{ref}", cwd=place)
            return
        except StageError as error:
            with contextlib.suppress(StageError):
                if git.run("ls-remote", repository, ref, cwd=place):
                    return  # another job has run it: its bits are the same
            refused = " ".join(str(error).split())
        time.sleep(random.uniform(0.5, 1) * min(LONGEST, 2**attempt))  # noqa: S311 - jobs that end together part
    raise StageError(f"{ref}: not pushed after {ATTEMPTS} attempts; {refused}; run the job again: it trains nothing")

"""What many experiments cost git and DVC, and what is lost when fifty jobs push at once: as rows of Markdown.

    python -m tests.scale experiments 10 100 1000
    python -m tests.scale pushes

The experiments are made without a run, in temporary clones of the last commit. The seconds are of one run each.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conftest import PROJECT, Clone
from tests.made import Made, make

JOBS = 50
COMMANDS = {
    "git push": ("git", "push", "--quiet", "there", "refs/exps/*:refs/exps/*"),
    "dvc exp list": ("dvc", "exp", "list"),
    "dvc exp show": ("dvc", "exp", "show", "--csv"),
    "dvc exp push": ("dvc", "exp", "push", "--no-cache", "--rev", "HEAD", "other"),
    "dvc exp pull": ("dvc", "exp", "pull", "--no-cache", "--rev", "HEAD", "there"),
    "tools.compare --seeds": (sys.executable, "-m", "tools.compare", "--seeds"),
    "dvc exp remove --keep, all but one": ("dvc", "exp", "remove", "--keep", "made-0"),
}


def prepared(folder: Path, count: int) -> Clone:
    """Return a clone with `count` experiments, and two bare repositories beside it, `there` and `other`."""
    clone = Clone(PROJECT, folder / "cache").clone(folder / "clone")
    make(clone, (Made(f"made-{of}", of + 1, 0.01, 0.99 + of / 1e6) for of in range(count)))
    for name in ("there", "other"):
        clone.run("git", "clone", "--quiet", "--bare", ".", str(folder / name))
        clone.run("git", "remote", "add", name, str(folder / name))
    return clone


def experiments(counts: list[int]) -> None:
    """Print what each of COMMANDS takes with each of `counts` experiments."""
    print(
        f"| seconds, with | {' | '.join(f'{count:,}' for count in counts)} |", f"|---{'|---:' * len(counts)}|", sep="\n"
    )
    seconds: dict[str, list[str]] = {name: [] for name in COMMANDS}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            clone = prepared(Path(folder), count)
            for name, command in COMMANDS.items():
                if name == "dvc exp pull":
                    clone.run(
                        "sh", "-c", "git for-each-ref --format='delete %(refname)' refs/exps | git update-ref --stdin"
                    )
                start = time.monotonic()
                clone.run(*command, seconds=3600)
                seconds[name].append(f"{time.monotonic() - start:.1f}")
    for name, values in seconds.items():
        print(f"| `{name}` | {' | '.join(values)} |")


def pushes() -> None:
    """Print how many of JOBS pushes to one repository in a folder, all at once, are lost."""
    print("| way | lost | seconds |", "|---|---:|---:|", sep="\n")
    ways: dict[str, Callable[[str], tuple[str, ...]]] = {
        "git push": lambda ref: ("git", "push", "--quiet", "there", f"{ref}:{ref}"),
        "dvc exp push": lambda ref: ("dvc", "exp", "push", "--no-cache", "there", ref.split("/")[-1]),
    }
    for name, command in ways.items():
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(JOBS) as pool:
            clone = prepared(Path(folder), JOBS)
            refs = clone.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
            jobs = [
                clone.copy(Path(folder, f"job-{place}")) for place in range(JOBS)
            ]  # DVC locks the clone it works in
            start = time.monotonic()
            done = [pool.submit(job.run, *command(ref), status=None) for job, ref in zip(jobs, refs, strict=True)]
            failed = [of.result().stderr for of in done if of.result().returncode]
            seconds = time.monotonic() - start
            there = subprocess.run(["git", "-C", f"{folder}/there", "for-each-ref", "refs/exps"], capture_output=True)
            print(f"| `{name}` | {JOBS - len(there.stdout.splitlines())} | {seconds:.0f} |", *set(failed))


if __name__ == "__main__":
    if sys.argv[1] == "pushes":
        pushes()
    else:
        experiments([int(of) for of in sys.argv[2:]])

"""The user's own git as a command."""

import os
import subprocess
from pathlib import Path

from stages.common.errors import StageError


def run(*arguments: str, cwd: Path | None = None, asked: bytes | None = None) -> bytes:
    """Return what git prints, run in the folder `cwd`, with `asked` on its standard input.

    Raises StageError with git's own words if it fails.
    """
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, input=asked, capture_output=True)  # noqa: S603 - no shell
    if done.returncode:
        raise StageError(f"git {arguments[0]}: {os.fsdecode(done.stderr).strip()}")
    return done.stdout


def refuse_shallow(clone: Path) -> None:
    """Raise StageError if `clone` is shallow: DVC would lose the result, and report it as done (treeverse/dvc#8844)."""
    if text("rev-parse", "--is-shallow-repository", cwd=clone) == "true":
        raise StageError(f"{clone}: a shallow clone, where DVC loses queued and --temp runs; `git fetch --unshallow`")


def text(*arguments: str, cwd: Path | None = None) -> str:
    """Return what git prints as text, without white space at either end. Raises what `run` raises."""
    return os.fsdecode(run(*arguments, cwd=cwd)).strip()

"""The user's own git as a command."""

import io
import os
import subprocess
from collections.abc import Sequence
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


def text(*arguments: str, cwd: Path | None = None) -> str:
    """Return what git prints as text, without the line feed at its end. Raises what `run` raises."""
    return os.fsdecode(run(*arguments, cwd=cwd)).strip()


def contents(commit: str, paths: Sequence[Path]) -> list[bytes | None]:
    """Return what the files at `paths`, seen from the working folder, have in `commit`; None where there is no file."""
    # ./: the project may be a folder of a repository
    asked = "".join(f"{commit}:./{path}\n" for path in paths).encode()
    printed, found = io.BytesIO(run("cat-file", "--batch", asked=asked)), list[bytes | None]()
    for _ in paths:
        *_, size = printed.readline().split()  # "DIGEST blob SIZE" before the content, or "NAME missing"
        found.append(None if size == b"missing" else printed.read(int(size) + 1)[:-1])
    return found

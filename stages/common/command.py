"""How a stage runs as a command: `--help`, one clear message for what the user can mend, honest exit status."""

import argparse
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from stages.common import declared
from stages.common.errors import StageError


def run(stage: str, main: Callable[..., None], description: str, **options: str) -> None:
    """Run `main` of `stage` as a command: exit status 0 done, 1 failed, 130 interrupted, 143 terminated.

    It fails, too, if something that dvc.yaml declares for the stage changes while it runs. Each of `options`, with
    what `--help` says of it, is one of the command line's that `main` takes, None unless it is given.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{stage}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, meaning in options.items():
        parser.add_argument(f"--{name}", help=meaning)
    chosen = vars(parser.parse_args())
    # SIGTERM unwinds the stack as Ctrl-C does, so that temporary files are removed.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))

    def held() -> None:
        refuse_to_be_lost()
        with declared.held(stage):
            main(**chosen)

    leave(told(held))


def refuse_to_be_lost() -> None:
    """Raise StageError in an experiment whose result DVC would lose, and call done (treeverse/dvc#8844).

    That is one that runs in a folder of its own, queued or with `--temp`, from a shallow clone.
    """
    root = Path(os.environ.get("DVC_ROOT", "."))
    if root.resolve() != Path.cwd() and (root / ".git/shallow").exists():
        raise StageError(f"{root}: a shallow clone, where DVC loses queued and --temp runs; `git fetch --unshallow`")


def leave(status: int) -> NoReturn:
    """End this process, without Python's last search for garbage: half a second in all that PyTorch has imported."""
    gc.freeze()
    sys.exit(status)


def told(main: Callable[[], int | None]) -> int:
    """Return the exit status of `main`: what it returns, 1 with a message if it failed, 130 if it was interrupted."""
    try:
        return main() or 0
    except StageError as failure:
        print(f"error: {failure}", file=sys.stderr)
    except OSError as error:
        # where a file was to be put in place, the second name is that place
        where = error.filename2 or error.filename or "input/output"
        print(f"error: {where}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was left", file=sys.stderr)
        return 130
    return 1

"""How a stage runs as a command: `--help`, one clear message for what the user can mend, honest exit status."""

import argparse
import signal
import sys
from collections.abc import Callable


class StageError(Exception):
    """Something the user can mend. The message says what, where, got, expected and what to do."""


def run(main: Callable[[], None], description: str) -> None:
    """Run a stage's `main` as a command and exit: 0 done, 1 failed, 130 interrupted, 143 terminated."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    # SIGTERM unwinds the stack as Ctrl-C does, so that temporary files are removed.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        main()
    except StageError as failure:
        sys.exit(f"error: {failure}")
    except OSError as error:
        sys.exit(f"error: {error.filename or 'input/output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was left", file=sys.stderr)
        sys.exit(130)

"""How a stage or a tool runs as a command: `--help`, one clear message for an error, and the exit status."""

import argparse
import ast
import ctypes
import gc
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from stages.common import environment, git
from stages.common.errors import StageError

INTERRUPTED, TERMINATED = 130, 143  # 128 and the number of SIGINT or SIGTERM, as shells have it
UNREAD = 141  # of SIGPIPE
EXTRAS = {"onnx": "onnx", "onnxscript": "onnx", "optuna": "search"}  # of pyproject.toml, by package
PR_SET_PDEATHSIG = 1  # of Linux's sys/prctl.h


def run_stage(stage: str, **options: str) -> NoReturn:
    """Run `main` of stages/STAGE/main.py and end the process: exit status 0 done, 1 failed, 130 or 143 interrupted.

    It fails, too, if something that dvc.yaml declares for the stage changes while it runs. Each of `options`, with
    its help text, is an option of the command line; `main` gets its value, None by default.
    """
    source = Path(__file__).parent.parent / stage / "main.py"
    parser = _parser(f"stages.{stage}", ast.get_docstring(ast.parse(source.read_bytes())))
    for name, text in options.items():
        parser.add_argument(f"--{name}", help=text)
    values = vars(parser.parse_args())
    _end_with_dvc()

    def checked() -> None:
        # What takes time is imported here: Ctrl-C meanwhile ends as it does later, and the dependencies' state is
        # taken before the code that it is of is loaded
        environment.neutralise()
        from stages.common import declared

        root = Path(os.environ.get("DVC_ROOT", "."))
        if root.resolve() != Path.cwd():  # an experiment that runs in a folder of its own, queued or with `--temp`
            git.refuse_shallow(root)
        with declared.unchanged(stage):
            _imported(f"stages.{stage}.main").main(**values)

    status = 1
    try:
        status = exit_status(checked)
    finally:
        if status and Path(os.environ.get("DVC_ROOT", "/")).resolve() == Path.cwd():
            _show_way_back(stage)
    _end(status)


def _end_with_dvc() -> None:
    """Have Linux end this process if the `dvc` that has started it is killed: later, nobody awaits what it writes."""
    if "DVC_ROOT" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _show_way_back(stage: str) -> None:
    """Say how to get back what DVC removed before it ran `stage`, and let git see the params that DVC changed."""
    from stages.common import settings

    for params in (*Path().glob("*.yaml"), *Path("recipes").glob("*.yaml")):
        params.touch()  # git compares no content where `-S` left the size and the second of the last edit as they were
    entry = settings.read(Path("dvc.yaml"))["stages"][stage]
    outs = entry.get("metrics", []) + entry.get("plots", [])
    tracked = [name for out in outs for name in out if isinstance(out, dict) and not out[name].get("cache", True)]
    restore = f"git restore {' '.join(tracked)} && " if tracked else ""
    print(f"DVC removed what {stage} wrote before; to get it back: {restore}dvc checkout", file=sys.stderr)


def run_tool(tool: str, description: str | None, add_arguments: Callable[[argparse.ArgumentParser], None]) -> NoReturn:
    """Run `main` of tools/TOOL.py with the values of the arguments that `add_arguments` adds, and end the process.

    The file calls this before it imports anything that takes time: `--help` and a wrong argument are answered at once.
    """
    parser = _parser(f"tools.{tool}", description)
    add_arguments(parser)
    values = parser.parse_args()
    _end(exit_status(lambda: _imported(f"tools.{tool}").main(values)))


def exit_status(main: Callable[[], int | None]) -> int:
    """Return the exit status of `main`: what it returns, 1 with a message if it failed, 130 or 143 if interrupted."""
    try:
        status = main() or 0
        sys.stdout.flush()
        return status
    except StageError as failure:
        print(f"error: {failure}", file=sys.stderr)
    except ImportError as error:
        if error.name not in EXTRAS:
            raise
        install = f"uv pip install -r pyproject.toml --extra {EXTRAS[error.name]} -c requirements-dev.lock"
        print(f"error: {error}; the extra `{EXTRAS[error.name]}` is needed: run `{install}`", file=sys.stderr)
    except BrokenPipeError:  # `| head` has read enough
        return UNREAD
    except OSError as error:
        print(f"error: {error.filename or 'input/output'}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt as signalled:
        print("interrupted: nothing half-written was left", file=sys.stderr)
        return TERMINATED if TERMINATED in signalled.args else INTERRUPTED
    except Exception as error:
        if not type(error).__module__.startswith("dvc."):
            raise
        print(f"error: DVC: {error}", file=sys.stderr)  # such as a broken .dvc/config.local
    return 1


def _imported(module: str) -> Any:
    gc.disable()  # what an import makes stays: there is no garbage to look for
    imported = importlib.import_module(module)
    gc.freeze()
    gc.enable()
    return imported


def _terminate(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt(TERMINATED)


def _parser(module: str, description: str | None) -> argparse.ArgumentParser:
    signal.signal(signal.SIGTERM, _terminate)  # as Ctrl-C: temporary files are removed, what is queued goes on
    sys.stdout, sys.stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()  # None where the shell closes it
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr has it: where `…` cannot be printed, `\\u2026` is
    return argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def _end(status: int) -> NoReturn:
    # Without Python's own end, which takes half a second and 120 MB of memory in all that PyTorch has imported.
    with suppress(OSError):  # of a command that has failed
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

"""How a stage starts: with the code as it is, none of the user's own settings, and a clear end if it is stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Clone, wait_until

HOSTILE = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # as Jupyter sets it
    "PYTHONWARNINGS": "error",
    "PYTHONHASHSEED": "1",
    "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "LC_ALL": "POSIX",
    "COLUMNS": "20",
    "NPY_DISABLE_CPU_FEATURES": "nonsense",
    "OMP_NUM_THREADS": "3",
    "OMP_PROC_BIND": "true",
    "GOMP_CPU_AFFINITY": "0",
    "MKL_CBWR": "AVX2",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "TORCH_LOGS": "nonsense",
    "SCIPY_ARRAY_API": "1",
}


@pytest.mark.slow
def test_the_users_own_settings_decide_nothing(finished: Clone, tmp_path: Path) -> None:
    """Each stage that computes, with a hostile home and environment, writes the bytes that are committed."""
    clone = finished.copy(tmp_path / "clone")
    configuration = tmp_path / "home/.config/matplotlib"
    configuration.mkdir(parents=True)
    (configuration / "matplotlibrc").write_bytes(b"font.size: 14\n\xff")
    (clone.path / "matplotlibrc").write_text("font.size: 14\nsavefig.facecolor: red\n")
    (clone.path / ".git/info/exclude").write_text("matplotlibrc\n")
    hostile = {**HOSTILE, "HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(configuration.parent)}
    clone.run(sys.executable, "-m", "stages.split", PYTHONOPTIMIZE="2", **hostile)  # without docstrings and asserts
    for stage in ("train", "evaluate", "report"):
        clone.run(sys.executable, "-m", f"stages.{stage}", **hostile)
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert clone.run("dvc", "status").stdout == "Data and pipelines are up to date.\n"


def edit_unnoticed(path: Path, old: str, new: str) -> None:
    """Edit the file so that size and time stamp stay: Python would take the old bytecode."""
    text, before = path.read_text(), path.stat()
    assert text.count(old) == 1
    assert len(old) == len(new)
    path.write_text(text.replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_stale_bytecode_is_not_run(finished: Clone, tmp_path: Path) -> None:
    """A stage runs its source; where Python has loaded other bytecode before that could be looked at, it is refused."""
    clone = finished.copy(tmp_path / "clone")
    clone.run(sys.executable, "-c", "import stages.split.main, stages.common.command", PYTHONDONTWRITEBYTECODE="")
    edit_unnoticed(clone.path / "stages/split/main.py", '{"images": {part', '{"imagos": {part')
    clone.run(sys.executable, "-m", "stages.split")
    assert '"imagos"' in (clone.path / "metrics/data.json").read_text()
    edit_unnoticed(clone.path / "stages/common/command.py", "= 130, 143", "= 131, 143")
    refused = clone.run(sys.executable, "-m", "stages.split", status=1)
    assert "command.cpython" in refused.stderr
    assert "of another source; delete it and run again" in refused.stderr


# Holds the import of PyTorch until the file `go` is there
HOLD = """
import os, pathlib, sys, time
class Hold:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            pathlib.Path("started").write_text(str(os.getpid()))
            pathlib.Path("started").rename("importing")
            while not pathlib.Path("go").exists():
                time.sleep(0.01)
sys.meta_path.insert(0, Hold())
"""


def importing(clone: Clone, command: list[str]) -> subprocess.Popen[str]:
    """Start `command` and return it when the stage train imports PyTorch, which it does until `go` is there."""
    (clone.path / "hold").mkdir()
    (clone.path / "hold/sitecustomize.py").write_text(HOLD)
    process = clone.start("env", f"PYTHONPATH={clone.path / 'hold'}", *command)
    while not (clone.path / "importing").exists():
        assert process.poll() is None
        time.sleep(0.01)
    return process


def test_an_edit_while_a_stage_imports_is_not_recorded(finished: Clone, tmp_path: Path) -> None:
    """The code of a stage changes while PyTorch is imported: the stage fails, and names the file."""
    clone = finished.copy(tmp_path / "clone")
    process = importing(clone, ["dvc", "repro", "--force", "--single-item", "train"])
    code = clone.path / "stages/train/fit.py"
    code.write_text(code.read_text() + "# an edit\n")
    (clone.path / "go").touch()
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "changed while the stage train ran: stages/train/fit.py" in errors
    assert clone.run("git", "status", "--porcelain", "dvc.lock").stdout == ""


def test_stopped_while_a_stage_imports(finished: Clone, tmp_path: Path) -> None:
    """Ctrl-C before the stage has begun its work: one line, and exit status 130."""
    process = importing(finished.copy(tmp_path / "clone"), [sys.executable, "-m", "stages.train"])
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted: nothing half-written was left\n"


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_a_stage_ends_with_the_dvc_that_started_it(finished: Clone, tmp_path: Path, shell: str) -> None:
    """SIGKILL to DVC alone, whatever shell it uses: the stage does not go on, to write what nobody awaits."""
    clone = finished.copy(tmp_path / "clone")
    process = importing(clone, [f"SHELL=/bin/{shell}", "dvc", "repro", "--force", "--single-item", "train"])
    state = Path("/proc", (clone.path / "importing").read_text(), "stat")
    process.kill()
    wait_until(lambda: not state.exists() or ") Z " in state.read_text(), "the stage has ended")


def test_who_reads_may_stop(finished: Clone) -> None:
    """A pipe that is closed, as by `| head`, ends a tool without a word."""
    found = finished.run("bash", "-c", "python -m tools.compare HEAD --json | true; echo ${PIPESTATUS[0]}")
    assert (found.stdout, found.stderr) == ("141\n", "")


def test_line_ends_are_the_same_everywhere(finished: Clone, tmp_path: Path) -> None:
    """A clone on a system that writes CRLF has the same bytes in each file."""
    clone = Clone(tmp_path / "clone", tmp_path / "cache")
    finished.run("git", "clone", "--quiet", "--config", "core.autocrlf=true", str(finished.path), str(clone.path))
    names = finished.run("git", "ls-files", "-z").stdout.split("\0")[:-1]
    differ = [name for name in names if (clone.path / name).read_bytes() != (finished.path / name).read_bytes()]
    assert differ == []

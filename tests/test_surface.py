"""What people see while the pipeline runs, and after it: on a terminal, in a log, when a stage fails."""

import fcntl
import importlib.metadata
import json
import os
import pty
import re
import select
import struct
import sys
import termios
from pathlib import Path

import pytest
import torch

from stages.common.errors import StageError
from stages.net import exact
from stages.train.main import find
from tests.conftest import PROJECT, Clone

COLUMNS = 100


def on_a_terminal(clone: Clone, *command: str) -> list[str]:
    """Run `command` on a pseudo-terminal of COLUMNS columns, and return the lines that stay on it."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    process = clone.start("sh", "-c", f"exec {' '.join(command)} <{os.ttyname(end)} >{os.ttyname(end)} 2>&1")
    written = b""
    while (ended := process.poll()) is None or select.select([terminal], [], [], 0)[0]:
        if select.select([terminal], [], [], 0.1)[0]:
            written += os.read(terminal, 65536)
    os.close(terminal)
    os.close(end)
    assert ended == 0, written
    return screen(written.decode())


def screen(written: str) -> list[str]:
    """Return the lines that a terminal shows after `written`: carriage returns, line feeds, and lines erased."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|[\s\S]", written):
        match token:
            case "\r":
                column = 0
            case "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            case "\x1b[A":
                row = max(0, row - 1)
            case "\x1b[K":
                lines[row] = lines[row][:column]
            case _ if token.startswith("\x1b"):
                pass  # colours
            case _:
                lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + 1 :]
                column += 1
    return [line.rstrip() for line in lines]


def test_the_progress_of_a_training_on_a_terminal(finished: Clone, tmp_path: Path) -> None:
    """A line for each epoch, as in a log, and under them the bar, which stays: epoch, loss, validation accuracy."""
    clone = finished.copy(tmp_path / "clone")
    lines = on_a_terminal(clone, "dvc", "repro", "--force", "--single-item", "train")
    assert max(map(len, lines)) <= COLUMNS
    (first,) = (place for place, line in enumerate(lines) if line.startswith("epoch 0/2: train_loss "))
    *epochs, bar, versions, last = lines[first : first + 6]
    assert [line.split(":")[0] for line in epochs] == ["epoch 0/2", "epoch 1/2", "epoch 2/2"]
    accuracy = f"{float(epochs[2].split()[-1]):.2%}"
    said = rf"epoch 2/2, loss \d\.\d{{3}}, validation accuracy {accuracy}"
    assert re.fullmatch(rf"{said} █{{10,}} 8/8 steps, .* left", bar), bar
    assert versions.startswith("trained with Python 3.")
    assert re.fullmatch(rf"models/model\.pt: validation accuracy {accuracy}, weights [0-9a-f]{{12}}", last), last


def test_the_way_back_from_a_failed_run(finished: Clone, tmp_path: Path) -> None:
    """DVC has removed what the stage wrote: the message ends with the command that brings it back, and it does.

    The edit, as long as what was there, is seen by git.
    """
    clone = finished.copy(tmp_path / "clone")
    before = (clone.path / "models/model.pt").read_bytes()
    failed = clone.run("dvc", "exp", "run", "-S", "recipes/fast.yaml:learning_rate=abc", status=None)
    changed = clone.run("git", "status", "--porcelain").stdout.splitlines()
    assert changed == [" D metrics/train.json", " D plots/training.csv", " M recipes/fast.yaml"]
    (command,) = re.findall(r"to get it back: (.*)", failed.stderr)
    clone.run("sh", "-ec", command)
    assert clone.run("git", "status", "--porcelain").stdout == " M recipes/fast.yaml\n"
    assert (clone.path / "models/model.pt").read_bytes() == before
    clone.run("git", "restore", ".")
    assert json.loads(clone.run("dvc", "status", "--json").stdout) == {}


def test_a_gpu_that_is_not_used_is_named(finished: Clone, tmp_path: Path) -> None:
    """Where there is a GPU, a training on the CPU says how to use it; in the model stands what trained it.

    No version is there, as none decides anything: the file is the same with any.
    """
    clone = finished.copy(tmp_path / "clone")
    before = (clone.path / "models/model.pt").read_bytes()
    with_gpu = (
        "import runpy, torch; torch.cuda.is_available = lambda: True;"
        "runpy.run_module('stages.train', run_name='__main__', alter_sys=True)"
    )
    said = clone.run(sys.executable, "-c", with_gpu, PYTHONPATH=str(clone.path)).stderr
    assert said == "a GPU is available; to use it: dvc exp run -S train.device=cuda\n"
    assert (clone.path / "models/model.pt").read_bytes() == before
    assert torch.load(clone.path / "models/model.pt", weights_only=True)["environment"] == {
        "device": "cpu",
        "exact": True,
    }


def test_only_a_device_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cuda` without a GPU is refused; on a machine with several, each process takes its own."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StageError, match="PyTorch finds no GPU"):
        find("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (find("cpu"), find("cuda")) == (torch.device("cpu"), torch.device("cuda", 1))


def test_other_versions_than_the_locked_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, on stderr, of those packages alone that were asked for and that this Python is to have."""
    monkeypatch.chdir(tmp_path)
    lock = "torch==0.1 \\\n    --hash=sha256:00\nnumpy==1.0 ; python_full_version < '3.2' \\\nscipy==0.2 \\\n"
    exact.LOCK.write_text(lock)
    exact.warn_of_other_versions("torch", "numpy")
    said = capsys.readouterr().err
    installed = importlib.metadata.version("torch")
    assert said == (
        f"requirements.lock: other versions are installed, the bits may differ: torch {installed} (expected ==0.1)\n"
    )


def test_the_locked_versions_are_not_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With what requirements.lock has, there is nothing to say."""
    monkeypatch.chdir(PROJECT)
    exact.warn_of_other_versions("torch", "numpy", "scipy", "scikit-learn")
    assert capsys.readouterr().err == ""

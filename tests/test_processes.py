"""Processes that train together: they say whom they wait for, and none waits in vain or outlives a signal."""

import re
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch.distributed import TCPStore

from stages.common.errors import StageError
from stages.train import main as train
from stages.train.processes import Processes
from tests.conftest import SECONDS, Clone, kill, line_with, wait_until

CPU = torch.device("cpu")
TRAIN = [sys.executable, "-m", "stages.train"]
IMPATIENT = (  # the time limits are a user's, but for the one that the test waits for
    "import runpy, sys; from stages.train import processes; setattr(processes, sys.argv[1], float(sys.argv[2]));"
    "del sys.argv[1:]; runpy.run_module('stages.train', run_name='__main__')"
)
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def port() -> int:
    """Return a port of the loopback address that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def start(port: int) -> Iterator[Start]:
    """Return a function that starts a process by hand, without torchrun, which would end all when one fails."""
    running = []

    def start(clone: Clone, rank: int, *command: str, **others: str) -> "subprocess.Popen[str]":
        variables = {"WORLD_SIZE": "2", "RANK": f"{rank}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
        setting = [f"{name}={value}" for name, value in {**variables, **others}.items()]
        running.append(clone.start("env", *setting, *(command or TRAIN)))
        return running[-1]

    yield start
    for process in running:
        kill(process)  # with what it started, which has its pipes
        process.communicate()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2"}, "RANK: got 'nothing', expected a whole number from 0 to 1; "),
        ({"RANK": "1"}, "WORLD_SIZE: got 'nothing', "),
        ({"WORLD_SIZE": "two", "RANK": "0"}, "WORLD_SIZE: got 'two', "),
        ({"WORLD_SIZE": "", "RANK": "0"}, "WORLD_SIZE: got '', "),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "WORLD_SIZE: got '0', "),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK: got '2', expected a whole number from 0 to 1; "),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK: got '-1', "),
        ({"WORLD_SIZE": "2", "RANK": "0.5"}, "RANK: got '0.5', "),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "MASTER_ADDR: got nothing, expected the host name"),
        ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost"}, "MASTER_PORT: got 'nothing', "),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "x"}, "MASTER_PORT: got 'x', "),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "65536"}, "MASTER_PORT: got"),
    ],
)
def test_variables_that_do_not_fit(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str) -> None:
    """Each is named at once, with what it is and what was expected."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StageError, match=f"^{message}"), Processes(CPU, ""):
        pass


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """LOCAL_RANK is the number of a GPU of this machine."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert train.find("cuda") == torch.device("cuda", 0)
    for value in ("2", "x"):
        monkeypatch.setenv("LOCAL_RANK", value)
        with pytest.raises(StageError, match=f"LOCAL_RANK: got '{value}', expected a whole number from 0 to 1"):
            train.find("cuda")


def test_a_wrong_variable_is_one_line(finished: Clone) -> None:
    """WORLD_SIZE alone fails the stage with a message, not a traceback."""
    failed = finished.run(*TRAIN, status=1, WORLD_SIZE="2")
    assert failed.stderr.startswith("error: RANK: got 'nothing'")
    assert failed.stderr.count("\n") == 1


@pytest.mark.slow
def test_nothing_to_train(finished: Clone, tmp_path: Path) -> None:
    """With train up to date, the line of docs/exact.md ends at once, and well: the others are told."""
    line, clone = "torchrun --nproc-per-node 2 -m tools.repro", finished.copy(tmp_path / "clone")
    assert f"\n{line}\n" in (clone.path / "docs/exact.md").read_text()
    done = clone.run(*line.split())
    assert "process 0 ended without training, with exit status 0" in done.stderr
    assert "Stage 'train' didn't change, skipping" in done.stdout
    assert clone.run("git", "status", "--porcelain").stdout == ""


def test_torchrun_is_gone(finished: Clone, start: Start) -> None:
    """The first process, whose `dvc repro` has ended, tells nobody, and ends."""
    process = start(finished, 0, sys.executable, "-m", "tools.repro", TORCHELASTIC_USE_AGENT_STORE="True")
    assert process.wait(timeout=60) == 0


@pytest.mark.slow
def test_what_fails_before_train_ends_the_others(finished: Clone, tmp_path: Path, start: Start, port: int) -> None:
    """`dvc repro` of the first process fails in split: the one that waits says so and fails, on another machine too."""
    clone = finished.copy(tmp_path / "clone")
    clone.replace("params.yaml", "validation_fraction: 0.1", "validation_fraction: 2")
    as_torchrun = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60))
    hosted = {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    first = start(clone, 0, sys.executable, "-m", "tools.repro", **hosted)
    second = start(finished, 1, sys.executable, "-m", "tools.repro", **hosted)
    _, errors = second.communicate(timeout=SECONDS)
    assert (second.returncode, first.wait(timeout=SECONDS)) == (1, 255)
    assert "process 0 ended without training, with exit status 255" in errors
    del as_torchrun


@pytest.mark.parametrize(("rank", "number"), [(0, signal.SIGINT), (1, signal.SIGTERM)])
def test_a_signal_ends_a_process_that_waits(
    finished: Clone, start: Start, port: int, rank: int, number: signal.Signals
) -> None:
    """It says whom it waits for, and where; Ctrl-C and SIGTERM end it at once."""
    process = start(finished, rank)
    said = line_with(process, "waits for", "stderr")
    assert said == f"process {rank} of 2 waits for process {1 - rank}, at 127.0.0.1:{port}, 300 seconds at most\n"
    process.send_signal(number)
    assert process.wait(timeout=30) == -number


@pytest.mark.slow
@pytest.mark.parametrize("place", ["nobody", "no store"])
def test_a_process_gives_up(finished: Clone, start: Start, place: str, port: int) -> None:
    """Where nobody answers, or something else than PyTorch's store, the process ends after its time limit."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        there = {"MASTER_PORT": str(other.getsockname()[1])} if place == "no store" else {}
        process = start(finished, 1, sys.executable, "-c", IMPATIENT, "MEET_SECONDS", "1", **there)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "error: process 1 of 2 waited for process 0, at 127.0.0.1:" in errors


def training(finished: Clone, tmp_path: Path, start: Start, *command: str) -> list["subprocess.Popen[str]"]:
    """Return two processes in the middle of a long training."""
    clone = finished.copy(tmp_path / "clone")
    clone.replace("recipes/fast.yaml", "epochs: 2 #", "epochs: 100000 #")
    both = [start(clone, rank, *command) for rank in range(2)]
    line_with(both[0], "epoch 1/")
    return both


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other(finished: Clone, tmp_path: Path, start: Start, killed: int) -> None:
    """SIGKILL to one in the middle of the training: the other fails with a message."""
    both = training(finished, tmp_path, start)
    both[killed].kill()
    _, errors = both[1 - killed].communicate(timeout=SECONDS)
    assert both[1 - killed].returncode == 1
    assert "error: a process that trains with this one failed or does not answer: " in errors
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_process_that_does_not_answer_ends_the_other(
    finished: Clone, tmp_path: Path, start: Start, stopped: int
) -> None:
    """One is stopped in the middle of the training: the other fails after its time limit."""
    both = training(finished, tmp_path, start, sys.executable, "-c", IMPATIENT, "ANSWER_SECONDS", "10")
    both[stopped].send_signal(signal.SIGSTOP)
    _, errors = both[1 - stopped].communicate(timeout=SECONDS)
    assert both[1 - stopped].returncode == 1
    assert "error: a process that trains with this one failed or does not answer: " in errors


def test_a_signal_ends_a_process_that_waits_for_an_answer(finished: Clone, tmp_path: Path, start: Start) -> None:
    """One is stopped in the middle of the training: SIGTERM ends the other at once."""
    both = training(finished, tmp_path, start)
    wait_until(lambda: not hears(both[0].pid), "process 0 computes, with Python's own handlers", seconds=60)
    both[1].send_signal(signal.SIGSTOP)
    looks: deque[bool] = deque(maxlen=20)
    wait_until(lambda: looks.append(hears(both[0].pid)) or sum(looks) == 20, "process 0 waits for an answer")
    both[0].terminate()
    assert both[0].wait(timeout=30) == -signal.SIGTERM


@pytest.mark.slow
def test_who_has_met_is_watched_no_more(
    monkeypatch: pytest.MonkeyPatch, origin: Clone, start: Start, port: int
) -> None:
    """A training may take longer than MEET_SECONDS. What a process has as bytes, none too, the other gets."""
    code = (
        "import torch; from stages.train.processes import Processes\n"
        "with Processes(torch.device('cpu'), '') as both: print(both.broadcast(b''), both.broadcast(b''))"
    )
    other = start(origin, 1, sys.executable, "-c", code)
    for name, value in {"WORLD_SIZE": 2, "RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    before = set(threading.enumerate())
    with Processes(CPU, "") as both:
        wait_until(lambda: set(threading.enumerate()) <= before, "nobody watches", seconds=30)
        assert [both.broadcast(content) for content in (b"", b"a\0")] == [b"", b"a\0"]
    assert other.communicate(timeout=SECONDS)[0] == "b'' b'a\\x00'\n"


def hears(pid: int) -> bool:
    """Return whether SIGTERM would end the process at once: it has no handler, which Python would have to run."""
    caught = re.search(r"^SigCgt:\s+(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert caught
    return not int(caught[1], 16) & 1 << signal.SIGTERM - 1


@pytest.mark.parametrize("other", ["commit", pytest.param("WORLD_SIZE", marks=pytest.mark.slow)])
def test_processes_that_differ_are_refused(finished: Clone, tmp_path: Path, start: Start, other: str) -> None:
    """Of another commit, or told of other peers: both fail, though a third is still to come."""
    second = finished.copy(tmp_path / "second")
    if other == "commit":
        second.replace("recipes/fast.yaml", "epochs: 2 #", "epochs: 5 #")
    both = [start(finished, 0, WORLD_SIZE="3"), start(second, 1, WORLD_SIZE="3" if other == "commit" else "4")]
    errors = [process.communicate(timeout=SECONDS)[1] for process in both]
    assert [process.returncode for process in both] == [1, 1]
    assert any("has other params, data, code, versions or WORLD_SIZE than process" in error for error in errors)

"""Threads that share work out."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from stages.common.errors import StageError
from stages.net.workers import Workers, available
from tests.conftest import PROJECT


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("pieces", [1, 2, 3, 8])
def test_results_come_in_the_order_of_the_pieces(count: int, pieces: int) -> None:
    """Whoever computes a piece, its result stands in its place."""
    with Workers(count) as workers:
        assert workers.map(lambda piece: piece * piece, range(pieces)) == [piece**2 for piece in range(pieces)]


def test_work_is_shared() -> None:
    """Four pieces that wait for each other end only if four threads take one each."""
    barrier = threading.Barrier(4, timeout=30)
    with Workers(4) as workers:
        assert len(set(workers.map(lambda piece: (barrier.wait(), threading.get_ident())[1], range(4)))) == 4


@pytest.mark.parametrize("bad", [0, 1])
def test_an_error_reaches_the_caller(bad: int) -> None:
    """Whichever thread fails, the caller gets its error, and the workers go on."""

    def fail(piece: int) -> int:
        if piece == bad:
            raise ValueError("piece")
        return piece

    with Workers(2) as workers:
        with pytest.raises(ValueError, match="piece"):
            workers.map(fail, range(4))
        assert workers.map(fail, [5, 6]) == [5, 6]


def test_the_threads_end() -> None:
    """After the `with` no thread is left, not even one that was still freeing what it had last computed with."""

    class SlowToFree:
        def __call__(self, piece: int) -> int:
            return piece

        def __del__(self) -> None:
            time.sleep(0.5)

    before = set(threading.enumerate())
    with Workers(4) as workers:
        started = set(threading.enumerate()) - before
        workers.map(SlowToFree(), range(4))
    assert len(started) == 3
    assert set(threading.enumerate()) <= before


def test_omp_num_threads_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable says how many; without it, the cores; nonsense is refused by name."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert available() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert available() >= 1
    for nonsense in ("many", "0"):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        with pytest.raises(StageError, match=f"OMP_NUM_THREADS: got '{nonsense}', expected a whole number"):
            available()


CORES_OF_WORKERS = """
import json, os, threading
from stages.common import environment
environment.neutralise()
from stages.net.workers import Workers, available
count = available()
barrier = threading.Barrier(2, timeout=30)
with Workers(2) as workers:
    of_threads = workers.map(lambda piece: (barrier.wait(), sorted(os.sched_getaffinity(0)))[1], range(2))
print(json.dumps({"of_threads": of_threads, "count": count}))
"""


@pytest.mark.parametrize(
    ("variable", "cores"),
    [("", "all"), ("OMP_PROC_BIND=true", "all"), ("OMP_PLACES=cores", "one"), ("GOMP_CPU_AFFINITY", "all")],
)
def test_workers_are_not_bound_to_one_core(variable: str, cores: str) -> None:
    """Whatever OpenMP is told: in a stage, each worker has the cores that the process was started with, all or one."""
    mine = os.sched_getaffinity(0)
    expected = sorted(mine) if cores == "all" else [max(mine)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    if variable:
        name, _, value = variable.partition("=")
        environment[name] = value or ",".join(map(str, expected))
    try:
        os.sched_setaffinity(0, expected)
        command = [sys.executable, "-c", CORES_OF_WORKERS]
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    finally:
        os.sched_setaffinity(0, mine)
    assert json.loads(done.stdout) == {"of_threads": [expected] * 2, "count": len(expected)}

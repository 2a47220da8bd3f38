"""Threads that share work out."""

import threading
import time

import pytest

from stages.common.errors import StageError
from stages.net.workers import Workers, available


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
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(StageError, match="OMP_NUM_THREADS: got 'many', expected a whole number"):
        available()

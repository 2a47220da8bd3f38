"""Threads that share work: each computes whole pieces with one intra-op thread, so their number changes no bit."""

import ctypes
import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from stages.common import environment
from stages.common.errors import StageError

Piece = TypeVar("Piece")
Result = TypeVar("Result")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def available() -> int:
    """Return how many workers to use: OMP_NUM_THREADS, or else the cores that this process may run on."""
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is None:
        return environment.cores()
    if not threads.isdecimal() or int(threads) < 1:
        raise StageError(f"OMP_NUM_THREADS: got {threads!r}, expected a whole number of threads, at least 1")
    return int(threads)


class Workers:
    """The calling thread and `count - 1` more. To be used in a `with` statement, which ends the threads."""

    def __init__(self, count: int):
        _keep_memory()
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # A queue to a waiting thread costs a fraction of what an executor's futures do.
        self._tasks: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(count - 1)]
        self._threads = [threading.Thread(target=self._serve, args=(tasks,), daemon=True) for tasks in self._tasks]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        for tasks, thread in zip(self._tasks, self._threads, strict=True):
            tasks.put(None)
            thread.join()  # a thread that still frees its tensors while Python ends would abort the process

    def map(self, function: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
        """Return `function` of each of `pieces`, in their order. Raises what a piece raised."""
        count = len(self._tasks) + 1
        busy = self._tasks[: max(0, len(pieces) - 1)]
        for worker, tasks in enumerate(busy, start=1):
            tasks.put((function, pieces, range(worker, len(pieces), count)))
        try:
            done = _compute(function, pieces, range(0, len(pieces), count))
        finally:
            answers = [self._results.get() for _ in busy]
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            done.update(answer)
        return [done[place] for place in range(len(pieces))]

    def _serve(self, tasks: "queue.SimpleQueue[Any]") -> None:
        torch.set_num_threads(1)  # OpenMP keeps this number for each thread
        while (task := tasks.get()) is not None:
            try:
                self._results.put(_compute(*task))
            except BaseException as error:  # handed to the caller of map, who raises it
                self._results.put(error)


def _keep_memory() -> None:
    """Let this process keep what it frees: the next piece asks for as much again.

    By default glibc gives large blocks back to Linux, which fills each page with zeros before it hands it out anew.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl has none
        for option, size in ((M_TRIM_THRESHOLD, 2**30), (M_MMAP_THRESHOLD, 2**25)):
            libc.mallopt(option, size)


def _compute(function: Callable[[Piece], Result], pieces: Sequence[Piece], places: range) -> dict[int, Result]:
    return {place: function(pieces[place]) for place in places}

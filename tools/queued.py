"""DVC's own queue of experiments on this machine: `dvc exp run --queue`, and `dvc queue start`."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from dvc.cli import main as dvc
from dvc.repo import Repo
from dvc.repo.experiments.queue.base import QueueEntry
from dvc.repo.experiments.queue.celery import LocalCeleryQueue

from stages.common import environment
from stages.common.errors import StageError
from tools.planned import Planned

INTERRUPTED = 252  # exit status of DVC's
PATIENCE = 20  # seconds that the workers of the queue have to start


class Queue:
    """Runs the experiments `planned` in DVC's queue, at most `jobs` at once."""

    def __init__(self, planned: Sequence[Planned], jobs: int):
        self._names, self._jobs = {of.name for of in planned}, jobs
        self._next_check = 0.0
        if jobs > 1:
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, environment.cores() // jobs)))

    def submit(self, missing: Sequence[Planned]) -> None:
        """Queue `missing` and start the queue. What had failed under their names is forgotten."""
        with Repo() as repo:
            refuse_other_letters(repo)
            queue = repo.experiments.celery_queue
            if stands_still(queue):
                drop_damaged_locks(repo)
            if failed := self._ours(of.entry for of in queue.iter_failed()):
                queue.remove(failed)
        try:
            for of in missing:  # in this process: a start of Python for each of a thousand runs would take half an hour
                command = ["--wait-for-lock", "exp", "run", "--queue", *of.options]
                with contextlib.redirect_stdout(io.StringIO()):
                    status = dvc(command)
                if status == INTERRUPTED:
                    raise KeyboardInterrupt
                if status:
                    raise StageError(f"dvc {' '.join(command)}: exit status {status}; DVC says why above")
        except KeyboardInterrupt:
            self._start()  # what is queued goes on
            raise
        self._start()

    def active(self) -> bool:
        """Return whether some of the runs have not ended. Starts a queue that stands still, as after a reboot."""
        with Repo() as repo:
            queue = repo.experiments.celery_queue
            # in this order: a run that starts in between is seen twice, not missed
            waiting = self._ours(queue.iter_queued()) + self._ours(queue.iter_active())
            if waiting and time.monotonic() > self._next_check:
                if stands_still(queue):
                    drop_damaged_locks(repo)
                    if lost := self._ours(queue.iter_active()):
                        queue.kill(lost, force=True)  # else they would count as running for ever
                    self._start()
                self._next_check = time.monotonic() + PATIENCE
        return bool(waiting)

    def log(self, name: str) -> str:
        """Return the command that prints what the run called `name` said."""
        return f"dvc queue logs {name}"

    def _ours(self, entries: Iterable[QueueEntry]) -> list[str]:
        return [of.stash_rev for of in entries if of.name in self._names]

    def _start(self) -> None:
        # In a session of its own, so that Ctrl-C does not end the workers; without our pipes, as who reads these would
        # wait until the workers end
        start = [sys.executable, "-m", "dvc", "queue", "start", "--jobs", str(self._jobs)]
        null = subprocess.DEVNULL
        started = subprocess.run(start, start_new_session=True, stdin=null, stdout=null, stderr=null)  # noqa: S603
        if started.returncode:
            raise StageError(f"dvc queue start: exit status {started.returncode}; type it to see why")
        self._next_check = time.monotonic() + PATIENCE


def refuse_other_letters(repo: Repo) -> None:
    """Raise StageError if what DVC copies for a run has letters beyond ASCII: the run would fail without a log."""
    copied = {"DVC's cache": repo.cache.local_cache_dir, ".dvc/config.local": str(repo.config.read("local"))}
    with contextlib.suppress(OSError):  # in a worktree and in a submodule .git is a file
        copied[".git/config"] = Path(repo.scm.root_dir, ".git/config").read_text("utf-8", errors="replace")
    for name, text in copied.items():
        if other := re.search(r"\S*[^\x00-\x7f]\S*", text):
            raise StageError(
                f"{name}: {other[0]}: DVC's queue takes ASCII alone; see `Run a queue` in docs/experiments.md"
            )


def stands_still(queue: LocalCeleryQueue) -> bool:
    """Return whether no worker of `queue` answers. Each has a second, which a busy machine may let pass: ask thrice."""
    return not any(queue.worker_status() for _ in range(3))


def drop_damaged_locks(repo: Repo) -> None:
    """Delete the locks that a killed DVC has left half-written: DVC would refuse to go on. No worker may be running."""
    for folder in ("", "exps"):
        lock = Path(repo.tmp_dir or "", folder, "rwlock")
        try:
            json.loads(lock.read_bytes())
        except FileNotFoundError:
            pass
        except ValueError:
            lock.unlink(missing_ok=True)

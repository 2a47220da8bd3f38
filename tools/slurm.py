"""Slurm as the runner of a study: an array with a job for each experiment."""

import hashlib
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from stages.common.errors import StageError
from stages.report import runs
from tools.planned import Planned

LOGS = Path(".dvc/tmp/slurm")
CORES = 2  # of a job
LARGEST = 1001  # of an array: Slurm's default MaxArraySize
PAUSE = 2  # seconds between two looks at what runs


class Slurm:
    """Runs the study called `name` as jobs of Slurm's, at most `jobs` at once (0: as many as Slurm starts).

    The clone must be on a file system that all nodes see, at the same path. Raises StageError if there is no Slurm.
    """

    def __init__(self, name: str, jobs: int):
        if shutil.which("sbatch") is None:
            raise StageError("--on slurm: there is no `sbatch` here; run on a node that may submit jobs")
        clone = hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:8]  # another clone may have a study of this name
        self._job, self._jobs = f"{name}-{clone}", jobs

    def submit(self, missing: Sequence[Planned]) -> None:
        """Submit `missing` as one array; of more than LARGEST, the first: a study submits again what is missing."""
        missing = missing[:LARGEST]
        LOGS.mkdir(parents=True, exist_ok=True)
        last = f"{len(missing) - 1}%{self._jobs}" if self._jobs else str(len(missing) - 1)
        options = [f"--job-name={self._job}", f"--array=0-{last}", f"--cpus-per-task={CORES}", "--requeue"]
        _slurm("sbatch", *options, "--output=/dev/null", script=script(missing))

    def active(self) -> bool:
        """Return whether some of the jobs have not ended."""
        return bool(_slurm("squeue", "--noheader", f"--name={self._job}").strip())

    def run(self, planned: Planned) -> None:
        """Submit `planned`, unless a job of before still runs, and wait for the end."""
        if not self.active():
            self.submit([planned])
        while self.active():
            time.sleep(PAUSE)

    def log(self, name: str) -> str:
        """Return the command that prints what the run called `name` said."""
        return f"cat {shlex.quote(str(LOGS / name))}.log"


def script(missing: Sequence[Planned]) -> str:
    """Return the script of an array that runs `missing`, one a job."""
    commit = runs.resolve("HEAD")
    cases = "\n".join(f"{place}) set -- {shlex.join(of.options)} ;;" for place, of in enumerate(missing))
    return f"""#!/bin/sh
cd {shlex.quote(str(Path.cwd()))} || exit 1
export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"
case "$SLURM_ARRAY_TASK_ID" in
{cases}
esac
exec {shlex.quote(sys.executable)} -m tools.job --commit {commit} "$@" >> {LOGS}/"$2".log 2>&1
"""


def _slurm(*arguments: str, script: str = "") -> str:
    done = subprocess.run(arguments, input=script, capture_output=True, text=True)  # noqa: S603 - Slurm's own commands
    if done.returncode:
        raise StageError(f"{arguments[0]}: {' '.join(done.stderr.split())}; fix that, then type the same command again")
    return done.stdout

"""Run `dvc repro` with several processes: the first one runs it, the others help its stage train.

    torchrun --nproc-per-node 2 -m tools.repro

torchrun sets the variables that tell each process its RANK and where the first process is. The other processes write
nothing. They end when the training ends, or when `dvc repro` ends without a training.
"""

from stages.common import command

if __name__ == "__main__":
    command.run_tool("repro", __doc__, lambda parser: None)  # the variables say it all

import argparse
import os
import subprocess
import sys
from contextlib import suppress

from stages.common.errors import StageError


def main(arguments: argparse.Namespace) -> int:
    """Run what the process of this RANK is to do, and return its exit status."""
    if os.environ.get("RANK", "0") != "0":
        os.execv(sys.executable, [sys.executable, "-m", "stages.train"])  # noqa: S606 - no shell is wanted
    with subprocess.Popen([sys.executable, "-m", "dvc", "repro"]) as repro:
        try:
            status = repro.wait()
        except BaseException:  # a signal
            repro.terminate()
            raise
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # after `dvc repro`, which need not wait for the seconds that PyTorch's import takes
        from stages.train.processes import ENDED, connect

        with suppress(StageError):  # torchrun, on this machine, was killed, and the other processes with it
            connect(rank=0, seconds=1).set(ENDED, str(status))
    return status

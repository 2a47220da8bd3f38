"""The processes that train together, on one machine or several, as torchrun and its variables describe them."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Self

import torch
import torch.distributed
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from stages.common.errors import StageError

SILENT_SECONDS, MEET_SECONDS = 3, 300  # at the start: until a process says whom it waits for, and until it gives up
ANSWER_SECONDS = 60  # for each answer of a process that has come
ENDED = "ended"  # the key under which tools.repro puts the exit status of `dvc repro`


class Processes:
    """This process and its peers: one alone, unless WORLD_SIZE is set. To be used in a `with` statement.

    The variables are PyTorch's own: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT and, on a machine with several GPUs,
    LOCAL_RANK. All must have one `configuration`, the SHA-256 of what they are to compute. A process that waits ends at
    once on a signal, and raises StageError if a peer fails or does not answer.
    """

    def __init__(self, device: torch.device, configuration: str):
        several = "WORLD_SIZE" in os.environ or "RANK" in os.environ
        self.count = variable("WORLD_SIZE", 1, 2**16) if several else 1
        self.rank = variable("RANK", 0, self.count - 1) if several else 0
        if self.count > 1 and not (os.environ.get("MASTER_ADDR") and variable("MASTER_PORT", 1, 2**16 - 1)):
            raise StageError("MASTER_ADDR: got nothing, expected the host name or address of process 0's machine")
        self._device = device
        self._configuration = f"{self.count} {configuration}".encode()
        self._awaited, self._met = 0, threading.Event()

    def __enter__(self) -> Self:
        if self.count > 1:
            threading.Thread(target=self._watch, daemon=True).start()
            backend = "nccl" if self._device.type == "cuda" else "gloo"
            limit = timedelta(seconds=ANSWER_SECONDS)
            try:
                with _waiting():
                    store = self._meet()
                    torch.distributed.init_process_group(
                        backend, store=store, rank=self.rank, world_size=self.count, timeout=limit
                    )
            finally:
                self._met.set()
        return self

    def __exit__(self, *error: object) -> None:
        if self.count > 1:
            torch.distributed.destroy_process_group()

    def all_gather(self, own: Tensor) -> list[Tensor]:
        """Return the tensor of each of several processes, in the order of their ranks; all have one shape and dtype."""
        every = [torch.empty_like(own) for _ in range(self.count)]
        with _waiting():
            torch.distributed.all_gather(every, own)
        return every

    def broadcast(self, content: bytes) -> bytes:
        """Return what the process of rank 0 has as `content`."""
        if self.count == 1:
            return content
        with _waiting():
            size = torch.tensor([len(content)], device=self._device)
            torch.distributed.broadcast(size, src=0)
            shared = torch.zeros(int(size), dtype=torch.uint8, device=self._device)
            if self.rank == 0:
                shared.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else shared)
            torch.distributed.broadcast(shared, src=0)
            return shared.cpu().numpy().tobytes()

    def _meet(self) -> Any:
        """Return the store that the processes share, when all are there and have one configuration."""
        store = connect(self.rank)
        store.set(f"process {self.rank}", self._configuration)
        for rank in range(self.count):
            self._awaited, peer = rank, f"process {rank}"
            while not store.check([peer]):
                if store.check([ENDED]):
                    status = int(store.get(ENDED))
                    print(f"process 0 ended without training, with exit status {status}", file=sys.stderr)
                    sys.exit(min(status, 1))
                time.sleep(0.1)
            if store.get(peer) != self._configuration:
                raise StageError(
                    f"process {self.rank} has other params, data, code, versions or WORLD_SIZE than {peer}; bring all"
                    " to one commit"
                )
        return store

    def _watch(self) -> None:
        """Say whom this process waits for, and end it at last: PyTorch's own code may wait for ever."""
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}, {MEET_SECONDS} seconds at most"
        for seconds, begin, waits in ((SILENT_SECONDS, "", "waits"), (MEET_SECONDS, "error: ", "waited")):
            if self._met.wait(seconds):
                return
            text = f"{begin}process {self.rank} of {self.count} {waits} for process {self._awaited}, at {place}"
            print(text, file=sys.stderr, flush=True)
        os._exit(1)


def variable(name: str, least: int, most: int, default: str = "nothing") -> int:
    """Return the environment variable `name`, a whole number. Raises StageError unless it is in `least` to `most`."""
    text = os.environ.get(name, default)
    if not (text.isdecimal() and least <= int(text) <= most):
        raise StageError(
            f"{name}: got {text!r}, expected a whole number from {least} to {most}; processes that train together need"
            " WORLD_SIZE, RANK, MASTER_ADDR and MASTER_PORT, which torchrun sets"
        )
    return int(text)


def connect(rank: int, seconds: float = MEET_SECONDS) -> Any:
    """Return the store that the processes share. torchrun hosts it, or else the process of `rank` 0.

    Raises StageError if it cannot be reached for so many `seconds`.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    hosts = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    end = time.monotonic() + seconds
    while not hosts:  # first without PyTorch, which fills the screen with what it did not reach
        with suppress(OSError):
            socket.create_connection((host, port), timeout=1).close()
            break
        if time.monotonic() > end:
            raise StageError(f"{host}:{port}: nobody answers, where torchrun or process 0 should")
        time.sleep(0.1)
    limit = timedelta(seconds=ANSWER_SECONDS)
    store = TCPStore(host, port, is_master=hosts, timeout=limit, wait_for_workers=False)
    return PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)  # torchrun may keep it for a restart


@contextmanager
def _waiting() -> Iterator[None]:
    """Let a signal end this process at once, as Python waits for PyTorch to return; say so if a peer failed."""
    signals = [number for number in (signal.SIGINT, signal.SIGTERM) if callable(signal.getsignal(number))]
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in signals}
    try:
        yield
    except RuntimeError as error:  # gloo's, and those of PyTorch's stores
        reason = str(error).partition("\n")[0]
        raise StageError(f"a process that trains with this one failed or does not answer: {reason}") from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)

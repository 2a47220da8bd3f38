"""The processes that train together, on one machine or several, as torchrun and its variables describe them."""

import os
from typing import Self

import torch
import torch.distributed
from torch import Tensor

from stages.common.errors import StageError


class Processes:
    """This process and its peers: one alone, unless WORLD_SIZE is set. To be used in a `with` statement.

    The variables are PyTorch's own: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT and, on a machine with several GPUs,
    LOCAL_RANK.
    """

    def __init__(self, device: torch.device):
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ["RANK"]) if self.count > 1 else 0
        self._device = device

    def __enter__(self) -> Self:
        if self.count > 1:
            torch.distributed.init_process_group("nccl" if self._device.type == "cuda" else "gloo")
        return self

    def __exit__(self, *error: object) -> None:
        if self.count > 1:
            torch.distributed.destroy_process_group()

    def gather(self, own: Tensor) -> list[Tensor]:
        """Return the tensor of every process, in the order of their ranks; all have one shape and dtype."""
        if self.count == 1:
            return [own]
        every = [torch.empty_like(own) for _ in range(self.count)]
        torch.distributed.all_gather(every, own)
        return every

    def check_same(self, digest: str) -> None:
        """Raise StageError unless every process has the same SHA-256 `digest` of what it is to compute."""
        own = torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8, device=self._device)
        others = [rank for rank, other in enumerate(self.gather(own)) if not torch.equal(other, own)]
        if others:
            raise StageError(
                f"process {self.rank} has other params, data, code or versions than {others}; bring all to one commit"
            )

    def from_first(self, content: bytes) -> bytes:
        """Return what the process of rank 0 has as `content`."""
        if self.count == 1:
            return content
        size = torch.tensor([len(content)], device=self._device)
        torch.distributed.broadcast(size, src=0)
        shared = torch.zeros(int(size), dtype=torch.uint8, device=self._device)
        if self.rank == 0:
            shared.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else shared)
        torch.distributed.broadcast(shared, src=0)
        return shared.cpu().numpy().tobytes()

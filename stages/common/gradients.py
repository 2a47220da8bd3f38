"""The gradient of a batch, shard by shard: who computes a shard cannot change a bit of the sum."""

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from stages.common.workers import Workers

Shard = TypeVar("Shard")


class ShardedGradient:
    """The gradient of a net's loss over a batch that is cut into a fixed number of shards.

    Each shard is computed as a whole by one worker, and the shards' gradients are added in the order of the shards.
    All replicas share the net's parameters; each has the batch-norm statistics of its own shard.
    """

    def __init__(self, net: nn.Module, shards: int, workers: Workers):
        self._net = net
        self._workers = workers
        self._parameters = list(net.parameters())
        shared = {id(parameter): parameter for parameter in self._parameters}
        self._replicas = [copy.deepcopy(net, dict(shared)).train() for _ in range(shards)]

    def accumulate(self, loss: Callable[[nn.Module, Shard], Tensor], batch: Sequence[Shard]) -> None:
        """Set the parameters' `grad` to that of the sum of `loss(replica, shard)` over the shards of `batch`."""

        def gradient(place: int) -> Tensor:
            parts = torch.autograd.grad(loss(self._replicas[place], batch[place]), self._parameters)
            return torch.cat([part.reshape(-1) for part in parts])

        total, *others = self._workers.map(gradient, range(len(batch)))
        for other in others:
            total += other
        sizes = [parameter.numel() for parameter in self._parameters]
        for parameter, part in zip(self._parameters, total.split(sizes), strict=True):
            parameter.grad = part.view_as(parameter)

    def merge_statistics(self) -> None:
        """Give the net, and with it every replica, the mean over the shards of the running statistics."""
        replicas = [dict(replica.named_buffers()) for replica in self._replicas]
        with torch.no_grad():
            for name, buffer in self._net.named_buffers():
                of_shards = [buffers[name] for buffers in replicas]
                if buffer.is_floating_point():
                    total = of_shards[0].clone()
                    for other in of_shards[1:]:
                        total += other
                    buffer.copy_(total / len(of_shards))
                else:  # the count of batches, the same in every shard
                    buffer.copy_(of_shards[0])
                for copied in of_shards:
                    copied.copy_(buffer)

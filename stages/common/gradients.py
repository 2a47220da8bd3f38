"""The gradient of a batch, shard by shard: who computes a shard cannot change a bit of the sum."""

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from stages.common.processes import Processes
from stages.common.workers import Workers

Shard = TypeVar("Shard")


def as_vector(net: nn.Module) -> Tensor:
    """Return one vector of all the parameters of `net`, which are parts of it from now on."""
    vector = parameters_to_vector(net.parameters()).detach()
    vector_to_parameters(vector, net.parameters())
    return vector


class ShardedGradient:
    """The gradient of a net's loss over a batch that is cut into a fixed number of shards.

    Each shard is computed as a whole by one worker of one process, and the shards' gradients are added in the order of
    the shards. All replicas share the net's parameters; each has the batch-norm statistics of its own shard.
    """

    def __init__(self, net: nn.Module, shards: int, workers: Workers, processes: Processes):
        self._net = net
        self._workers = workers
        self._processes = processes
        self._parameters = list(net.parameters())
        shared = {id(parameter): parameter for parameter in self._parameters}
        self._replicas = [copy.deepcopy(net, dict(shared)).train() for _ in range(shards)]
        self._mine = range(processes.rank, shards, processes.count)

    def of(self, loss: Callable[[nn.Module, Shard], Tensor], batch: Sequence[Shard]) -> Tensor:
        """Return the gradient, a vector, of the sum of `loss(replica, shard)` over the shards of `batch`."""

        def gradient(place: int) -> Tensor:
            return _flat(torch.autograd.grad(loss(self._replicas[place], batch[place]), self._parameters))

        return self._sum(self._workers.map(gradient, self._mine), self._parameters)

    def merge_statistics(self) -> None:
        """Give the net, and with it every replica, the mean over the shards of the running statistics."""
        with torch.no_grad():
            buffers = list(self._net.buffers())
            if not buffers:
                return
            mine = [_flat(list(self._replicas[place].buffers())) for place in self._mine]
            mean = self._sum(mine, buffers) / len(self._replicas)
            for of_all in zip(_parts(mean, buffers), buffers, *(r.buffers() for r in self._replicas), strict=True):
                for buffer in of_all[1:]:
                    buffer.copy_(of_all[0])

    def _sum(self, mine: list[Tensor], like: Sequence[Tensor]) -> Tensor:
        """Return the sum over all shards, in their order, of a vector for each, of which this process has `mine`.

        A vector is as long as the tensors of `like` together.
        """
        if self._processes.count > 1:
            most = -(-len(self._replicas) // self._processes.count)  # the processes send as much as each other
            empty = torch.zeros(sum(tensor.numel() for tensor in like), device=like[0].device)
            every = self._processes.gather(torch.stack(mine + [empty] * (most - len(mine))))
            mine = [every[shard % len(every)][shard // len(every)] for shard in range(len(self._replicas))]
        total = mine[0].clone()
        for other in mine[1:]:
            total += other
        return total


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])


def _parts(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    sizes = [tensor.numel() for tensor in like]
    return [part.view_as(tensor) for part, tensor in zip(vector.split(sizes), like, strict=True)]

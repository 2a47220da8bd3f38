"""The gradient of a batch, shard by shard: who computes a shard cannot change a bit of the sum."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from stages.net.workers import Workers
from stages.train.processes import Processes
from stages.train.step import Draws, Step

Shard = tuple[Tensor, Tensor, Draws]  # what a step takes
RUNNING = ("running_mean", "running_var")  # the statistics of batch norm


def as_vector(net: nn.Module) -> Tensor:
    """Return one vector of all the parameters of `net`, which are parts of it from now on."""
    vector = torch.cat([values.detach().flatten() for values in net.parameters()])
    vector_to_parameters(vector, net.parameters())
    return vector


def wide_copy(buffer: Tensor) -> Tensor:
    """Return a copy of `buffer` as float64; of 64-bit integers, which float64 would round, as they are."""
    return buffer.clone() if buffer.dtype == torch.int64 else buffer.to(torch.float64, copy=True)


class ShardedGradient:
    """The gradient of a net's loss over a batch that is cut into a fixed number of shards.

    Each shard is computed as a whole by one worker of one process, and the shards' gradients are added in the order of
    the shards. All replicas share the net's parameters; each has the batch-norm statistics of its own shard.
    """

    def __init__(
        self, net: nn.Module, shards: int, workers: Workers, processes: Processes, step: Callable[[nn.Module], Step]
    ):
        self._net = net
        self._workers = workers
        self._processes = processes
        parameters = list(net.parameters())
        self._size, self._device = sum(values.numel() for values in parameters), parameters[0].device
        shared = {id(values): values for values in parameters}
        self._replicas = [copy.deepcopy(net, dict(shared)).train() for _ in range(shards)]
        self._steps = [step(replica) for replica in self._replicas]
        self._own = range(processes.rank, shards, processes.count)

    def of(self, batch: Sequence[Shard]) -> tuple[Tensor, Tensor]:
        """Return the loss of `batch`, the sum over its shards, and its gradient, a vector."""
        own = self._workers.map(lambda place: self._steps[place](*batch[place]), self._own)
        total = self._sum(own, self._size + 1)
        return total[-1], total[:-1]

    def merge_statistics(self) -> None:
        """Give the net, and with it every replica, the mean over the shards of the running statistics.

        To another buffer the mean change is added, so that a constant stays as it is, to the bit.
        """
        with torch.no_grad():
            start = [
                torch.zeros_like(buffer, dtype=torch.float64) if name.endswith(RUNNING) else wide_copy(buffer)
                for name, buffer in self._net.named_buffers()
            ]
            if not start:
                return
            own = []
            for place in self._own:
                pairs = zip(self._replicas[place].buffers(), start, strict=True)
                # what is equal has not changed, infinity too
                changes = [torch.where(of == at, 0.0, of.double() - at).flatten().float() for of, at in pairs]
                own.append(torch.cat(changes))
            sizes = [values.numel() for values in start]
            mean = self._sum(own, sum(sizes)) / len(self._replicas)
            for net in (self._net, *self._replicas):
                for buffer, at, change in zip(net.buffers(), start, mean.split(sizes), strict=True):
                    buffer.copy_(at + change.view_as(at).to(at.dtype))

    def _sum(self, own: list[Tensor], size: int) -> Tensor:
        """Return the sum over all shards, in their order, of a vector (`size`) for each; this process has its `own`."""
        if self._processes.count > 1:
            most = -(-len(self._replicas) // self._processes.count)  # the processes send as much as each other
            empty = torch.zeros(size, device=self._device)
            every = self._processes.all_gather(torch.stack(own + [empty] * (most - len(own))))
            own = [every[shard % len(every)][shard // len(every)] for shard in range(len(self._replicas))]
        total = own[0].clone()
        for other in own[1:]:
            total += other
        return total

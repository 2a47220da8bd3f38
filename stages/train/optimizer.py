"""AdamW, Adam and SGD, as torch.optim has them: by kernels with the same bits on every CPU; on a GPU, PyTorch's own."""

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from stages.net.calls import now

Kind = Literal["adamw", "adam", "sgd"]
EPSILON = 1e-8  # torch.optim's default


class Optimizer:
    """AdamW, Adam or SGD of a float32 vector that holds all parameters.

    On a GPU it calls the functions that torch.optim's classes call. Those classes import PyTorch's compiler, which
    takes as long as it takes to train `quick`.
    """

    def __init__(
        self, kind: Kind, parameters: Tensor, weight_decay: float, momentum: float, betas: tuple[float, float]
    ):
        self._kind, self._parameters, self._on_gpu = kind, parameters, parameters.is_cuda
        self._decay, self._momentum, self._betas = weight_decay, momentum, betas
        # averages of the gradients (of SGD: the velocities) and of their squares
        self._averages, self._squares = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self._steps = torch.zeros((), device=parameters.device)
        self._powers = torch.ones(2, dtype=torch.float64)  # of the betas, with the number of steps as exponent

    def step(self, gradients: Tensor, learning_rate: float) -> None:
        """Change the parameters by the `gradients` of the loss, a vector as long as they."""
        if self._on_gpu:
            self._step_on_gpu(gradients, learning_rate)
            return
        vectors = (self._parameters, gradients, self._averages)
        if self._kind == "sgd":
            now("sgd", *vectors, len(gradients), learning_rate, self._momentum, self._decay)
            return
        self._powers *= torch.tensor(self._betas, dtype=torch.float64)
        power1, power2 = self._powers.tolist()
        size, root = learning_rate / (1 - power1), 1 / math.sqrt(1 - power2)
        decay, added = 1 - learning_rate * self._decay, 0.0
        if self._kind == "adam":
            decay, added = 1.0, self._decay
        now("adam", *vectors, self._squares, len(gradients), decay, added, *self._betas, size, root, EPSILON)

    def _step_on_gpu(self, gradients: Tensor, learning_rate: float) -> None:
        vectors: Any = ([self._parameters], [gradients], [self._averages])
        options: dict[str, Any] = {"lr": learning_rate, "weight_decay": self._decay, "maximize": False, "fused": True}
        if self._kind == "sgd":
            sgd(*vectors, momentum=self._momentum, dampening=0.0, nesterov=False, **options)
            return
        options |= {"beta1": self._betas[0], "beta2": self._betas[1], "eps": EPSILON, "amsgrad": False}
        options["decoupled_weight_decay"] = self._kind == "adamw"
        vectors += ([self._squares], [], [self._steps])
        adam(*vectors, **options)

    def state(self) -> list[Tensor]:
        """Return what the steps so far have left."""
        return [self._averages, self._squares, self._steps, self._powers]

    def restore(self, state: list[Tensor]) -> None:
        """Go on from a `state`."""
        for own, saved in zip(self.state(), state, strict=True):
            own.copy_(saved)

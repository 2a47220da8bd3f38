"""PyTorch's optimizers, without the compiler that its classes for them import."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

Kind = Literal["adamw", "adam", "sgd"]


class Optimizer:
    """AdamW, Adam or SGD of a vector that holds all parameters, by the functions that torch.optim's classes call.

    Those classes import PyTorch's compiler, which takes as long as it takes to train `quick`.
    """

    def __init__(
        self, kind: Kind, parameters: Tensor, weight_decay: float, momentum: float, betas: tuple[float, float]
    ):
        self._parameters = parameters
        self._options: dict[str, Any] = {"weight_decay": weight_decay, "maximize": False, "fused": True}
        self._update: Callable[..., None]
        average, square = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self._state: list[list[Tensor]]
        if kind == "sgd":
            self._update, self._state = sgd, [[average]]
            self._options |= {"momentum": momentum, "dampening": 0.0, "nesterov": False}
        else:
            steps = torch.zeros((), device=parameters.device)
            self._update, self._state = adam, [[average], [square], [], [steps]]  # [] is of amsgrad
            self._options |= {"beta1": betas[0], "beta2": betas[1], "eps": 1e-8, "amsgrad": False}
            self._options["decoupled_weight_decay"] = kind == "adamw"

    def step(self, gradient: Tensor, learning_rate: float) -> None:
        """Change the parameters by the `gradient` of the loss, a vector as long as they."""
        self._update([self._parameters], [gradient], *self._state, lr=learning_rate, **self._options)

    def state(self) -> list[list[Tensor]]:
        """Return what the steps so far have left."""
        return self._state

    def restore(self, state: list[list[Tensor]]) -> None:
        """Go on from a `state`."""
        for own, saved in zip(self._state, state, strict=True):
            for tensor, value in zip(own, saved, strict=True):
                tensor.copy_(value)

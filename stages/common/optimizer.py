"""PyTorch's optimizers, without the compiler that its classes for them import."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

Kind = Literal["adamw", "adam", "sgd"]
State = list[list[Tensor]]


class Optimizer:
    """AdamW, Adam or SGD over `parameters`, by the functions that the classes in torch.optim call: the same bits.

    Those classes import PyTorch's compiler, which takes as long as it takes to train `quick`.
    """

    def __init__(
        self, kind: Kind, parameters: Iterable[Tensor], weight_decay: float, momentum: float, betas: tuple[float, float]
    ):
        self._parameters = list(parameters)

        def zeros() -> list[Tensor]:
            return [torch.zeros_like(parameter) for parameter in self._parameters]

        self._options: dict[str, Any] = {"weight_decay": weight_decay, "maximize": False, "fused": True}
        self._update: Callable[..., None]
        if kind == "sgd":
            self._update = sgd
            self._options |= {"momentum": momentum, "dampening": 0.0, "nesterov": False}
            self._state: State = [zeros()]  # the moving averages of the gradients
        else:
            self._update = adam
            self._options |= {"beta1": betas[0], "beta2": betas[1], "eps": 1e-8, "amsgrad": False}
            self._options["decoupled_weight_decay"] = kind == "adamw"
            steps = [torch.zeros((), device=parameter.device) for parameter in self._parameters]
            self._state = [zeros(), zeros(), [], steps]  # also of their squares; amsgrad's; the steps so far

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Change the parameters by their `grad`."""
        gradients = [parameter.grad for parameter in self._parameters]
        self._update(self._parameters, gradients, *self._state, lr=learning_rate, **self._options)

    def state(self) -> State:
        """Return what the steps so far have left."""
        return self._state

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        for mine, saved in zip(self._state, state, strict=True):
            for tensor, value in zip(mine, saved, strict=True):
                tensor.copy_(value)

"""Operations as PyTorch's autograd functions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from stages.net.calls import Run, now
from stages.net.operations import Gradients, Operation, cross_entropy


def check_once() -> None:
    """Raise RuntimeError in a `backward` that PyTorch records (create_graph=True): the kernels would be left out."""
    if torch.is_grad_enabled():
        raise RuntimeError("these layers have no second derivative on a CPU: create_graph cannot be used")


def forward(run: Run, operations: Sequence[Operation], values: Tensor) -> Tensor:
    """Return what `operations`, one after the other, make of `values`."""
    for operation in operations:
        values = operation.forward(run, values)
    return values


def backward(run: Run, operations: Sequence[Operation], gradient: Tensor, needed: bool) -> Gradients:
    """From the gradient of the output, return those of the values, if it is `needed`, and of all parameters."""
    first = next((place for place, operation in enumerate(operations) if operation.parameters), 0)
    of_values: Any = gradient
    of_parameters: list[Tensor] = []
    for place in reversed(range(0 if needed else first, len(operations))):
        of_values, own = operations[place].backward(run, of_values, needed or place > first)
        of_parameters = own + of_parameters
    return of_values if needed else None, of_parameters


class Apply(Function):
    """Operations one after the other, which PyTorch records as one."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, operations: Sequence[Operation], *parameters: Tensor) -> Tensor:
        """Return what `operations`, which have these `parameters`, make of `values`."""
        ctx.operations = operations
        ctx.save_for_backward(values, *parameters)
        made = forward(now, operations, values)
        # PyTorch would let nobody change a view, or what went in, in place
        return made.clone() if made._is_view() or made is values else made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the values and of the parameters."""
        check_once()
        _ = ctx.saved_tensors  # PyTorch raises if one was changed in place since
        of_values, of_parameters = backward(now, ctx.operations, gradients[0], ctx.needs_input_grad[0])
        return of_values, None, *of_parameters


class CrossEntropy(Function):
    """Cross-entropy in nats, as torch.nn.functional.cross_entropy with label smoothing."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, smoothing: float, count: int) -> Tensor:
        """Return the sum over the logits (N, classes) of the cross-entropy with the labels (N), divided by `count`."""
        loss, gradient = cross_entropy(now, logits, labels, smoothing, count)
        ctx.save_for_backward(gradient)
        return loss.float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the logits."""
        check_once()
        return ctx.saved_tensors[0] * gradients[0], None, None, None

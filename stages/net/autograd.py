"""Operations as PyTorch's autograd functions: one for each, or one for a chain of layers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from stages.net.calls import Program, now
from stages.net.operations import Operation, dense


class Apply(Function):
    """One operation."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, operation: Operation, *parameters: Tensor) -> Tensor:
        """Return what `operation`, which has these `parameters`, makes of `values`."""
        ctx.operation = operation
        return operation.forward(now, values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the values and of the parameters."""
        of_values, of_parameters = ctx.operation.backward(now, gradients[0], ctx.needs_input_grad[0])
        return of_values, None, *of_parameters


class Chain:
    """Layers one after the other, for values of one shape, as two programs: forward and backward.

    The memory of all values is its own, and is used again and again. So a chain serves one forward and its backward
    at a time.
    """

    def __init__(self, layers: Sequence[Any], values: Tensor, needed: bool):
        self._forward, self._backward = Program(), Program()
        self._input, self._operations = dense(values).clone(), [layer.operation() for layer in layers]
        self._needed = needed
        self._gradient: Tensor | None = None  # that of the output
        self._of_values: Tensor | None = None
        self._of_parameters: list[Tensor] = []
        self._output = self._input
        for operation in self._operations:
            self._output = operation.forward(self._forward, self._output)
        self._used = False

    def forward(self, values: Tensor) -> Tensor:
        """Return what the last layer makes of what the others made of `values`."""
        if self._used:
            self._input.copy_(values)
            self._forward.again()
        self._used = True
        return self._output.clone()

    def backward(self, gradient: Tensor) -> tuple[Tensor | None, list[Tensor]]:
        """Return the gradients of the values, if they are needed, and of the parameters."""
        if self._gradient is None:
            self._gradient = dense(gradient).clone()
            self._record_backward(self._gradient)
        else:
            self._gradient.copy_(gradient)
            self._backward.again()
        of_values = self._of_values.clone() if self._of_values is not None else None
        return of_values, [of_parameter.clone() for of_parameter in self._of_parameters]

    def _record_backward(self, gradient: Tensor | None) -> None:
        first = next((place for place, operation in enumerate(self._operations) if operation.parameters), 0)
        for place, operation in reversed(list(enumerate(self._operations))):
            if gradient is None:  # no layer before has parameters
                break
            gradient, of_parameters = operation.backward(self._backward, gradient, self._needed or place > first)
            self._of_parameters = of_parameters + self._of_parameters
        self._of_values = gradient if self._needed else None


Chains = dict[tuple[Any, ...], list[Chain]]  # those that are free, by what they are for


class ApplyChain(Function):
    """A chain of layers, as one operation: PyTorch then keeps no record of each."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, layers: Sequence[Any], chains: Chains, *parameters: Tensor) -> Tensor:
        """Return what `layers`, which have these `parameters`, make of `values`."""
        needed = ctx.needs_input_grad[0]
        ctx.free = chains.setdefault((values.shape, needed, *(parameter.data_ptr() for parameter in parameters)), [])
        ctx.chain = ctx.free.pop() if ctx.free else Chain(layers, values, needed)
        return ctx.chain.forward(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the values and of the parameters."""
        if ctx.chain is None:
            raise RuntimeError("backward through the same layers a second time; call forward again")
        chain, ctx.chain = ctx.chain, None
        of_values, of_parameters = chain.backward(gradients[0])
        ctx.free.append(chain)
        return of_values, None, None, *of_parameters


class CrossEntropy(Function):
    """Cross-entropy in nats, as torch.nn.functional.cross_entropy with label smoothing."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, smoothing: float, count: int) -> Tensor:
        """Return the sum over the logits (N, classes) of the cross-entropy with the labels (N), divided by `count`."""
        logits = dense(logits)
        loss, gradient = torch.empty((), dtype=torch.float64), torch.empty_like(logits)
        now("cross_entropy", logits, labels, loss, gradient, *logits.shape, smoothing, 1 / count)
        ctx.save_for_backward(gradient)
        return loss.float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the logits."""
        return ctx.saved_tensors[0] * gradients[0], None, None, None

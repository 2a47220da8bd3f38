"""Operations as PyTorch's autograd functions: one for each, or one for a chain of layers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from stages.net.calls import Program, Run, now
from stages.net.operations import Gradients, Operation, cross_entropy, dense


def check_once() -> None:
    """Raise RuntimeError in a `backward` that PyTorch records (create_graph=True): the kernels would be left out."""
    if torch.is_grad_enabled():
        raise RuntimeError("these layers have no second derivative on a CPU: create_graph cannot be used")


class Apply(Function):
    """One operation."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, operation: Operation, *parameters: Tensor) -> Tensor:
        """Return what `operation`, which has these `parameters`, makes of `values`."""
        ctx.operation, made = operation, operation.forward(now, values)
        ctx.save_for_backward(*parameters, *((made,) if operation.reads_output else (values,)))
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the values and of the parameters."""
        check_once()
        _ = ctx.saved_tensors  # PyTorch raises if one was changed in place since
        of_values, of_parameters = ctx.operation.backward(now, gradients[0], ctx.needs_input_grad[0])
        return of_values, None, *of_parameters


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


class Chain:
    """Layers one after the other, for values of one shape, as two programs: forward and backward.

    The memory of all values is its own, and is used again and again. So a chain serves one forward and its backward
    at a time.
    """

    def __init__(self, layers: Sequence[Any], values: Tensor, needed: bool):
        self._forward, self._backward, self._needed = Program(), Program(), needed
        self.layers = layers  # kept, so that no other layer has the id of one of them
        self._input, self._operations = dense(values).clone(), [layer.operation() for layer in layers]
        self._output = forward(self._forward, self._operations, self._input)
        self._gradient: Tensor | None = None  # that of the output
        self._gradients: Gradients = (None, [])
        self._used = False

    def forward(self, values: Tensor) -> Tensor:
        """Return what the layers, one after the other, make of `values`."""
        if self._used:
            self._input.copy_(values)
            self._forward.again()
        self._used = True
        return self._output.clone()

    def backward(self, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the values, if they are needed, and of the parameters."""
        if self._gradient is None:
            self._gradient = dense(gradient).clone()
            self._gradients = backward(self._backward, self._operations, self._gradient, self._needed)
        else:
            self._gradient.copy_(gradient)
            self._backward.again()
        of_values, of_parameters = self._gradients
        return None if of_values is None else of_values.clone(), *(values.clone() for values in of_parameters)


# The chains that are not in use now, by the shape of the values, whether the gradient of these is needed, which layers
# there are, and where their buffers and parameters are in memory
Chains = dict[tuple[Any, ...], list[Chain]]
MOST = 8  # kinds of chains that are kept: each has memory of its own


class ApplyChain(Function):
    """A chain of layers, as one operation: PyTorch then keeps no record of each."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, layers: Sequence[Any], chains: Chains, parts: tuple[int, ...], *parameters: Tensor
    ) -> Tensor:
        """Return what `layers`, which have these `parts` and `parameters`, make of `values`."""
        needed = ctx.needs_input_grad[0]
        key = (values.shape, needed, *parts, *(parameter.data_ptr() for parameter in parameters))
        if key not in chains and len(chains) >= MOST:
            chains.clear()
        ctx.free = chains.setdefault(key, [])
        ctx.chain = ctx.free.pop() if ctx.free else Chain(layers, values, needed)
        ctx.save_for_backward(*parameters)
        return ctx.chain.forward(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the values and of the parameters."""
        check_once()
        if ctx.chain is None:
            raise RuntimeError("backward through the same layers a second time; call forward again")
        _ = ctx.saved_tensors  # PyTorch raises if one was changed in place since
        chain, ctx.chain = ctx.chain, None
        of_values, *of_parameters = chain.backward(gradients[0])
        ctx.free.append(chain)
        return of_values, None, None, None, *of_parameters


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

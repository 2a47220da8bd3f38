"""PyTorch's layers, with the same bits on every CPU: each computes its values by the kernels, in fixed chains.

They have the names, arguments and weights of torch.nn, so that their state loads into PyTorch's own layers. On a GPU,
in float64, and for an export, they are PyTorch's own. Any module that is made of them has the promise; what else a
module may compute with is in stages/train/guard.py.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from stages.net import autograd, operations


class Layer(nn.Module):
    """A layer that is one operation on the kernels where the values are float32 on a CPU."""

    def operation(self) -> operations.Operation:
        """Return the operation for one use of the layer."""
        raise NotImplementedError

    def forward(self, values: Tensor) -> Tensor:
        """Return what the layer makes of `values`."""
        if on_kernels(values):
            return applied([self], values)
        return super().forward(values)


def applied(layers: Iterable[Any], values: Tensor) -> Tensor:
    """Return what the kernels of `layers`, one after the other, make of `values`."""
    used = [layer.operation() for layer in layers]
    return autograd.Apply.apply(values, used, *(parameter for operation in used for parameter in operation.given))


def on_kernels(values: Tensor) -> bool:
    """Return whether the kernels compute with `values`.

    Not with PyTorch's fake tensors, which have no memory, and not for torch.export, torch.compile and torch.jit.trace.
    """
    plain = type(values) in (Tensor, nn.Parameter) and values.dtype == torch.float32 and values.numel() > 0
    traced = torch.compiler.is_compiling() or torch._C._is_tracing()
    return plain and values.device.type == "cpu" and not traced


def has_hooks(layer: nn.Module) -> bool:
    """Return whether PyTorch is to call hooks of `layer`, which it does only where it calls the layer itself."""
    kinds = ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")
    return any(getattr(layer, f"_{kind}") for kind in kinds)


class Conv2d(Layer, nn.Conv2d):
    """torch.nn.Conv2d, with one stride and one padding for both axes; neither dilation nor groups."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0,
        bias: bool = True,
    ):  # fmt: skip
        if not isinstance(stride, int) or not isinstance(padding, int):
            raise TypeError(f"got stride {stride} and padding {padding}, expected one number for both axes")
        nn.Conv2d.__init__(self, in_channels, out_channels, kernel_size, stride, padding, bias=bias)

    def operation(self) -> operations.Operation:
        """Return the operation for one use of the layer."""
        return operations.Convolution(self.weight, self.bias, self.stride[0], int(self.padding[0]))


class Linear(Layer, nn.Linear):
    """torch.nn.Linear for (N, I). Of images (N, C, H, W) it takes all values, and gives images of one pixel."""

    def operation(self) -> operations.Operation:
        """Return the operation for one use of the layer."""
        return operations.LinearMap(self.weight, self.bias)

    def forward(self, values: Tensor) -> Tensor:
        """Return (N, O), or (N, O, 1, 1) of images."""
        if values.dim() not in (2, 4):
            raise RuntimeError(f"got values {tuple(values.shape)}, expected (N, I) or images (N, C, H, W)")
        if on_kernels(values):
            return super().forward(values)
        rows = nn.functional.linear(values.flatten(1), self.weight, self.bias)
        return rows if values.dim() == 2 else rows[:, :, None, None]


class BatchNorm2d(Layer, nn.BatchNorm2d):
    """torch.nn.BatchNorm2d. In evaluation mode it has no gradient on a CPU."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1):
        nn.BatchNorm2d.__init__(self, num_features, eps, momentum)

    def operation(self) -> operations.Operation:
        """Return the operation for one use of the layer."""
        mean, variance, batches = self.buffers()
        if not self.training:
            return operations.BatchNormInference(self.weight, self.bias, mean, variance, self.eps)
        if self.momentum is None:
            raise RuntimeError("got momentum None, a mean over all batches, in batch norm; expected a number")
        return operations.BatchNorm(self.weight, self.bias, (mean, variance, batches), self.momentum, self.eps)


class MaxPool2d(Layer, nn.MaxPool2d):
    """torch.nn.MaxPool2d, with the kernel's size as its stride."""

    def __init__(self, kernel_size: int):
        if not isinstance(kernel_size, int):
            raise TypeError(f"got kernel_size {kernel_size}, expected one number for both axes")
        nn.MaxPool2d.__init__(self, kernel_size)

    def operation(self) -> operations.Operation:
        """Return the operation for one use of the layer."""
        return operations.MaxPool(self.kernel_size)  # type: ignore[arg-type]


class ReLU(Layer, nn.ReLU):
    """torch.nn.ReLU."""

    def __init__(self) -> None:
        nn.ReLU.__init__(self)

    def operation(self) -> operations.Operation:
        """Return the operation for one use of the layer."""
        return operations.Relu()


class Flatten(Layer, nn.Flatten):
    """torch.nn.Flatten."""

    def __init__(self) -> None:
        nn.Flatten.__init__(self)

    def operation(self) -> operations.Operation:
        """Return the operation for one use of the layer."""
        return operations.Flatten()


class Normalize(Layer):
    """Shift and scale the pixels, (N, C, H, W) in 0..1, by the `mean` and the `std` that they have."""

    def __init__(self, mean: float, std: float):
        super().__init__()
        self.mean, self.std = float(mean), float(std)

    def operation(self) -> operations.Operation:
        """Return the operation for one use of the layer."""
        return operations.Normalize(self.mean, self.std)

    def forward(self, values: Tensor) -> Tensor:
        """Return the pixels, shifted and scaled."""
        return super().forward(values) if on_kernels(values) else (values - self.mean) / self.std


class Dropout(Layer):
    """In training, set values, or whole channels, to 0 with `probability`, and scale the others up to make up for it.

    Draws from the generator that `draw_from` has given it, as PyTorch's own, which all threads share, cannot be exact.
    """

    def __init__(self, probability: float, channels: bool = False):
        super().__init__()
        self.probability, self.channels = probability, channels
        self.random: torch.Generator | None = None

    def operation(self) -> operations.Operation:
        """Return the operation for one use of the layer."""
        return operations.Scale(self.factors)

    def factors(self, shape: torch.Size) -> Tensor:
        """Draw what each value of values of this `shape` (N, C, …) is multiplied by."""
        if self.random is None:
            raise RuntimeError("dropout in training needs a generator: call draw_from")
        drawn = (*shape[:2], *[1] * (len(shape) - 2)) if self.channels else shape
        kept = torch.rand(drawn, generator=self.random) >= self.probability
        return (kept / (1 - self.probability)).expand(shape)

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` (N, C, …), in training with some of them 0."""
        if not self.training:
            return values
        if on_kernels(values):
            return super().forward(values)
        return values * self.factors(values.shape).to(values.device)


class Sequential(nn.Sequential):
    """torch.nn.Sequential. In training its layers are one operation for PyTorch, which then does less for each.

    That is, if all are layers of this module, in training, without hooks.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Return what the layers, one after the other, make of `values`."""
        if self.is_chain(values):
            return applied(self, values)
        return super().forward(values)  # type: ignore[no-untyped-call]

    def is_chain(self, values: Tensor) -> bool:
        """Return whether the kernels compute the layers of `values` as one chain: those of this module, each once."""
        ours = all(isinstance(layer, Layer) and type(layer).__module__ == __name__ for layer in self)
        plain = all(layer.training and not has_hooks(layer) for layer in self)
        once = sum(len(list(layer.parameters())) for layer in self) == len(list(self.parameters()))
        return on_kernels(values) and ours and plain and once


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float, count: int) -> Tensor:
    """Return the sum of the cross-entropy in nats of `logits` (N, classes) with `labels` (N), divided by `count`."""
    if on_kernels(logits):
        return autograd.CrossEntropy.apply(logits, labels, label_smoothing, count)
    loss = nn.functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=label_smoothing)
    return (loss / count).float()


def draw_from(net: nn.Module, random: torch.Generator) -> None:
    """Give `random` to all the layers of `net` that draw in training; they use it in the order of the layers."""
    for layer in net.modules():
        if isinstance(layer, Dropout):
            layer.random = random

"""What the layers compute on a CPU: operations on the kernels, each with its gradient.

Images are (N, C, H, W), channels last in memory. An operation is made for one use of a layer: `forward` is called once,
and `backward` at most once. Both run kernels through `run`, see calls.py, and nothing else that changes a number: so a
program of these calls does the same again.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stages.net.calls import Run

PANEL = 24  # images whose input gradients are computed together, so that they stay in the processor's cache
PIXELS = 64  # about as many are added to all sums of a weight gradient at a time, for the same reason
Gradients = tuple[Tensor | None, list[Tensor]]  # of the values, if it is needed, and of the parameters


class Operation:
    """One use of a layer."""

    def __init__(self, *parameters: Tensor | None):
        self.given = [parameter for parameter in parameters if parameter is not None]  # for PyTorch's autograd
        self.parameters = [parameter.detach() for parameter in self.given]  # for the kernels

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return what the layer makes of `values`."""
        raise NotImplementedError

    def backward(self, run: Run, gradient: Tensor, needed: bool) -> Gradients:
        """Return the gradients, given that of what `forward` returned; that of the values only if it is `needed`."""
        raise NotImplementedError


class Convolution(Operation):
    """A convolution (cross-correlation), as torch.nn.functional.conv2d."""

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: int, padding: int):
        super().__init__(weight, bias)
        self._weight, self._stride, self._padding = weight.detach(), stride, padding
        self._bias = torch.zeros(len(weight)) if bias is None else bias.detach()

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return (N, O, H', W') of (N, I, H, W), weight (O, I, KH, KW) and bias (O).

        y[n, o, v, u] = bias[o] + the chain over i, j, c of x[n, c, v S + i - P, u S + j - P] weight[o, c, i, j].
        """
        self._shape = values.shape
        x = self._x = self._padded(run, dense(values))
        size, channels, height, width = x.shape
        outputs, expected, kernel_height, kernel_width = self._weight.shape
        if channels != expected or height < kernel_height or width < kernel_width:
            least = f"{expected} channels of at least {kernel_height} x {kernel_width} pixels, with the padding"
            raise RuntimeError(f"got images {tuple(x.shape)}, expected {least}")
        self._geometry = (size, channels, height, width, outputs, kernel_height, kernel_width, self._stride)
        down, across = (height - kernel_height) // self._stride + 1, (width - kernel_width) // self._stride + 1
        y = empty_images(size, outputs, down, across)
        weight = arranged(run, self._weight.permute(2, 3, 1, 0))  # (KH, KW, I, O)
        multiply(run, x, weight, y, outputs, self._bias, forward_taps(*self._geometry))
        return y

    def backward(self, run: Run, gradient: Tensor, needed: bool) -> Gradients:
        """Return the gradients of images, weight and bias.

        That of weight[o, c, i, j] is the chain over n, v, u of x[n, c, …] dy[n, o, v, u]; that of x[n, c, y, x] the
        chain over i, j, o of dy[n, o, …] weight[o, c, i, j], of those that there are.
        """
        dy, dx = dense(gradient), None
        outputs, channels, kernel_height, kernel_width = self._weight.shape
        dw = torch.empty(kernel_height, kernel_width, channels, outputs)
        multiply(run, self._x, dy, dw, outputs, torch.zeros(outputs), weight_taps(*self._geometry))
        gradients = [arranged(run, dw.permute(3, 2, 0, 1))]
        if len(self.parameters) > 1:
            gradients.append(torch.empty(outputs))
            run("column_sums", dy, gradients[1], dy.numel() // outputs, outputs)
        if needed:
            dx = empty_images(*self._shape)
            weight = arranged(run, self._weight.permute(2, 3, 0, 1))  # (KH, KW, O, I)
            taps = input_taps(*self._geometry, self._padding)
            multiply(run, dy, weight, dx, channels, torch.zeros(channels), taps)
        return dx, gradients

    def _padded(self, run: Run, x: Tensor) -> Tensor:
        if self._padding == 0:
            return x
        size, channels, height, width = x.shape
        inner = (slice(self._padding, -self._padding),) * 2
        result = empty_images(size, channels, height + 2 * self._padding, width + 2 * self._padding).zero_()
        copy(run, x.permute(0, 2, 3, 1), result.permute(0, 2, 3, 1)[:, *inner])
        return result


class LinearMap(Operation):
    """A linear layer, as torch.nn.functional.linear.

    Each product takes its factors as they are in memory where it can; which is `a` and which is `b` changes no bit.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__(weight, bias)
        self._weight = weight.detach()
        self._bias = torch.zeros(len(weight)) if bias is None else bias.detach()
        self._flatten = Flatten()

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return (N, O) of (N, I), and images of one pixel (N, O, 1, 1) of (N, C, H, W).

        y[n, o] = bias[o] + the chain over i of x[n, i] weight[o, i].
        """
        x = self._x = self._flatten.forward(run, values)
        (rows, inputs), outputs = x.shape, len(self._weight)
        if inputs != self._weight.shape[1]:
            raise RuntimeError(f"got values {tuple(values.shape)}, expected {self._weight.shape[1]} for each image")
        if rows < outputs:  # then x is the smaller one to turn
            turned, y_turned = arranged(run, x.t()[None, None]), torch.empty(outputs, rows)
            copy(run, self._bias[None, None, :, None].expand(1, 1, outputs, rows), y_turned[None, None])
            multiply(run, self._weight, turned, y_turned, rows, None, row_taps(outputs, inputs, inputs, 1))
            y = arranged(run, y_turned.t()[None, None])
        else:
            turned, y = arranged(run, self._weight.t()[None, None]), torch.empty(rows, outputs)
            multiply(run, x, turned, y, outputs, self._bias, row_taps(rows, inputs, inputs, 1))
        return y.view(rows, outputs, *[1] * (values.dim() - 2))

    def backward(self, run: Run, gradient: Tensor, needed: bool) -> Gradients:
        """Return the gradients of values, weight and bias.

        That of weight[o, i] is the chain over n of x[n, i] dy[n, o], that of x[n, i] over o of dy[n, o] weight[o, i].
        """
        dy, dx = gradient.flatten(1).contiguous(), None
        (rows, outputs), inputs = dy.shape, self._x.shape[1]
        dw, zeros = torch.empty(outputs, inputs), torch.zeros(inputs)
        multiply(run, dy, self._x, dw, inputs, zeros, row_taps(outputs, 1, rows, outputs))
        gradients = [dw]
        if len(self.parameters) > 1:
            gradients.append(torch.empty(outputs))
            run("column_sums", dy, gradients[1], rows, outputs)
        if needed:
            of_rows = torch.empty(rows, inputs)
            multiply(run, dy, self._weight, of_rows, inputs, zeros, row_taps(rows, outputs, outputs, 1))
            dx, _ = self._flatten.backward(run, of_rows, needed)
        return dx, gradients


class Flatten(Operation):
    """All values of an image in one row, channel by channel, as torch.flatten."""

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return (N, C H W) of (N, C, H, W)."""
        self._shape = values.shape
        return (arranged(run, dense(values)) if values.dim() == 4 else values.contiguous()).flatten(1)

    def backward(self, run: Run, gradient: Tensor, needed: bool) -> Gradients:
        """Return the gradient, (N, C, H, W)."""
        dx = gradient.reshape(self._shape)
        if dx.dim() == 4:
            dx = arranged(run, dx.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # channels last
        return dx, []


class MaxPool(Operation):
    """The largest value of each square of `kernel` x `kernel` pixels."""

    def __init__(self, kernel: int):
        super().__init__()
        self._kernel = kernel

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return (N, C, H / kernel, W / kernel), rounded down, of (N, C, H, W)."""
        x = dense(values)
        size, channels, height, width = x.shape
        down, across = height // self._kernel, width // self._kernel
        if not down or not across:
            raise RuntimeError(f"got images {tuple(x.shape)}, expected at least {self._kernel} x {self._kernel} pixels")
        y, self._which = (empty_images(size, channels, down, across) for _ in range(2))
        self._sizes = (size, height, width, down, across, channels, self._kernel)
        run("max_pool", x, y, self._which, *self._sizes)
        return y

    def backward(self, run: Run, gradient: Tensor, needed: bool) -> Gradients:
        """Return the gradient of the values: all of a square's goes to its first largest value."""
        size, height, width, *_, channels, kernel = self._sizes
        dx = empty_images(size, channels, height, width)
        if height % kernel or width % kernel:
            dx.zero_()  # what no square covers; the kernel does not write there
        run("max_pool_gradient", dense(gradient), self._which, dx, *self._sizes)
        return dx, []


class BatchNorm(Operation):
    """Batch norm over all pixels of all images, in training: it moves the running mean and variance."""

    def __init__(
        self, weight: Tensor, bias: Tensor, state: tuple[Tensor, Tensor, Tensor], momentum: float, epsilon: float
    ):
        super().__init__(weight, bias)
        self._state, self._momentum, self._epsilon = state, momentum, epsilon

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return (N, C, H, W) with `bias` and `weight` as mean and deviation of each channel."""
        x = self._x = dense(values)
        y = torch.empty_like(x)
        channels = channels_of(x, self.parameters[0])
        if x.numel() == channels:
            raise ValueError(f"got {tuple(x.shape)}, expected more than one value for each channel in batch norm")
        self._mean, self._inverse = torch.empty(2, channels, dtype=torch.float64)
        self._sizes = (x.numel() // channels, channels)
        arrays = (x, y, *self.parameters, *self._state, self._mean, self._inverse)
        run("batch_norm", *arrays, self._momentum, self._epsilon, *self._sizes)
        return y

    def backward(self, run: Run, gradient: Tensor, needed: bool) -> Gradients:
        """Return the gradients of values, weight and bias."""
        dy = dense(gradient)
        dx, dweight, dbias = torch.empty_like(dy), *(torch.empty_like(values) for values in self.parameters)
        arrays = (self._x, dy, dx, self.parameters[0], self._mean, self._inverse, dweight, dbias)
        run("batch_norm_gradient", *arrays, *self._sizes)
        return dx, [dweight, dbias]


class BatchNormInference(Operation):
    """Batch norm by the running mean and variance. It has no gradient."""

    def __init__(self, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: float):
        super().__init__(weight, bias)
        self._running, self._epsilon = (mean, variance), epsilon

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return (N, C, H, W), normalized."""
        x = dense(values)
        y = torch.empty_like(x)
        channels = channels_of(x, self.parameters[0])
        rows = x.numel() // channels
        run("batch_norm_inference", x, y, *self.parameters, *self._running, self._epsilon, rows, channels)
        return y

    def backward(self, run: Run, gradient: Tensor, needed: bool) -> Gradients:
        """Raise NotImplementedError."""
        raise NotImplementedError("batch norm in evaluation mode has no gradient on a CPU; call train() on it")


class Relu(Operation):
    """max(0, x)."""

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return `values`, of any shape, with 0 for what is negative."""
        x = self._x = dense(values)
        y = torch.empty_like(x)
        run("relu", x, y, x.numel())
        return y

    def backward(self, run: Run, gradient: Tensor, needed: bool) -> Gradients:
        """Return the gradient where the value is above 0."""
        dy = dense(gradient)
        dx = torch.empty_like(dy)
        run("relu_gradient", self._x, dy, dx, dy.numel())
        return dx, []


class Normalize(Operation):
    """A shift and a scale by two numbers."""

    def __init__(self, mean: float, std: float):
        super().__init__()
        self._mean, self._std = mean, std

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return (values - mean) / std."""
        return self._scaled(run, values, self._mean)

    def backward(self, run: Run, gradient: Tensor, needed: bool) -> Gradients:
        """Return the gradient of the values."""
        return self._scaled(run, gradient, 0.0), []

    def _scaled(self, run: Run, values: Tensor, mean: float) -> Tensor:
        x = dense(values)
        y = torch.empty_like(x)
        run("normalize", x, y, x.numel(), mean, self._std)
        return y


class Scale(Operation):
    """A product with factors that `draw` gives, as many as there are values."""

    def __init__(self, draw: Any):
        super().__init__()
        self._draw = draw

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return the product."""
        x = dense(values)
        y, self._factors = torch.empty_like(x), torch.empty_like(x)
        run.python(lambda: self._factors.copy_(self._draw(x.shape)))
        run("scale", x, self._factors, y, x.numel())
        return y

    def backward(self, run: Run, gradient: Tensor, needed: bool) -> Gradients:
        """Return the gradient of the values."""
        dy = dense(gradient)
        dx = torch.empty_like(dy)
        run("scale", dy, self._factors, dx, dy.numel())
        return dx, []


def cross_entropy(run: Run, logits: Tensor, labels: Tensor, smoothing: float, count: int) -> tuple[Tensor, Tensor]:
    """Return the sum of the cross-entropy of `logits` (N, classes) with `labels` (N) over `count`, and its gradient."""
    logits, labels = dense(logits), labels.contiguous()
    if logits.dim() != 2 or labels.shape != logits.shape[:1]:
        raise RuntimeError(
            f"got logits {tuple(logits.shape)} and labels {tuple(labels.shape)}, expected (N, C) and (N)"
        )
    numbers = labels.numpy()  # which the guard does not see
    if ((numbers < 0) | (numbers >= logits.shape[1])).any():
        raise IndexError(f"got labels from {numbers.min()} to {numbers.max()}, expected 0 to {logits.shape[1] - 1}")
    loss, gradient = torch.empty((), dtype=torch.float64), torch.empty_like(logits)
    run("cross_entropy", logits, labels, loss, gradient, *logits.shape, smoothing, 1 / count)
    return loss, gradient


class Taps(NamedTuple):
    """The tables of a product, see kernels/product.py."""

    row: Tensor
    panel: int
    fresh: int
    first: Tensor
    place: Tensor
    a_tap: Tensor
    b_tap: Tensor
    inner: int
    step: int


def multiply(run: Run, a: Tensor, b: Tensor, c: Tensor, columns: int, start: Tensor | None, taps: Taps) -> None:
    """Compute `c`, whose rows have `columns` sums for each fresh segment, by the kernel `product`.

    The chains start from what `c` has if there is no `start`.
    """
    rows, segments = (taps.row, len(taps.row), taps.panel), (len(taps.place), taps.first, taps.place)
    into = (c, taps.fresh * columns, columns, c if start is None else start, 0 if start is None else taps.fresh)
    run("product", a, *rows, b, *into, *segments, taps.a_tap, taps.b_tap, taps.inner, taps.step)


@lru_cache
def forward_taps(n: int, i: int, h: int, w: int, o: int, kh: int, kw: int, s: int) -> Taps:
    """Return the tables of a convolution: a row for each pixel of what comes out, a tap for each row of the kernel."""
    down, across = (h - kh) // s + 1, (w - kw) // s + 1
    row = offsets((n, h * w * i), (down, s * w * i), (across, s * i))
    return Taps(
        row=row, panel=len(row), fresh=1, first=integers(0, kh), place=integers(0),
        a_tap=offsets((kh, w * i)), b_tap=offsets((kh, kw * i * o)), inner=kw * i, step=1,
    )  # fmt: skip


@lru_cache
def weight_taps(n: int, i: int, h: int, w: int, o: int, kh: int, kw: int, s: int) -> Taps:
    """Return the tables of its weight gradient: a row for each weight of a channel, a tap for each row of pixels."""
    down, across = (h - kh) // s + 1, (w - kw) // s + 1
    row = offsets((kh, w * i), (kw, i), (i, 1))
    taps = max(1, PIXELS // across)
    first = integers(*range(0, n * down, taps), n * down)
    return Taps(
        row=row, panel=len(row), fresh=1, first=first, place=torch.zeros_like(first[1:]),
        a_tap=offsets((n, h * w * i), (down, s * w * i)), b_tap=offsets((n * down, across * o)),
        inner=across, step=s * i,
    )  # fmt: skip


@lru_cache
def input_taps(n: int, i: int, h: int, w: int, o: int, kh: int, kw: int, s: int, p: int) -> Taps:
    """Return the tables of its input gradient: a row for each image, and for each pixel the taps that reach it."""
    down, across = (h - kh) // s + 1, (w - kw) // s + 1
    first, place, a_tap, b_tap = [0], list[int](), list[int](), list[int]()
    for y in range(p, h - p):
        for x in range(p, w - p):
            for ky in range(kh):
                for kx in range(kw):
                    (v, left_y), (u, left_x) = divmod(y - ky, s), divmod(x - kx, s)
                    if left_y == left_x == 0 and 0 <= v < down and 0 <= u < across:
                        a_tap.append((v * across + u) * o)
                        b_tap.append((ky * kw + kx) * o * i)
            first.append(len(a_tap))
            place.append(len(place) * i)
    return Taps(
        row=offsets((n, down * across * o)), panel=PANEL, fresh=len(place),
        first=integers(*first), place=integers(*place), a_tap=integers(*a_tap), b_tap=integers(*b_tap), inner=o, step=1,
    )  # fmt: skip


@lru_cache
def row_taps(rows: int, row: int, count: int, step: int) -> Taps:
    """Return the tables of a product of two matrices: a's rows are `row` apart, their `count` numbers `step` apart."""
    zero = integers(0)
    return Taps(
        row=offsets((rows, row)), panel=rows, fresh=1, first=integers(0, 1), place=zero,
        a_tap=zero, b_tap=zero, inner=count, step=step,
    )  # fmt: skip


def offsets(*axes: tuple[int, int]) -> Tensor:
    """Return the offsets of all places of an array, row by row, from the `(size, stride)` of each of its axes."""
    total = torch.zeros((), dtype=torch.int64)
    for size, stride in axes:
        total = total[..., None] + torch.arange(size) * stride
    return total.flatten().contiguous()


def integers(*values: int) -> Tensor:
    """Return them as a tensor of 64-bit integers."""
    return torch.tensor(values, dtype=torch.int64)


def empty_images(n: int, c: int, h: int, w: int) -> Tensor:
    """Return images (n, c, h, w), channels last, with nothing written to them yet."""
    return torch.empty((n, c, h, w), memory_format=torch.channels_last)


def dense(values: Tensor) -> Tensor:
    """Return the same values without gaps in memory, images (N, C, H, W) channels last."""
    last = torch.channels_last if values.dim() == 4 else torch.contiguous_format
    return values.detach().contiguous(memory_format=last)


def channels_of(images: Tensor, weight: Tensor) -> int:
    """Return how many channels `images` has. Raises RuntimeError unless there is a weight for each."""
    if images.dim() != 4 or images.shape[1] != len(weight):
        raise RuntimeError(f"got images {tuple(images.shape)}, expected {len(weight)} channels")
    return len(weight)


def arranged(run: Run, source: Tensor) -> Tensor:
    """Return `source`, of four axes, or a copy of it, without gaps and its last axis the last in memory."""
    if source.is_contiguous():
        return source
    result = torch.empty(source.shape)
    copy(run, source, result)
    return result


def copy(run: Run, source: Tensor, target: Tensor) -> None:
    """Copy `source` to `target`, both of one shape of four axes."""
    run("copy", source, target, *source.shape, *source.stride(), *target.stride())

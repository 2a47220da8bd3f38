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

PANEL = 8  # images whose input gradients are computed together, so that they stay in the processor's cache
PIXELS = 256  # of the images whose part of a weight gradient is added together, about, for the same reason
Gradients = tuple[Tensor | None, list[Tensor]]  # of the values, if it is needed, and of the parameters


class Operation:
    """One use of a layer."""

    def __init__(self, *parameters: Tensor | None):
        self.parameters = [parameter.detach() for parameter in parameters if parameter is not None]

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return what the layer makes of `values`."""
        raise NotImplementedError

    def backward(self, run: Run, gradient: Tensor, needed: bool) -> Gradients:
        """Return the gradients, for the one of what `forward` returned. That of the values may not be `needed`."""
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
        y = images(size, outputs, down, across)
        weight = copied(run, self._weight.permute(2, 3, 1, 0))  # (KH, KW, I, O)
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
        multiply(run, self._x, dy, dw, outputs, torch.zeros(outputs), weight_taps(*self._geometry), keep=True)
        gradients = [copied(run, dw.permute(3, 2, 0, 1))]
        if len(self.parameters) > 1:
            dbias = torch.empty(outputs)
            run("column_sums", dy, dbias, dy.numel() // outputs, outputs)
            gradients.append(dbias)
        if needed:
            dx = images(*self._shape)
            weight = copied(run, self._weight.permute(2, 3, 0, 1))  # (KH, KW, O, I)
            taps = input_taps(*self._geometry, self._padding)
            multiply(run, dy, weight, dx, channels, torch.zeros(channels), taps)
        return dx, gradients

    def _padded(self, run: Run, x: Tensor) -> Tensor:
        if self._padding == 0:
            return x
        size, channels, height, width = x.shape
        inner = (slice(self._padding, -self._padding),) * 2
        result = images(size, channels, height + 2 * self._padding, width + 2 * self._padding).zero_()
        copy(run, x.permute(0, 2, 3, 1), result.permute(0, 2, 3, 1)[:, *inner])
        return result


class LinearMap(Operation):
    """A linear layer, as torch.nn.functional.linear: a convolution of one pixel.

    y[n, o] = bias[o] + the chain over c of x[n, c] weight[o, c].
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__(weight, bias)
        self._convolution = Convolution(weight[:, :, None, None], bias, stride=1, padding=0)
        self._flatten = Flatten()

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return (N, O) of (N, I), and images of one pixel (N, O, 1, 1) of (N, C, H, W)."""
        rows = self._flatten.forward(run, values)
        y = self._convolution.forward(run, as_pixels(rows))
        return as_rows(y).view(len(values), -1, *[1] * (values.dim() - 2))

    def backward(self, run: Run, gradient: Tensor, needed: bool) -> Gradients:
        """Return the gradients of values, weight and bias."""
        pixels = as_pixels(gradient.flatten(1).contiguous())
        dx, (dw, *dbias) = self._convolution.backward(run, pixels, needed)
        if dx is not None:
            dx, _ = self._flatten.backward(run, as_rows(dx), needed)
        return dx, [dw[:, :, 0, 0], *dbias]


class Flatten(Operation):
    """All values of an image in one row, channel by channel, as torch.flatten."""

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return (N, C H W) of (N, C, H, W)."""
        self._shape = values.shape
        return (copied(run, dense(values)) if values.dim() == 4 else values.contiguous()).flatten(1)

    def backward(self, run: Run, gradient: Tensor, needed: bool) -> Gradients:
        """Return the gradient, (N, C, H, W)."""
        dx = gradient.reshape(self._shape)
        if dx.dim() == 4:
            of_rows, dx = dx, images(*self._shape)
            copy(run, of_rows.permute(0, 2, 3, 1), dx.permute(0, 2, 3, 1))
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
        y, self._which = images(size, channels, down, across), images(size, channels, down, across)
        self._sizes = (size, height, width, down, across, channels, self._kernel)
        run("max_pool", x, y, self._which, *self._sizes)
        return y

    def backward(self, run: Run, gradient: Tensor, needed: bool) -> Gradients:
        """Return the gradient of the values: all of a square's goes to its first largest value."""
        size, height, width, *_, channels, kernel = self._sizes
        dx = images(size, channels, height, width)
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


class Relu(Operation):
    """max(0, x)."""

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return `values`, of any shape, with 0 for what is negative."""
        x = dense(values)
        self._y = torch.empty_like(x)
        run("relu", x, self._y, x.numel())
        return self._y

    def backward(self, run: Run, gradient: Tensor, needed: bool) -> Gradients:
        """Return the gradient where the value is above 0."""
        dy = dense(gradient)
        dx = torch.empty_like(dy)
        run("relu_gradient", self._y, dy, dx, dy.numel())
        return dx, []


class Normalize(Operation):
    """A shift and a scale by two numbers, for what needs no gradient."""

    def __init__(self, mean: float, std: float):
        super().__init__()
        self._mean, self._std = mean, std

    def forward(self, run: Run, values: Tensor) -> Tensor:
        """Return (values - mean) / std."""
        x = dense(values)
        y = torch.empty_like(x)
        run("normalize", x, y, x.numel(), self._mean, self._std)
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


class Taps(NamedTuple):
    """The tables of a product, see kernels/product.py."""

    row: Tensor
    panel: int
    stride: int
    first: Tensor
    place: Tensor
    a_tap: Tensor
    b_tap: Tensor
    inner: int
    step: int


def multiply(
    run: Run, a: Tensor, b: Tensor, c: Tensor, columns: int, start: Tensor, taps: Taps, keep: bool = False
) -> None:
    """Compute `c` by the kernel `product`."""
    rows, segments = (taps.row, len(taps.row), taps.panel), (len(taps.place), taps.first, taps.place)
    into = (c, taps.stride, columns, start, int(keep))
    run("product", a, *rows, b, *into, *segments, taps.a_tap, taps.b_tap, taps.inner, taps.step)


@lru_cache
def forward_taps(n: int, i: int, h: int, w: int, o: int, kh: int, kw: int, s: int) -> Taps:
    """Return the tables of a convolution: a row for each pixel of what comes out, a tap for each row of the kernel."""
    down, across = (h - kh) // s + 1, (w - kw) // s + 1
    row = offsets((n, h * w * i), (down, s * w * i), (across, s * i))
    return Taps(
        row=row, panel=len(row), stride=o, first=integers(0, kh), place=integers(0),
        a_tap=offsets((kh, w * i)), b_tap=offsets((kh, kw * i * o)), inner=kw * i, step=1,
    )  # fmt: skip


@lru_cache
def weight_taps(n: int, i: int, h: int, w: int, o: int, kh: int, kw: int, s: int) -> Taps:
    """Return the tables of its weight gradient: a row for each weight of a channel, a tap for each row of pixels."""
    down, across = (h - kh) // s + 1, (w - kw) // s + 1
    row = offsets((kh, w * i), (kw, i), (i, 1))
    taps = max(1, PIXELS // (down * across)) * down
    first = integers(*range(0, n * down, taps), n * down)
    return Taps(
        row=row, panel=len(row), stride=o, first=first, place=torch.zeros_like(first[1:]),
        a_tap=offsets((n, h * w * i), (down, s * w * i)), b_tap=offsets((n * down, across * o)),
        inner=across, step=s * i,
    )  # fmt: skip


@lru_cache
def input_taps(n: int, i: int, h: int, w: int, o: int, kh: int, kw: int, s: int, p: int) -> Taps:
    """Return the tables of its input gradient: a row for each image, and for each pixel the taps that reach it."""
    if kh == kw == s == 1 and p == 0 and h * w > 1:
        return input_taps(n * h * w, i, 1, 1, o, kh, kw, s, p)  # pixels that have nothing to do with each other
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
        row=offsets((n, down * across * o)), panel=PANEL, stride=len(place) * i, first=integers(*first),
        place=integers(*place), a_tap=integers(*a_tap), b_tap=integers(*b_tap), inner=o, step=1,
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


def images(n: int, c: int, h: int, w: int) -> Tensor:
    """Return images (n, c, h, w), channels last, with nothing written to them yet."""
    return torch.empty((n, c, h, w), memory_format=torch.channels_last)


def dense(values: Tensor) -> Tensor:
    """Return the same values without gaps in memory, images (N, C, H, W) channels last."""
    if values.dtype != torch.float32:
        raise TypeError(f"got values of {values.dtype}, expected float32")
    last = torch.channels_last if values.dim() == 4 else torch.contiguous_format
    return values.detach().contiguous(memory_format=last)


def channels_of(images: Tensor, weight: Tensor) -> int:
    """Return how many channels `images` has. Raises RuntimeError unless there is a weight for each."""
    if images.dim() != 4 or images.shape[1] != len(weight):
        raise RuntimeError(f"got images {tuple(images.shape)}, expected {len(weight)} channels")
    return len(weight)


def copied(run: Run, source: Tensor) -> Tensor:
    """Return a copy of `source`, of four axes, its last axis the last in memory."""
    result = torch.empty(source.shape)
    copy(run, source, result)
    return result


def copy(run: Run, source: Tensor, target: Tensor) -> None:
    """Copy `source` to `target`, both of one shape of four axes."""
    run("copy", source, target, *source.shape, *source.stride(), *target.stride())


def as_pixels(rows: Tensor) -> Tensor:
    """Return rows (N, C), without gaps, as one image (1, C, 1, N), each row a pixel."""
    return rows[None, None].permute(0, 3, 1, 2)


def as_rows(pixels: Tensor) -> Tensor:
    """Return one image (1, C, 1, N) as rows (N, C)."""
    return pixels[0, :, 0].t()

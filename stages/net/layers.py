"""Nets from lists of layers: the part of PyTorch whose bits do not depend on who made the CPU.

A recipe writes its net down layer by layer, each as a name and values: `conv 24 5 bias=false`. All arithmetic is
convolution, batch norm, pooling and what works element by element. A `linear` layer is a convolution, too: a matrix
product would come from a library that chooses its code by the maker of the CPU.
"""

import inspect
import json
import math
from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, validate_call
from torch import Tensor, nn

Shape = tuple[int, ...]
Probability = Annotated[float, Field(ge=0, lt=1)]


class Normalize(nn.Module):
    """Shift and scale the pixels, (B, C, H, W) in 0..1, by the `mean` and the `std` that they have."""

    def __init__(self, mean: float, std: float):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the pixels, shifted and scaled."""
        return (pixels - self.mean) / self.std


class Dropout(nn.Module):
    """In training, set values, or whole channels, to 0 with `probability`, and scale the others up to make up for it.

    Draws from the generator that `draw_from` has given it, as PyTorch's own, which all threads share, cannot be exact.
    """

    def __init__(self, probability: float, channels: bool):
        super().__init__()
        self.probability, self.channels = probability, channels
        self.random: torch.Generator | None = None

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` (B, C, H, W), in training with some of them 0."""
        if not self.training:
            return values
        if self.random is None:
            raise RuntimeError("dropout in training needs a generator: call draw_from")
        shape = (*values.shape[:2], 1, 1) if self.channels else values.shape
        kept = torch.rand(shape, generator=self.random) >= self.probability
        return values * (kept.to(values.device) / (1 - self.probability))


class Linear(nn.Conv2d):
    """A linear layer as a 1x1 convolution over one pixel, whose channels are all values of an image.

    The same convolution over the values where they are, its kernel as large as they, takes up to four times as long.
    """

    def __init__(self, inputs: int, features: int, bias: bool):
        super().__init__(inputs, features, kernel_size=1, bias=bias)

    def forward(self, values: Tensor) -> Tensor:
        """Return (B, features, 1, 1) of `values` (B, C, H, W)."""
        return super().forward(values.flatten(1)[:, :, None, None])


def draw_from(net: nn.Module, random: torch.Generator) -> None:
    """Give `random` to all the layers of `net` that draw in training; they use it in the order of the layers."""
    for layer in net.modules():
        if isinstance(layer, Dropout):
            layer.random = random


# A layer for a recipe is a function here: from the shape (channels, height, width) that it is given, and the values
# behind its name, to the module. The values are checked by their types.


def normalize(shape: Shape, /, mean: float, std: PositiveFloat) -> nn.Module:
    return Normalize(mean, std)


def conv(
    shape: Shape,
    /,
    channels: PositiveInt,
    kernel: PositiveInt,
    stride: PositiveInt = 1,
    padding: NonNegativeInt = 0,
    bias: bool = True,
) -> nn.Module:
    return nn.Conv2d(shape[0], channels, kernel, stride, padding, bias=bias)


def linear(shape: Shape, /, features: PositiveInt, bias: bool = True) -> nn.Module:
    return Linear(math.prod(shape), features, bias)


def batch_norm(shape: Shape, /) -> nn.Module:
    return nn.BatchNorm2d(shape[0])


def relu(shape: Shape, /) -> nn.Module:
    return nn.ReLU(inplace=True)


def max_pool(shape: Shape, /, kernel: PositiveInt = 2) -> nn.Module:
    return nn.MaxPool2d(kernel)


def dropout(shape: Shape, /, probability: Probability) -> nn.Module:
    return Dropout(probability, channels=False)


def dropout_2d(shape: Shape, /, probability: Probability) -> nn.Module:
    return Dropout(probability, channels=True)


LAYERS: dict[str, Callable[..., nn.Module]] = {
    layer.__name__: validate_call(config=ConfigDict(strict=True, allow_inf_nan=False))(layer)
    for layer in (normalize, conv, linear, batch_norm, relu, max_pool, dropout, dropout_2d)
}


def measured(description: list[str], mean: float, std: float) -> list[str]:
    """Return the layers in `description`, the `mean` and the `std` of the pixels written behind a bare `normalize`."""
    return [f"normalize {mean} {std}" if line == "normalize" else line for line in description]


def build(description: list[str], shape: Shape, classes: int) -> nn.Sequential:
    """Return the net of the layers in `description`: pixels (B, *shape) to logits (B, classes). Weights are not drawn.

    `linear classes` has as many features as there are `classes`. The layers are called `1_conv`, `2_relu`, … after
    their places in the list. Raises ValueError, which says what is expected, names the layer and why it cannot be.
    """
    net = nn.Sequential()
    for place, line in enumerate(description, start=1):
        name, *values = line.split() or [""]
        if name not in LAYERS:
            raise ValueError(f"one of the layers {', '.join(LAYERS)}; layer {place} is `{line}`")
        make = LAYERS[name]
        try:
            values = [str(classes) if value == "classes" else value for value in values]
            positional = [_value(value) for value in values if "=" not in value]
            pairs = [value.partition("=") for value in values if "=" in value]
            named = {key: _value(value) for key, _, value in pairs}
            if len(named) < len(pairs):
                raise ValueError("a name stands twice")
            layer = make(tuple(shape), *positional, **named)
            # One image says what shape comes out, and whether the layer fits at all. PyTorch's meta device would need
            # no arithmetic, but two seconds for its first import.
            with torch.inference_mode():
                shape = layer.eval()(torch.zeros(1, *shape)).shape[1:]
            layer.train()
        except (TypeError, ValueError, RuntimeError) as error:
            reason = _reason(error, make) if isinstance(error, ValidationError) else str(error).splitlines()[0]
            raise ValueError(f"`{_usage(make)}`; layer {place} is `{line}` ({reason})") from None
        net.add_module(f"{place}_{name}", layer)
    if shape != (classes, 1, 1):
        raise ValueError(
            f"`linear classes` as the last layer, for {classes} classes; what comes out has the shape {tuple(shape)}"
        )
    net.add_module("logits", nn.Flatten())
    return net


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # which is of no layer's types: the check by them says so


def _usage(make: Callable[..., nn.Module]) -> str:
    values = [
        value.name.upper() if value.default is value.empty else f"[{value.name}={json.dumps(value.default)}]"
        for value in list(inspect.signature(make).parameters.values())[1:]
    ]
    return " ".join([make.__name__, *values])


def _reason(error: ValidationError, make: Callable[..., nn.Module]) -> str:
    """Return which values for the layer that `make` makes are wrong, and why, in pydantic's words."""
    names = dict(enumerate(inspect.signature(make).parameters))
    problems = [(problem["loc"][0], problem) for problem in error.errors()]
    return "; ".join(
        f"{names.get(place, problem['input']) if isinstance(place, int) else place}: {problem['msg'].lower()}"
        for place, problem in problems
    )


def draw_weights(net: nn.Module, random: torch.Generator) -> None:
    """Draw the weights and biases of each convolution from U(-b, b), b = 1 / sqrt(inputs of one output).

    That is PyTorch's own default (He et al. 2015 with a = sqrt(5)), whose `uniform_` however gives other bits on other
    CPUs; `rand`, a product and a difference give the same on all.
    """
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                bound = 1 / math.sqrt(layer.weight[0].numel())
                for values in layer.parameters(recurse=False):
                    values.copy_(torch.rand(values.shape, generator=random).mul_(2 * bound).sub_(bound))

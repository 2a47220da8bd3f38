"""Nets as recipes describe them: a list of layers such as `conv 16 5 bias=false`, or a class in the folder nets/."""

import importlib
import inspect
import json
import math
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, validate_call
from torch import nn

from stages.net import layers

PROJECT = Path(__file__).resolve().parent.parent.parent
NO_NETS = {"stages", "site-packages"}  # folders
Shape = tuple[int, ...]
Probability = Annotated[float, Field(ge=0, lt=1)]


# A layer for a recipe is a function here: from the shape (channels, height, width) that it is given, and the values
# behind its name, to the module. The values are checked by their types.


def normalize(shape: Shape, /, mean: float, std: PositiveFloat) -> nn.Module:
    return layers.Normalize(mean, std)


def conv(
    shape: Shape,
    /,
    channels: PositiveInt,
    kernel: PositiveInt,
    stride: PositiveInt = 1,
    padding: NonNegativeInt = 0,
    bias: bool = True,
) -> nn.Module:
    return layers.Conv2d(shape[0], channels, kernel, stride, padding, bias)


def linear(shape: Shape, /, features: PositiveInt, bias: bool = True) -> nn.Module:
    return layers.Linear(math.prod(shape), features, bias)


def batch_norm(shape: Shape, /) -> nn.Module:
    return layers.BatchNorm2d(shape[0])


def relu(shape: Shape, /) -> nn.Module:
    return layers.ReLU()


def max_pool(shape: Shape, /, kernel: PositiveInt = 2) -> nn.Module:
    return layers.MaxPool2d(kernel)


def dropout(shape: Shape, /, probability: Probability) -> nn.Module:
    return layers.Dropout(probability, channels=False)


def dropout_2d(shape: Shape, /, probability: Probability) -> nn.Module:
    return layers.Dropout(probability, channels=True)


LAYERS: dict[str, Callable[..., nn.Module]] = {
    layer.__name__: validate_call(config=ConfigDict(strict=True, allow_inf_nan=False))(layer)
    for layer in (normalize, conv, linear, batch_norm, relu, max_pool, dropout, dropout_2d)
}


Description = list[str] | str
Options = dict[str, Any]
CLASS = re.compile(r"(nets(?:\.\w+)+):(\w+)")


def build(model: Description, options: Options, shape: Shape, classes: int) -> nn.Module:
    """Return the net of `model`, a list of layers or a class with its keyword `options`. Weights are not drawn.

    It makes logits (N, classes) of pixels (N, *shape). Raises ValueError, which says what is expected.
    """
    if options and not isinstance(model, str):
        raise ValueError("no `options` beside a list of layers")
    net = of_class(model, options, shape, classes) if isinstance(model, str) else of_lines(model, shape, classes)
    if not list(net.parameters()):
        raise ValueError(f"a net with parameters; {model} has none")
    return net


def of_class(model: str, options: Options, shape: Shape, classes: int) -> nn.Module:
    """Return the net of the class `model`. Raises ValueError, which says what is expected."""
    if not (named := CLASS.fullmatch(model)):
        raise ValueError(f"a list of layers, or `nets.FILE:CLASS`; got `{model}`")
    try:
        made = getattr(importlib.import_module(named[1]), named[2])(shape=shape, classes=classes, **options)
        with torch.no_grad():
            logits = made.eval()(torch.zeros(1, *shape))
    except Exception as error:
        what = f"a class that can be made, with its keywords as `options`, and computes images (1, {str(shape)[1:]}"
        raise ValueError(f"{what}; `{model}`{line_of(error)}: {type(error).__name__}: {error}") from None
    if not isinstance(logits, torch.Tensor):
        raise ValueError(f"logits, a tensor; {model} makes {type(logits).__name__}")
    if logits.dtype != torch.float32:
        raise ValueError(f"logits of float32; {model} makes {logits.dtype}")
    if wrong := [name for name, values in made.named_parameters() if values.dtype != torch.float32]:
        raise ValueError(f"parameters of float32; {model} has others: {', '.join(wrong)}")
    if logits.shape != (1, classes):
        raise ValueError(f"logits (N, {classes}) of pixels (N, *{shape}); {model} makes {tuple(logits.shape)}")
    return made.train()


def line_of(error: Exception | None = None) -> str:
    """Return the line of a net in the project that runs now, or that raised `error`, in brackets; else nothing."""
    for frame in reversed(traceback.extract_tb(error.__traceback__) if error else traceback.extract_stack()):
        path = Path(frame.filename)
        if PROJECT in path.parents and not NO_NETS.intersection(path.relative_to(PROJECT).parts):
            return f" ({path.relative_to(PROJECT)}, line {frame.lineno})"
    return ""


def of_lines(lines: list[str], shape: Shape, classes: int) -> layers.Sequential:
    """Return the net of the layers in `lines`.

    `linear classes` has as many features as there are `classes`. The layers are called `1_conv`, `2_relu`, … after
    their places in the list. Raises ValueError, which says what is expected, names the layer and why it cannot be.
    """
    net = layers.Sequential()
    for place, line in enumerate(lines, start=1):
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
            # One image says what shape comes out, and whether the layer fits at all.
            with torch.no_grad():
                shape = layer.eval()(torch.zeros(1, *shape)).shape[1:]
            layer.train()
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            reason = _reason(error, make) if isinstance(error, ValidationError) else str(error).splitlines()[0]
            raise ValueError(f"`{_usage(make)}`; layer {place} is `{line}` ({reason})") from None
        net.add_module(f"{place}_{name}", layer)
    if shape != (classes, 1, 1):
        raise ValueError(
            f"`linear classes` as the last layer, for {classes} classes; what comes out has the shape {tuple(shape)}"
        )
    net.add_module("logits", layers.Flatten())
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
    """Draw weights and biases of convolutions and linear layers from U(-b, b), b = 1 / sqrt(inputs of one output).

    That is PyTorch's own default (He et al. 2015 with a = sqrt(5)), whose `uniform_` however gives other bits on other
    CPUs; `rand`, a product and a difference give the same on all.
    """
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                bound = 1 / math.sqrt(layer.weight[0].numel())
                for values in layer.parameters(recurse=False):
                    values.copy_(torch.rand(values.shape, generator=random).mul_(2 * bound).sub_(bound))

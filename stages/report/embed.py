"""What the page needs to run by itself: the net, in half the bytes, and the images of the test set."""

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from stages.net import inference
from stages.net.workers import Workers, available
from stages.report import rans
from stages.report.rans import embedded

LARGEST = 2**15 - 1
MOST_VALUES = 8_000_000  # in the page: all of MNIST's test set, and some thousand images of larger ones
MANY_PARAMETERS = 130_000  # so many leave less room in the page: two nets of `fast`, or one of `accurate`
MOVED = 0.01  # an image is stored exactly if the few greys move one of its probabilities by more than this
A_LANE = 4  # images
ATTRIBUTES = ("mean", "std", "out_channels", "kernel_size", "stride", "padding")


class Net(NamedTuple):
    """A net as the page has it."""

    net: nn.Module
    probabilities: np.ndarray  # (n, classes) of the test images


def net(trained: nn.Module, images: torch.Tensor, predicted: np.ndarray) -> tuple[dict[str, Any], Net]:
    """Return `trained` for the page, and as the page computes with it.

    The weights are whole numbers of 16 bits, times a unit of each output channel: as small as float16, and ten times
    closer. They are float32 if one of the `images` (n, H, W[, 3]; bytes) would not keep its class `predicted` (n).
    """
    rounded = copy.deepcopy(trained)
    with torch.no_grad():
        for layer in rounded.children():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.copy_(units(layer) * (layer.weight / units(layer)).round())
    sure = probabilities(rounded, images)
    exact = not np.array_equal(sure.argmax(1), predicted)
    shown = [
        {"name": name, "kind": name.partition("_")[2] or name} | described(layer, exact)
        for name, layer in trained.named_children()
    ]
    used = Net(trained, probabilities(trained, images)) if exact else Net(rounded, sure)
    return {"exact": exact, "layers": shown}, used


def units(layer: nn.Conv2d | nn.Linear) -> torch.Tensor:
    """Return the unit (out, 1, …) of the weights of each output channel of `layer`."""
    return (layer.weight.abs().flatten(1).amax(1).clamp(min=1e-30) / LARGEST).view(-1, *[1] * (layer.weight.dim() - 1))


def described(layer: nn.Module, exact: bool) -> dict[str, Any]:
    """Return the numbers of `layer` for the page, weights that are not `exact` in 16 bits."""
    found = {key: getattr(layer, key) for key in ATTRIBUTES if hasattr(layer, key)}
    shown = {key: value[0] if isinstance(value, tuple) else value for key, value in found.items()}
    with torch.no_grad():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if exact:
                shown["weights"] = embedded(layer.weight.numpy(), "<f4")
            else:
                shown["weights"] = embedded((layer.weight / units(layer)).round().numpy(), "<i2")
                shown["units"] = embedded(units(layer).numpy(), "<f4")
            bias = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias
            shown["bias"] = embedded(bias.numpy(), "<f4")
        elif isinstance(layer, nn.BatchNorm2d):
            state = {key: values.double() for key, values in layer.state_dict().items()}
            # NumPy's square root is exact on every CPU
            scale = state["weight"] / torch.from_numpy(np.sqrt((state["running_var"] + layer.eps).numpy()))
            shown["scale"] = embedded(scale.numpy(), "<f4")
            shown["shift"] = embedded((state["bias"] - state["running_mean"] * scale).numpy(), "<f4")
    return shown


def probabilities(net: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Return the probabilities (n, classes) that `net` gives to `images` (n, H, W[, 3]; bytes)."""
    with Workers(available()) as workers:
        return inference.probabilities(inference.predict(net, images, workers)).numpy()


def images(test: torch.Tensor, misclassified: np.ndarray, nets: list[Net]) -> dict[str, Any]:
    """Return the images of the `test` (n, H, W[, 3]; bytes) for the page: in few greys, and of some the rest.

    Exact are the `misclassified` (n; bool), and those for which one of the `nets` would give another class, or another
    probability. Of a large test set, the page has the misclassified images and as many others as MOST_VALUES allow.
    """
    parameters = sum(parameter.numel() for of in nets for parameter in of.net.parameters())
    greys = 16 if parameters < MANY_PARAMETERS else 8
    rows = np.sort(np.argsort(~misclassified, kind="stable")[: MOST_VALUES // test[0].numel()])
    planes = np.moveaxis(test.numpy()[rows].reshape(len(rows), *test.shape[1:3], -1), 3, 1)
    values = np.concatenate([planes, np.zeros((-len(rows) % A_LANE, *planes.shape[1:]), np.uint8)]).astype(np.int16)
    levels = (values * (greys - 1) + 127) // 255
    shown = levels * 255 // (greys - 1)
    seen = torch.from_numpy(np.moveaxis(shown[: len(rows)].astype(np.uint8), 1, 3)).reshape(-1, *test.shape[1:])
    exactly = misclassified[rows]
    for of in nets:
        found, before = probabilities(of.net, seen.contiguous()), of.probabilities[rows]
        exactly |= (np.abs(found - before).max(1) > MOVED) | (found.argmax(1) != before.argmax(1))
    exact = np.flatnonzero(exactly)
    rest = np.concatenate([exact, np.zeros(A_LANE - len(exact) % A_LANE, np.int64)])  # the first image fills a lane
    half = 255 // (greys - 1) // 2 + 1
    return {
        "rows": rows.tolist() if len(rows) < len(test) else None,
        "greys": greys,
        "images": rans.encode(lanes(levels), lanes(contexts(shown))),
        "exact": exact.tolist(),
        "rest": rans.encode(lanes((values - shown)[rest] + half), lanes(levels[rest])),
        "half": half,
        "aLane": A_LANE,
    }


def lanes(planes: np.ndarray) -> np.ndarray:
    """Return `planes` (n, C, H, W) as lanes of A_LANE images (lanes, steps)."""
    return planes.reshape(len(planes) // A_LANE, -1)


def contexts(shown: np.ndarray) -> np.ndarray:
    """Return what is known of each pixel of `shown` (n, C, H, W) from its neighbours at the left and above."""
    padded = np.pad(shown, ((0, 0), (0, 0), (1, 0), (1, 1)))
    grey, rough = (padded + 31) >> 5, (padded > 0).astype(padded.dtype) + (padded >= 200)
    return ((grey[..., 1:, :-2] * 9 + grey[..., :-1, 1:-1]) * 3 + rough[..., :-1, :-2]) * 3 + rough[..., :-1, 2:]

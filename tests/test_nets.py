"""Nets from lists of layers: shapes, counts of parameters, draws, and the library behind each convolution."""

import pytest
import torch
from torch import nn

from stages.common import exact, nets, settings
from stages.train import Recipe
from tests.conftest import PROJECT

TINY = ["normalize 0.5 0.5", "conv 4 5", "batch_norm", "relu", "max_pool", "linear 10"]


@pytest.fixture
def fast() -> Recipe:
    """The committed recipe."""
    return settings.load("recipes.fast", Recipe, PROJECT / "params.yaml")


def test_pixels_become_logits() -> None:
    """(B, 1, 28, 28) goes in, (B, 10) comes out."""
    assert nets.build(TINY)(torch.rand(3, 1, 28, 28)).shape == (3, 10)


def test_parameters_are_counted() -> None:
    """4 x 25 + 4 of the convolution, 2 x 4 of the batch norm, 10 x 4 x 12 x 12 + 10 of the linear layer."""
    assert sum(values.numel() for values in nets.build(TINY).parameters()) == 104 + 8 + 5770


def test_parameters_of_the_committed_recipe(fast: Recipe) -> None:
    """Without biases before a batch norm; with the last layer's ten."""
    expected = 24 * 25 + 2 * 24 + 64 * 24 * 9 + 2 * 64 + 96 * 64 * 9 + 2 * 96 + 10 * 96 * 9 + 10
    assert sum(values.numel() for values in nets.build(fast.model).parameters()) == expected


def test_a_linear_layer_is_pytorchs() -> None:
    """The convolution over the whole window computes what nn.Linear does with the same weights."""
    net = nets.build(["conv 3 5", "linear 10"])
    nets.draw_weights(net, torch.Generator().manual_seed(0))
    linear = nn.Linear(3 * 24 * 24, 10)
    linear.weight.data, linear.bias.data = net[1].weight.data.reshape(10, -1), net[1].bias.data
    pixels = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(net(pixels), linear(net[0](pixels).flatten(1)))


def test_the_draws_are_known() -> None:
    """Weights follow from the generator alone, lie within 1 / sqrt(inputs), and their digest is this on every CPU."""
    net = nets.build(TINY)
    nets.draw_weights(net, exact.generator(0, "weights"))
    assert 0.19 < net[1].weight.abs().max() <= 1 / 5
    assert net[1].weight.flatten()[:3].tolist() == [-0.11268031597137451, -0.05650047957897186, -0.07276317477226257]
    assert exact.digest(net.state_dict()) == "1c8c4c3123278152d9d329c382399487477b4c11f9803560354c5c7a408fc70b"


def test_every_convolution_runs_in_onednn(fast: Recipe) -> None:
    """At the size of a shard no layer falls to the matrix product that chooses its code by the CPU's maker."""
    used = []

    def check(layer: nn.Conv2d, inputs: tuple[torch.Tensor]) -> None:
        sizes = (layer.stride, layer.padding, layer.dilation, False, (0, 0), layer.groups)
        used.append(torch._C._select_conv_backend(inputs[0], layer.weight, layer.bias, *sizes).name)

    net = nets.build(fast.model)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(check)
    torch.set_num_threads(1)
    net(torch.rand(fast.batch_size // fast.shards, 1, 28, 28))
    assert used == ["Mkldnn"] * 4

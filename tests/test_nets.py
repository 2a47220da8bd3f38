"""Nets from lists of layers, and from classes: shapes, counts of parameters, draws."""

import io
import re
from pathlib import Path

import pytest
import torch

from stages.common import settings
from stages.common.errors import StageError
from stages.net import description, exact, layers, model
from stages.train.recipe import Recipe
from tests.conftest import PROJECT, Clone

TINY = ["normalize 0.5 0.5", "conv 4 5", "batch_norm", "relu", "max_pool", "linear 10"]


@pytest.fixture
def fast() -> Recipe:
    """The committed recipe."""
    return settings.load(Recipe, path=PROJECT / "recipes/fast.yaml")


def test_pixels_become_logits() -> None:
    """(B, 1, 28, 28) goes in, (B, 10) comes out."""
    assert description.build(TINY, {}, (1, 28, 28), 10)(torch.rand(3, 1, 28, 28)).shape == (3, 10)


def test_parameters_are_counted() -> None:
    """4 x 25 + 4 of the convolution, 2 x 4 of the batch norm, 10 x 4 x 12 x 12 + 10 of the linear layer."""
    assert sum(values.numel() for values in description.build(TINY, {}, (1, 28, 28), 10).parameters()) == 104 + 8 + 5770


def test_parameters_of_the_committed_recipe(fast: Recipe) -> None:
    """Without biases before a batch norm; with the last layer's ten."""
    expected = 16 * 25 + 2 * 16 + 40 * 16 * 25 + 2 * 40 + 128 * 40 * 9 + 2 * 128 + 10 * 128 * 4 + 10
    assert sum(values.numel() for values in description.build(fast.model, {}, (1, 28, 28), 10).parameters()) == expected


@pytest.mark.parametrize(
    ("recipe", "parameters"),
    [
        ("lenet5_linear", 61_706),
        ("convnet_4_8", 207_258),
        ("lenet5_relu", 61_610),
        ("cnn_10_20", 21_840),
        ("cnn_10_20_dropout", 21_840),
    ],
)
def test_parameters_of_known_systems(recipe: str, parameters: int) -> None:
    """As many as the tutorial's own net has."""
    chosen = settings.load(Recipe, path=PROJECT / f"recipes/{recipe}.yaml")
    assert (
        sum(values.numel() for values in description.build(chosen.model, chosen.options, (1, 28, 28), 10).parameters())
        == parameters
    )


def test_relu_may_stand_after_max_pool() -> None:
    """The recipes of tutorials that write it before have it there: the same bits, a quarter of the work."""
    pixels = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    results = []
    for pair in (["relu", "max_pool"], ["max_pool", "relu"]):
        net = description.build(["conv 6 5", *pair, "conv 16 5", *pair, "linear 10"], {}, (1, 28, 28), 10)
        description.draw_weights(net, exact.generator(0, "weights"))
        logits = net(pixels)
        logits.square().sum().backward()
        results.append([logits, *(parameter.grad for parameter in net.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(("layer", "whole"), [("dropout 0.5", False), ("dropout_2d 0.5", True)])
def test_dropout(layer: str, whole: bool) -> None:
    """In training about half of the values, or whole channels, are 0, the others doubled, as the generator says."""
    net = description.build(["conv 100 19", layer, "linear 10"], {}, (1, 28, 28), 10)
    net.train()
    values = torch.ones(4, 100, 10, 10)
    with pytest.raises(RuntimeError, match="needs a generator"):
        net[1](values)
    layers.draw_from(net, exact.generator(0, "dropout"))
    first = net[1](values)
    assert first.unique().tolist() == [0, 2]
    assert 0.9 < first.mean() < 1.1
    assert (first == first[:, :, :1, :1]).all() == whole
    assert not torch.equal(net[1](values), first)
    layers.draw_from(net, exact.generator(0, "dropout"))
    assert torch.equal(net[1](values), first)
    assert torch.equal(net.eval()[1](values), values)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("conv 16", "kernel: missing required argument"),
        ("conv", "channels: missing required argument; kernel: missing required argument"),
        ("conv 16 5 1 0 true 7", "7: unexpected positional argument"),
        ("conv 16 5 strid=2", "strid: unexpected keyword argument"),
        ("conv 16 5 shape=2", "shape: unexpected keyword argument"),
        ("conv 16 5 kernel=3", "kernel: got multiple values for argument"),
        ("conv 16 5 stride=1 stride=2", "a name stands twice"),
        ("conv 16 5 stride", "stride: input should be a valid integer"),
        ("conv 16 5 stride=", "stride: input should be a valid integer"),
        ("conv 16.0 5", "channels: input should be a valid integer"),
        ("conv true 5", "channels: input should be a valid integer"),
        ("conv [16] 5", "channels: input should be a valid integer"),
        ("conv 16 0", "kernel: input should be greater than 0"),
        ("conv 16 5 padding=-1", "padding: input should be greater than or equal to 0"),
        ("conv 16 29", "expected 1 channels of at least 29 x 29 pixels"),
        ("conv 16 5 bias=no", "bias: input should be a valid boolean"),
        ("linear 10 1", "bias: input should be a valid boolean"),
        ("max_pool 29", "expected at least 29 x 29 pixels"),
        ("batch_norm 16", "16: unexpected positional argument"),
        ("normalize 0.1307", "std: missing required argument"),
        ("normalize 0.1307 0", "std: input should be greater than 0"),
        ("normalize 0,1307 1", "mean: input should be a valid number"),
        ("normalize NaN 1", "mean: input should be a finite number"),
        ("normalize 0 1e400", "std: input should be a finite number"),
        ("dropout 1", "probability: input should be less than 1"),
        ("dropout_2d -0.1", "probability: input should be greater than or equal to 0"),
    ],
)
def test_a_malformed_layer_is_refused(line: str, reason: str) -> None:
    """The message has the layer's usage, its place, the line itself, and what is wrong with it."""
    usage = rf"`{line.split()[0]}( [A-Z]+)*( \[[a-z]+=\w+\])*`"
    with pytest.raises(ValueError, match=rf"^{usage}; layer 2 is `{re.escape(line)}` \(.*{reason}.*\)$"):
        description.build(["batch_norm", line, "linear 10"], {}, (1, 28, 28), 10)


@pytest.mark.parametrize("line", ["", "max_pol", "Conv 16 5", "conv(16, 5)", "conv: 16 5"])
def test_an_unknown_layer_is_refused(line: str) -> None:
    """The message has all the layers that there are."""
    known = "normalize, conv, linear, batch_norm, relu, max_pool, dropout, dropout_2d"
    with pytest.raises(ValueError, match=rf"^one of the layers {known}; layer 1 is `{re.escape(line)}`$"):
        description.build([line, "linear 10"], {}, (1, 28, 28), 10)


@pytest.mark.parametrize("damage", ["empty", "another file", "cut", "a bit of a weight", "a layer", "a digest"])
def test_a_damaged_model_is_named(
    finished: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Its name, and what to do; a single bit of a weight or of a layer's line is noticed."""
    content = (finished.path / "models/model.pt").read_bytes()
    half = len(content) // 2
    other = io.BytesIO()
    torch.save({**torch.load(io.BytesIO(content), weights_only=True), "weights_sha256": "0" * 64}, other)
    damaged = {
        "empty": b"",
        "another file": b"no model",
        "cut": content[:half],
        "a bit of a weight": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
        "a layer": content.replace(b"normalize 0.1307", b"normalize 0.1306", 1),
        "a digest": other.getvalue(),
    }[damage]
    assert damaged != content
    monkeypatch.chdir(tmp_path)
    model.MODEL.parent.mkdir()
    model.MODEL.write_bytes(damaged)
    with pytest.raises(StageError, match=r"model\.pt: damaged \(.+\); delete it"):
        model.read()


def test_a_model_of_an_older_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without `options`, which a recipe did not have once: what to do is said."""
    monkeypatch.chdir(tmp_path)
    model.write({"recipe": "old", "model": TINY}, description.build(TINY, {}, (1, 28, 28), 10))
    with pytest.raises(StageError, match=r"model\.pt: written by an older version of this project; run `dvc repro`"):
        model.read()


def test_the_draws_are_known() -> None:
    """Weights follow from the generator alone, lie within 1 / sqrt(inputs), and their digest is this on every CPU."""
    net = description.build(TINY, {}, (1, 28, 28), 10)
    description.draw_weights(net, exact.generator(0, "weights"))
    assert 0.19 < net[1].weight.abs().max() <= 1 / 5
    assert net[1].weight.flatten()[:3].tolist() == [-0.11268031597137451, -0.05650047957897186, -0.07276317477226257]
    assert exact.digest(net.state_dict()) == "2ec154cece02ec1468ed866130f9f9bb2b2502829a7608863c6eca8f16a306b9"

"""A recipe whose model is a class: the whole pipeline runs, and what loses the promise of equal bits is named."""

import json
import random
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages.common.errors import StageError
from stages.net import description, layers, model
from stages.train import fit
from stages.train.recipe import Recipe
from tests.conftest import Clone
from tests.steps import made_up

MINE = '''"""A net with PyTorch's own linear layer."""

from torch import nn

from stages.net import layers


class Mine(nn.Module):
    def __init__(self, shape, classes, channels):
        super().__init__()
        self.conv = layers.Conv2d(shape[0], channels, 5)
        self.last = nn.Linear(channels, classes)

    def forward(self, pixels):
        return self.last(self.conv(pixels).mean((2, 3)))
'''


def test_what_may_give_other_bits_is_named(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each operation with its line, on stderr and as a metric; the model has the versions.

    `required` refuses it, and the model stays as it was.
    """
    clone = finished.copy(tmp_path_factory.mktemp("mine") / "clone")
    (clone.path / "nets/mine.py").write_text(MINE)
    clone.replace("recipes/fast.yaml", "model: #", "options: {channels: 4}\nmodel: nets.mine:Mine\nunused: #")
    recipe = clone.path / "recipes/fast.yaml"
    lines = recipe.read_text().splitlines(keepends=True)
    first = next(place for place, line in enumerate(lines) if line.startswith("unused:"))
    layers = next(place for place, line in enumerate(lines) if place > first and not line.startswith("- "))
    recipe.write_text("".join([*lines[:first], *lines[layers:]]))
    exact = torch.load(clone.path / "models/model.pt", weights_only=True)["environment"]
    assert exact == {"device": "cpu", "exact": True}  # no version, so that each gives the same bytes
    said = clone.run("python", "-m", "stages.train").stderr
    assert "the bits may differ on another run or computer: torch.ops.aten." in said
    exact = json.loads((clone.path / "metrics/train.json").read_text())["exact"]
    assert exact.startswith("no: ")
    for operation in ("addmm", "mean"):
        assert f"torch.ops.aten.{operation} (nets/mine.py, line 15)" in exact
    before = (clone.path / "models/model.pt").read_bytes()
    environment = torch.load(clone.path / "models/model.pt", weights_only=True)["environment"]
    assert environment.keys() == {"device", "exact", "python", "torch", "numpy"}
    clone.replace("params.yaml", "  device: cpu", "  exact: required\n  device: cpu")
    refused = clone.run("python", "-m", "stages.train", status=1).stderr
    assert "params.yaml: train.exact: got 'required', but the bits may differ: torch.ops.aten." in refused
    assert (clone.path / "models/model.pt").read_bytes() == before


@pytest.mark.slow
def test_a_class_goes_through_the_whole_pipeline(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The residual net that is shipped: exact, with metrics, a page and an ONNX file."""
    clone = finished.copy(tmp_path_factory.mktemp("residual") / "clone")
    clone.run("dvc", "exp", "run", "-S", "train.recipe=residual")
    metrics = json.loads((clone.path / "metrics/train.json").read_text())
    assert metrics["parameters"] == 25 * 24 + 2 * 24 + 2 * (2 * 24 * 24 * 9 + 4 * 24) + 10 * 24 * 9 + 10
    assert "exact" not in metrics
    assert "nets.residual:ResidualNet" in (clone.path / "report/index.html").read_text()
    clone.run("python", "-m", "tools.export")
    assert (clone.path / "model.onnx").is_file()


def test_a_class_that_is_not_as_in_training_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose class is gone or has other parameters now, as on another branch: one message with the reason."""
    made: dict[str, Any] = {
        "recipe": "residual",
        "model": "nets.residual:ResidualNet",
        "options": {"channels": 4, "blocks": 1},
    }
    net = description.build(made["model"], made["options"], (1, 28, 28), 10)
    trained = made | {"data": {"shape": [1, 28, 28], "classes": list("0123456789")}, "weights": net.state_dict()}
    assert model.trained(trained).state_dict().keys() == net.state_dict().keys()
    said = "the model of recipe residual cannot be made of nets.residual:ResidualNet as it is here"
    with pytest.raises(StageError, match=rf"{said} \(Error.*size mismatch.*\); restore the folder nets/"):
        model.trained(trained | {"options": {"channels": 5, "blocks": 1}})
    monkeypatch.delattr("nets.residual.ResidualNet")
    with pytest.raises(StageError, match=rf"{said} \(.*has no attribute 'ResidualNet'\); restore the folder nets/"):
        model.trained(trained)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nets.residual", "a list of layers, or `nets.FILE:CLASS`; got `nets.residual`"),
        ("os:system", "a list of layers, or `nets.FILE:CLASS`; got `os:system`"),
        ("nets.no_such:Net", "a class that can be made, .*No module named 'nets.no_such'"),
        ("nets.residual:Net", "a class that can be made, .*has no attribute 'Net'"),
        ("nets.residual:ResidualNet", "a class that can be made, .*missing 2 required positional arguments"),
        ("nets.residual:Block", "a class that can be made, .*unexpected keyword argument 'shape'"),
    ],
)
def test_a_class_that_cannot_be_made_is_refused(model: str, message: str) -> None:
    """With the value, and what is expected."""
    with pytest.raises(ValueError, match=message):
        description.build(model, {}, (1, 28, 28), 10)


def test_options_are_of_a_class() -> None:
    """A list of layers has none."""
    with pytest.raises(ValueError, match="no `options` beside a list of layers"):
        description.build(["linear classes"], {"channels": 3}, (1, 28, 28), 10)


def test_a_list_without_parameters_is_refused() -> None:
    """A pool of the whole of a colour image gives logits of three classes, and has nothing to train."""
    with pytest.raises(ValueError, match=r"a net with parameters; \['max_pool 28'\] has none"):
        description.build(["max_pool 28"], {}, (3, 28, 28), 3)


class Idle(nn.Module):
    """A net of which one layer is not used, and a parameter is not trained."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.used, self.unused = layers.Linear(28 * 28, classes), layers.Linear(1, 1, bias=False)
        self.used.bias.requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        logits: Tensor = self.used(pixels.flatten(1))
        return logits


def why_inexact(monkeypatch: pytest.MonkeyPatch, net: type[nn.Module]) -> str:
    """Return what train says about the class `net`."""
    mine = ModuleType("nets.mine")
    mine.Mine = net  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nets.mine", mine)
    settings = {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "constant", "batch_size": 8, "shards": 1}
    return fit.why_inexact(Recipe(model="nets.mine:Mine", epochs=1, **settings), 0, made_up(20, training=10))


def test_what_is_not_trained_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first step."""
    with pytest.raises(StageError, match=r"nets.mine:Mine: the loss has no gradient for used.bias, unused.weight; rem"):
        why_inexact(monkeypatch, Idle)


class Frozen(nn.Module):
    """A net with batch norm that stays in evaluation mode."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.first, self.norm, self.last = layers.Conv2d(1, 2, 1), layers.BatchNorm2d(2), layers.Linear(1568, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        logits: Tensor = self.last(self.norm.eval()(self.first(pixels)).flatten(1))
        return logits


def test_what_fails_with_a_shard_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as batch norm that stays in evaluation mode, or a net that predicts no more than one image.

    With one message, before the first step.
    """
    said = "batch_size 8, shards 1: a shard cannot be trained: NotImplementedError: batch norm in evaluation"
    with pytest.raises(StageError, match=said):
        why_inexact(monkeypatch, Frozen)
    monkeypatch.setattr(Frozen, "forward", lambda net, pixels: {False: torch.zeros(1, 10)}[net.training])
    with pytest.raises(StageError, match=r"a shard cannot be trained \(tests/.*, line \d+\): KeyError: True"):
        why_inexact(monkeypatch, Frozen)

    def forward(net: Frozen, pixels: Tensor) -> Tensor:
        return net.last(net.norm(net.first(pixels)).reshape(-1 if net.training else 1, 1568))

    monkeypatch.setattr(Frozen, "forward", forward)
    with pytest.raises(StageError, match=r"a shard cannot be trained \(tests/.*, line \d+\): RuntimeError: shape"):
        why_inexact(monkeypatch, Frozen)


class Counting(nn.Module):
    """A linear layer that counts its batches, in a buffer that its state does not have, unless it is `persistent`."""

    persistent = False

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.last = layers.Linear(28 * 28, classes)
        self.register_buffer("constant", torch.tensor(2.0), persistent=False)
        self.register_buffer("batches", torch.tensor(0.0), persistent=self.persistent)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        self.batches += self.training
        logits: Tensor = self.last(pixels.flatten(1) * self.constant) + self.batches
        return logits


def test_what_no_file_keeps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed training, and the evaluation, would begin with another value; a constant is as good as kept."""
    with pytest.raises(StageError, match=r"nets.mine:Mine: its copies differ in batches; make it a persistent buffer"):
        why_inexact(monkeypatch, Counting)
    monkeypatch.setattr(Counting, "persistent", True)
    assert why_inexact(monkeypatch, Counting) == ""


class WithFactor(nn.Module):
    """A linear layer of pixels that are multiplied by what `factor` makes."""

    factor: Callable[[], Tensor]

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.last = layers.Linear(28 * 28, classes)
        self.register_buffer("of", type(self).factor())

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        logits: Tensor = self.last((pixels * self.of).flatten(1))
        return logits


class WithOwnDraws(nn.Module):
    """A net with dropout by a generator of its own, which no checkpoint has, and by one of ours."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.last, self.ours = layers.Linear(28 * 28, classes), layers.Dropout(0.5)
        self.random = torch.Generator().manual_seed(0)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        kept = self.ours(pixels.flatten(1))
        logits: Tensor = self.last(kept * (torch.rand(kept.shape, generator=self.random) < 0.5))
        return logits


def test_a_state_that_no_file_keeps_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed training would draw other numbers; those of our layers follow from the seed."""
    reason = "from the same state and draws, a net computes other logits"
    assert why_inexact(monkeypatch, WithOwnDraws) == reason
    monkeypatch.setattr(WithOwnDraws, "forward", lambda net, pixels: net.last(net.ours(pixels.flatten(1))))
    assert why_inexact(monkeypatch, WithOwnDraws) == ""


@pytest.mark.parametrize(
    ("factor", "reason"),
    [
        (lambda: torch.arange(28) / 27, ""),
        (lambda: torch.linspace(-1, 1, 28), r"torch.ops.aten.linspace \(tests/.*, line \d+\)"),
        (lambda: torch.tensor(random.random()), "each copy of the net has another of"),  # noqa: S311 - nothing secret
        (lambda: torch.randn(28), "torch.ops.aten.randn .*; each copy of the net has another of"),
        (lambda: torch.empty(28).uniform_(), "torch.ops.aten.uniform_ .*; each copy of the net has another of"),
    ],
)
def test_how_a_net_is_made_is_watched(
    monkeypatch: pytest.MonkeyPatch, factor: Callable[[], Tensor], reason: str
) -> None:
    """A table that a class computes, and what it draws; a constant is exact."""
    monkeypatch.setattr(WithFactor, "factor", staticmethod(factor), raising=False)
    assert re.fullmatch(reason, why_inexact(monkeypatch, WithFactor))


class Odd(nn.Module):
    """A net that is no net that can be trained, by its `kind`."""

    def __init__(self, shape: tuple[int, ...], classes: int, kind: str) -> None:
        super().__init__()
        self.kind, self.classes = kind, classes
        if kind != "empty":
            self.last = layers.Linear(99 if kind == "narrow" else 28 * 28, classes)
        if kind == "half":
            self.extra = nn.Parameter(torch.zeros(3, dtype=torch.float16))

    def forward(self, pixels: Tensor) -> Any:
        """Return logits (N, classes), or what `kind` says."""
        assert self.kind != "failing", "mine"
        if self.kind == "empty":
            return pixels.flatten(1)[:, : self.classes]
        logits = self.last(pixels.flatten(1))
        return {"tuple": (logits, logits), "double": logits.double(), "wide": logits[..., None]}.get(self.kind, logits)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "expected a net with parameters; nets.odd:Odd has none"),
        ("half", "expected parameters of float32; nets.odd:Odd has others: extra"),
        (
            "narrow",
            r"expected .*; `nets.odd:Odd` \(tests/.*, line \d+\): RuntimeError: got values \(1, 784\), expected 99",
        ),
        ("failing", r"expected .*; `nets.odd:Odd` \(tests/.*, line \d+\): AssertionError: mine"),
        ("tuple", "expected logits, a tensor; nets.odd:Odd makes tuple"),
        ("double", "expected logits of float32; nets.odd:Odd makes torch.float64"),
        ("wide", r"expected logits \(N, 10\) of pixels \(N, \*\(1, 28, 28\)\); nets.odd:Odd makes \(1, 10, 1\)"),
    ],
)
def test_a_net_that_cannot_be_trained_is_refused(monkeypatch: pytest.MonkeyPatch, kind: str, message: str) -> None:
    """With one message."""
    odd = ModuleType("nets.odd")
    odd.Odd = Odd  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nets.odd", odd)
    with pytest.raises(ValueError, match=message.removeprefix("expected ")):
        description.build("nets.odd:Odd", {"kind": kind}, (1, 28, 28), 10)

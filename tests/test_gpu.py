"""What can be shown of training on a GPU where there is none: no GPU has run this project."""

import os
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from stages.common import settings
from stages.net import description, exact, layers
from stages.train.images import Images
from stages.train.recipe import Recipe
from tests.conftest import PROJECT


@pytest.mark.parametrize("path", sorted(PROJECT.glob("recipes/*.yaml")), ids=lambda path: path.stem)
def test_a_forward_pass_mixes_no_devices(path: Path) -> None:
    """Loss of a batch with net, images and labels on a GPU, as fake tensors, which have a device and no values.

    An operation that mixes devices fails: so it does with the images on the CPU. The backward pass needs a real GPU.
    """
    recipe = settings.load(Recipe, path=path)
    net = description.build(recipe.model, recipe.options, (1, 28, 28), 10)
    layers.draw_from(net, torch.Generator())
    with FakeTensorMode():
        named = [*net.named_parameters(), *net.named_buffers()]
        state = {name: torch.empty(of.shape, dtype=of.dtype, device="cuda") for name, of in named}
        images = torch.empty(60, 28, 28, dtype=torch.uint8, device="cuda")
        labels = torch.zeros(60, dtype=torch.int64, device="cuda")
        places = torch.zeros(8, 3, dtype=torch.int64)  # drawn on the CPU
        batch = Images(images, recipe.shift)(places)
        logits = torch.func.functional_call(net, state, batch)
        loss = functional.cross_entropy(logits, labels[places[:, 0]], label_smoothing=recipe.label_smoothing)
        assert (logits.shape, loss.device.type) == ((8, 10), "cuda")
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            torch.func.functional_call(net, state, batch.cpu())


def test_the_flags_for_equal_bits_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deterministic algorithms or an error, no TF32, and no choice of an algorithm by its speed."""
    flags = [(torch.backends.cudnn, "benchmark"), (torch.backends.cudnn, "allow_tf32"),
             (torch.backends.cuda.matmul, "allow_tf32")]  # fmt: skip
    for place, name in flags:
        monkeypatch.setattr(place, name, True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    torch.set_deterministic_debug_mode("default")
    exact.pin()
    assert [getattr(place, name) for place, name in flags] == [False] * 3
    assert torch.get_deterministic_debug_mode() == 2
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"

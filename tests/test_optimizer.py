"""The optimizers, held to the classes in torch.optim."""

import pytest
import torch
from torch import Tensor

from stages.common.optimizer import Kind, Optimizer


def parameters() -> list[Tensor]:
    """Return two parameters with a gradient."""
    random = torch.Generator().manual_seed(0)
    drawn = [torch.rand(shape, generator=random).requires_grad_() for shape in ((7, 3, 5, 5), (10,))]
    for parameter in drawn:
        parameter.grad = torch.rand(parameter.shape, generator=random) - 0.5
    return drawn


@pytest.mark.parametrize(
    ("kind", "of_pytorch", "momentum", "options"),
    [
        ("adamw", torch.optim.AdamW, 0.0, {"betas": (0.7, 0.9)}),
        ("adam", torch.optim.Adam, 0.0, {"betas": (0.9, 0.999)}),
        ("sgd", torch.optim.SGD, 0.5, {"momentum": 0.5}),
        ("sgd", torch.optim.SGD, 0.0, {}),
    ],
)
def test_steps_are_those_of_pytorch(
    kind: Kind, of_pytorch: type[torch.optim.Optimizer], momentum: float, options: dict[str, object]
) -> None:
    """Four steps with as many learning rates, the last two after the state was handed to a new optimizer."""
    ours, theirs = parameters(), parameters()
    peer = of_pytorch(theirs, lr=1.0, weight_decay=0.1, fused=True, **options)  # type: ignore[call-arg]
    betas = (0.7, 0.9) if kind == "adamw" else (0.9, 0.999)
    optimizer = Optimizer(kind, ours, 0.1, momentum, betas)
    for step, learning_rate in enumerate((0.1, 0.2, 0.05, 0.01)):
        if step == 2:
            state = optimizer.state()
            optimizer = Optimizer(kind, ours, 0.1, momentum, betas)
            optimizer.restore(state)
        optimizer.step(learning_rate)
        peer.param_groups[0]["lr"] = learning_rate
        peer.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not torch.equal(ours[0], parameters()[0])

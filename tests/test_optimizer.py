"""The optimizers do what the classes in torch.optim do, each rounding apart."""

import pytest
import torch

from stages.train.optimizer import Kind, Optimizer


@pytest.mark.parametrize(
    ("kind", "of_pytorch", "momentum", "options"),
    [
        ("adamw", torch.optim.AdamW, 0.0, {"betas": (0.7, 0.9)}),
        ("adam", torch.optim.Adam, 0.0, {"betas": (0.7, 0.9)}),
        ("sgd", torch.optim.SGD, 0.5, {"momentum": 0.5}),
        ("sgd", torch.optim.SGD, 0.0, {}),
    ],
)
def test_steps_are_those_of_pytorch(
    kind: Kind, of_pytorch: type[torch.optim.Optimizer], momentum: float, options: dict[str, object]
) -> None:
    """Four steps with as many learning rates, the last two after the state was handed to a new optimizer."""
    random = torch.Generator().manual_seed(0)
    ours = torch.rand(1003, generator=random)
    theirs = ours.clone()
    peer = of_pytorch([theirs], lr=1.0, weight_decay=0.1, fused=True, **options)  # type: ignore[call-arg]
    optimizer = Optimizer(kind, ours, 0.1, momentum, (0.7, 0.9))
    for step, learning_rate in enumerate((0.1, 0.2, 0.05, 0.01)):
        if step == 2:
            state = optimizer.state()
            optimizer = Optimizer(kind, ours, 0.1, momentum, (0.7, 0.9))
            optimizer.restore(state)
        theirs.grad = torch.rand(1003, generator=random) - 0.5
        optimizer.step(theirs.grad, learning_rate)
        peer.param_groups[0]["lr"] = learning_rate
        peer.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)

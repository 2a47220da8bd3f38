"""The layers: PyTorch's own results and gradients within rounding, and the same bits in whatever way they are run."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision import transforms

from stages.net import description, exact, layers
from stages.train import guard, images, step


@pytest.fixture(autouse=True)
def _seed() -> None:
    """What a test draws does not depend on the tests before it."""
    torch.manual_seed(0)


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv": (lambda: layers.Conv2d(3, 5, 3), lambda: nn.Conv2d(3, 5, 3), (4, 3, 9, 7)),
    "conv of 24 channels": (lambda: layers.Conv2d(24, 33, 5), lambda: nn.Conv2d(24, 33, 5), (3, 24, 12, 12)),
    "conv, stride 2": (lambda: layers.Conv2d(3, 5, 3, 2), lambda: nn.Conv2d(3, 5, 3, 2), (2, 3, 10, 9)),
    "conv, stride 3 of 2": (lambda: layers.Conv2d(2, 4, 2, 3), lambda: nn.Conv2d(2, 4, 2, 3), (2, 2, 11, 8)),
    "conv, padding 2": (lambda: layers.Conv2d(4, 6, 5, 1, 2), lambda: nn.Conv2d(4, 6, 5, 1, 2), (3, 4, 6, 6)),
    "conv, both": (lambda: layers.Conv2d(1, 7, 4, 2, 1), lambda: nn.Conv2d(1, 7, 4, 2, 1), (5, 1, 9, 9)),
    "conv 1x1": (lambda: layers.Conv2d(6, 4, 1), lambda: nn.Conv2d(6, 4, 1), (2, 6, 5, 5)),
    "conv, no bias": (
        lambda: layers.Conv2d(3, 4, 2, bias=False), lambda: nn.Conv2d(3, 4, 2, bias=False), (1, 3, 4, 4)
    ),
    "linear": (lambda: layers.Linear(20, 10), lambda: nn.Linear(20, 10), (7, 20)),
    "linear, no bias": (lambda: layers.Linear(5, 3, bias=False), lambda: nn.Linear(5, 3, bias=False), (1, 5)),
    "linear of images": (
        lambda: layers.Linear(48, 3), lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), (2, 3, 4, 4)
    ),
    "batch norm": (lambda: layers.BatchNorm2d(11), lambda: nn.BatchNorm2d(11), (4, 11, 3, 5)),
    "max pool": (lambda: layers.MaxPool2d(2), lambda: nn.MaxPool2d(2), (2, 5, 7, 8)),
    "max pool 3": (lambda: layers.MaxPool2d(3), lambda: nn.MaxPool2d(3), (2, 5, 9, 10)),
    "relu": (layers.ReLU, nn.ReLU, (3, 4, 5, 5)),
    "flatten": (layers.Flatten, nn.Flatten, (3, 4, 5, 5)),
    "normalize": (lambda: layers.Normalize(0.2, 0.3), lambda: transforms.Normalize([0.2], [0.3]), (2, 3, 4, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("last", [False, True])
def test_a_layer_is_pytorchs(name: str, last: bool) -> None:
    """With its state: the same values, statistics and gradients as PyTorch's in float64, from both layouts."""
    ours, theirs, shape = LAYERS[name][0](), LAYERS[name][1](), LAYERS[name][2]
    state = dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True))
    theirs.load_state_dict(state)
    theirs.double()
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if last and values.dim() == 4:
        values = values.contiguous(memory_format=torch.channels_last)
    found = []
    for layer, of in ((ours, values), (theirs, values.double())):
        of = of.clone().requires_grad_()
        made = layer(of)
        factors = torch.linspace(-1, 2, made.numel(), dtype=made.dtype).view(made.flatten(1).shape)
        gradients = torch.autograd.grad((made.flatten(1) * factors).sum(), [of, *layer.parameters()])
        found.append([made.flatten(1), *gradients, *layer.buffers()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-5, atol=1e-5)


def test_batch_norm_predicts_with_the_running_statistics() -> None:
    """As PyTorch's does in evaluation mode."""
    ours, theirs = layers.BatchNorm2d(6), nn.BatchNorm2d(6)
    ours(torch.randn(9, 6, 4, 4) * 3 + 1)
    theirs.load_state_dict(ours.state_dict())
    values = torch.randn(2, 6, 3, 3)
    torch.testing.assert_close(ours.eval()(values), theirs.eval()(values))


def test_cross_entropy_is_pytorchs() -> None:
    """The loss and its gradient, with smoothed labels, for logits far apart, too."""
    logits = (torch.randn(50, 7) * torch.linspace(0.1, 300, 50)[:, None]).requires_grad_()
    labels = torch.arange(50) % 7
    loss = layers.cross_entropy(logits, labels, 0.2, 50)
    expected = nn.functional.cross_entropy(logits.double(), labels, label_smoothing=0.2)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for ours, theirs in zip(*(torch.autograd.grad(of, logits) for of in (loss, expected)), strict=True):
        torch.testing.assert_close(ours, theirs)


NET = [
    "normalize 0.2 0.4", "conv 6 5 padding=1", "max_pool", "batch_norm", "relu", "dropout_2d 0.2", "conv 9 3 stride=2",
    "relu", "dropout 0.3", "linear 12 bias=false", "relu", "linear 10",
]  # fmt: skip


def test_a_chain_gives_the_bits_of_its_layers() -> None:
    """Values, gradients and statistics of three steps: layer by layer, as one operation, and as a program run again."""
    steps = [torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(step)) for step in range(3)]
    net = description.build(NET, {}, (1, 28, 28), 10)
    description.draw_weights(net, exact.generator(0, "weights"))
    found = []
    for apart in (True, False):
        used = copy.deepcopy(net)
        layers.draw_from(used, exact.generator(0, "dropout"))
        forward = nn.Sequential.forward if apart else layers.Sequential.forward
        made = [forward(used, pixels) for pixels in steps[:1]]
        made += [torch.autograd.grad(made[0].square().sum(), used.parameters())]
        for pixels in steps[1:]:
            made.append(forward(used, pixels))
            made += [torch.autograd.grad(made[-1].square().sum(), used.parameters())]
        found.append([*made, *used.buffers()])
    for a, b in zip(*found, strict=True):
        pairs = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
        assert all(torch.equal(*pair) for pair in pairs)


def test_a_chain_can_be_used_twice_before_its_gradient() -> None:
    """Two forwards, then both gradients: each is that of its own values; a second gradient of one is refused."""
    net = description.build(["conv 3 5", "relu", "linear 10"], {}, (1, 28, 28), 10)
    description.draw_weights(net, exact.generator(0, "weights"))
    pixels = [torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(step)) for step in range(2)]
    one_by_one = [torch.autograd.grad(net(of).square().sum(), net.parameters()) for of in pixels]
    losses = [net(of).square().sum() for of in pixels]
    together = [torch.autograd.grad(loss, net.parameters(), retain_graph=True) for loss in losses]
    assert all(
        torch.equal(a, b)
        for one, both in zip(one_by_one, together, strict=True)
        for a, b in zip(one, both, strict=True)
    )
    with pytest.raises(RuntimeError, match="a second time; call forward again"):
        torch.autograd.grad(losses[0], net.parameters())


class Zero(layers.Linear):
    """A layer of one's own, made from one of ours."""

    def forward(self, values: Tensor) -> Tensor:
        """Return zeros."""
        return super().forward(values) * 0


class ZeroNet(layers.Sequential):
    """A net of one's own, made from ours."""

    def forward(self, values: Tensor) -> Tensor:
        """Return zeros."""
        return super().forward(values) * 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Sequential(layers.Flatten(), Zero(784, 10)),
        lambda: ZeroNet(layers.Flatten(), layers.Linear(784, 10)),
    ],
)
def test_what_is_derived_from_ours_computes_as_it_says(make: Callable[[], nn.Module]) -> None:
    """A layer, and a net, that change what comes out: in a step of training, too."""
    net = make()
    assert not net(torch.rand(3, 1, 28, 28)).any()
    shard = images.Images(torch.full((1, 28, 28), 255, dtype=torch.uint8), 0)
    gradient = step.step_of(net, shard, 0.0, 1)
    found = gradient(torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), torch.Generator)
    assert found[-1] == torch.tensor(10.0).log()
    assert not found[:-1].any()


def test_a_layer_that_is_used_twice() -> None:
    """Its gradient is the sum of both uses', as PyTorch's own is."""
    twice = layers.Linear(6, 6)
    net = layers.Sequential(twice, layers.ReLU(), twice)
    values = torch.rand(4, 6)
    apart = twice(torch.relu(twice(values)))
    for ours, theirs in zip(
        *(torch.autograd.grad(made.square().sum(), twice.parameters()) for made in (net(values), apart)), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_each_column_is_computed_for_itself() -> None:
    """A linear layer of 1 to 50 outputs, whatever vectors they fill: each output has the bits that it has alone."""
    random = torch.Generator().manual_seed(0)
    values, weight, bias = (torch.rand(of, generator=random) - 0.5 for of in ((60, 37), (50, 37), (50,)))

    def computed(start: int, stop: int) -> torch.Tensor:
        layer = layers.Linear(37, stop - start)
        with torch.no_grad():
            layer.weight.copy_(weight[start:stop])
            layer.bias.copy_(bias[start:stop])
            return layer(values)

    alone = torch.cat([computed(column, column + 1) for column in range(50)], dim=1)
    for count in range(1, 51):
        assert torch.equal(computed(0, count), alone[:, :count])


def test_nan_is_not_lost() -> None:
    """One NaN among the pixels makes the image's logits and the loss NaN, through pooling and ReLU, too."""
    net = description.build(["conv 4 5", "max_pool", "relu", "linear 10"], {}, (1, 28, 28), 10)
    description.draw_weights(net, exact.generator(0, "weights"))
    pixels = torch.rand(3, 1, 28, 28)
    pixels[1, 0, 14, 14] = torch.nan
    logits = net(pixels)
    assert logits.isnan().all(1).tolist() == [False, True, False]
    assert layers.cross_entropy(logits, torch.zeros(3, dtype=torch.int64), 0.0, 3).isnan()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (lambda: layers.Conv2d(3, 4, 5), (2, 2, 9, 9), "expected 3 channels of at least 5 x 5 pixels"),
        (lambda: layers.Conv2d(3, 4, 5), (2, 3, 4, 9), "expected 3 channels of at least 5 x 5 pixels"),
        (lambda: layers.Linear(9, 4), (2, 8), "expected 9 for each image"),
        (lambda: layers.BatchNorm2d(3), (2, 4, 5, 5), "expected 3 channels"),
        (lambda: layers.MaxPool2d(3), (2, 4, 2, 5), "expected at least 3 x 3 pixels"),
    ],
)
def test_values_that_do_not_fit_are_refused(
    layer: Callable[[], nn.Module], shape: tuple[int, ...], message: str
) -> None:
    """Before any kernel sees their memory."""
    with pytest.raises(RuntimeError, match=message):
        layer()(torch.zeros(shape))


class Mixed(nn.Module):
    """A net with one layer of PyTorch's own, which may add up in another order elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = layers.Conv2d(1, 2, 28), nn.Linear(2, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (N, 10)."""
        return self.last(self.first(pixels).flatten(1)).exp()


def test_the_guard_names_what_is_not_exact() -> None:
    """Each operation, and the line that calls it; nothing for our layers and for sums of two tensors."""
    net = Mixed()
    with guard.Guard() as watched:
        net(torch.rand(3, 1, 28, 28))
    assert watched.reason().startswith("torch.ops.aten.addmm (tests/test_layers.py, line ")
    assert ", torch.ops.aten.exp (tests/test_layers.py, line " in watched.reason()
    assert description.draw_weights(net, exact.generator(0, "weights")) == ""
    chain = description.build(NET, {}, (1, 28, 28), 10)
    layers.draw_from(chain, exact.generator(0, "dropout"))
    with guard.Guard() as watched:
        made = chain(torch.rand(3, 1, 28, 28))
        (made + made).mul(2).clamp(min=0)
        torch.autograd.grad(layers.cross_entropy(made, torch.zeros(3, dtype=torch.int64), 0.1, 3), chain.parameters())
        chain.eval()(torch.rand(3, 1, 28, 28))
    assert watched.reason() == ""
    with guard.Guard() as watched:
        torch.add(made, made, alpha=3)
    assert watched.reason().startswith("torch.ops.aten.add ")

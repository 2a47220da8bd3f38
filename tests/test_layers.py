"""The layers: PyTorch's own results and gradients within rounding, and the same bits in whatever way they are run."""

import copy
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torchvision import transforms

from stages.net import description, exact, layers
from stages.train import guard, images, step
from tests.conftest import PROJECT


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
    "conv, wide": (lambda: layers.Conv2d(1, 2, 1), lambda: nn.Conv2d(1, 2, 1), (1, 1, 2, 70)),
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
    made = ours(values)
    torch.testing.assert_close(ours.double()(values.double()).float(), made, rtol=1e-5, atol=1e-5)


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
    for ours, theirs in zip(*(torch.autograd.grad(3 * of, logits) for of in (loss, expected)), strict=True):
        torch.testing.assert_close(ours, theirs)
    other = layers.cross_entropy(logits.double(), labels, 0.2, 50)
    torch.testing.assert_close(other, loss)  # float32, too: a step adds it to a vector


NET = [
    "normalize 0.2 0.4", "conv 6 5 padding=1", "max_pool", "batch_norm", "relu", "dropout_2d 0.2", "conv 9 3 stride=2",
    "relu", "dropout 0.3", "linear 12 bias=false", "relu", "linear 10",
]  # fmt: skip


def test_a_chain_gives_the_bits_of_its_layers() -> None:
    """Values, gradients and statistics of three steps: layer by layer, and as one operation."""
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
    """Two forwards, then both gradients: each is that of its own values, the second time, too."""
    net = description.build(["conv 3 5", "relu", "linear 10"], {}, (1, 28, 28), 10)
    description.draw_weights(net, exact.generator(0, "weights"))
    pixels = [torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(step)) for step in range(2)]
    one_by_one = [torch.autograd.grad(net(of).square().sum(), net.parameters()) for of in pixels]
    losses = [net(of).square().sum() for of in pixels]
    for retained in (True, False):
        together = [torch.autograd.grad(loss, net.parameters(), retain_graph=retained) for loss in losses]
        assert all(
            torch.equal(a, b)
            for one, both in zip(one_by_one, together, strict=True)
            for a, b in zip(one, both, strict=True)
        )


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
    net.register_parameter("unused", nn.Parameter(torch.ones(2)))
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
        (lambda: layers.Conv2d(3, 4, 5), (2, 3, 9, 4), "expected 3 channels of at least 5 x 5 pixels"),
        (lambda: layers.Linear(9, 4), (2, 8), "expected 9 for each image"),
        (lambda: layers.BatchNorm2d(3), (2, 4, 5, 5), "expected 3 channels"),
        (lambda: layers.BatchNorm2d(3), (1, 3, 1, 1), "expected more than one value for each channel"),
        (lambda: layers.MaxPool2d(3), (2, 4, 2, 5), "expected at least 3 x 3 pixels"),
        (lambda: layers.MaxPool2d(3), (2, 4, 5, 2), "expected at least 3 x 3 pixels"),
        (lambda: layers.Dropout(0.5), (2, 4), "needs a generator: call draw_from"),
        (lambda: layers.Linear(4, 3, device="meta"), (2, 4), "on the same device, got cpu and meta"),
    ],
)
def test_values_that_do_not_fit_are_refused(
    layer: Callable[[], nn.Module], shape: tuple[int, ...], message: str
) -> None:
    """Before any kernel sees their memory."""
    with pytest.raises((RuntimeError, ValueError), match=message):
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
    chain = description.build(NET, {}, (1, 28, 28), 10)
    layers.draw_from(chain, exact.generator(0, "dropout"))
    pixels = torch.rand(3, 1, 28, 28)
    with guard.Guard() as watched:
        made = chain(pixels)
        (made + made).mul(2).clamp(min=0)
        torch.autograd.grad(layers.cross_entropy(made, torch.zeros(3, dtype=torch.int64), 0.1, 3), chain.parameters())
        chain.eval()(pixels)
    assert watched.reason() == ""
    with guard.Guard() as watched:
        torch.rand(3)
    assert watched.reason().startswith("torch.ops.aten.rand (tests/test_layers.py, line ")
    with guard.Guard() as watched:
        torch.add(made, made, alpha=3)
    assert watched.reason().startswith("torch.ops.aten.add ")


@pytest.mark.parametrize(
    ("compute", "named"),
    [
        (lambda values: 1 - nn.functional.pad(values, (1, 2)).unflatten(1, (2, -1)).movedim(1, 2), ""),
        (lambda values: values.flip(2).roll(1, 2).clamp(0, 0.5).abs().mT, ""),
        (lambda values: nn.functional.pixel_shuffle(nn.functional.pixel_unshuffle(values, 2), 2), ""),
        (lambda values: values.tile(1, 2, 1, 1).detach() * torch.arange(2, 10), ""),
        (lambda values: nn.functional.leaky_relu(values - 0.5, 0.1) ** 2 + values.square() ** 1, ""),
        (lambda values: values * values.max().item(), ""),
        (lambda values: values**0.5, "pow"),
        (lambda values: values ** torch.full((8,), 2), "pow"),
        (lambda values: values * torch.arange(0, 0.8, 0.1), "arange"),
        (lambda values: torch.rsub(values, 1, alpha=3), "rsub"),
        (lambda values: torch.add(values, 0.3, alpha=0.1), "add"),
        (lambda values: nn.functional.linear(values, values[0, 0]), "mm"),
    ],
)
def test_the_guard_knows_what_is_exact(compute: Callable[[Tensor], Tensor], named: str) -> None:
    """Values that are moved, and single IEEE operations, with their gradients, and in inference mode, too."""
    values = torch.rand(3, 4, 8, 8, requires_grad=True)
    with guard.Guard() as watched:
        made = compute(values)
        if made.requires_grad:
            made.backward(torch.ones_like(made))
        with torch.inference_mode():
            compute(values)
    assert " ".join(watched.found) == named


def test_what_the_kernels_cannot_read_is_refused() -> None:
    """Another type of numbers than float32, labels that are none, and a stride for each axis: an error, no result."""
    pixels = torch.rand(2, 3, 6, 6)
    for layer in (layers.Conv2d(3, 4, 3).double(), layers.Linear(108, 5).half(), layers.BatchNorm2d(3).double()):
        with pytest.raises(RuntimeError, match=r"expected torch\.float32"):
            layer(pixels)
    for setting in ("stride", "padding"):
        with pytest.raises(TypeError, match="one number for both axes"):
            layers.Conv2d(3, 4, 3, **{setting: (2, 1)})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got kernel_size \(2, 1\), expected one number for both axes"):
        layers.MaxPool2d((2, 1))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="momentum None"):
        layers.BatchNorm2d(3, momentum=None)(pixels)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"got values \(2, 6, 8\)"):
        layers.Linear(48, 5)(torch.rand(2, 6, 8))
    tied = layers.Linear(4, 6)
    tied.weight = nn.Parameter(torch.rand(4, 6).t())
    with pytest.raises(RuntimeError, match="gaps in memory"):
        tied(torch.rand(2, 4))
    logits, labels = torch.rand(4, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    assert layers.cross_entropy(logits, labels[::2], 0, 4) == layers.cross_entropy(logits, labels[::2].clone(), 0, 4)
    for wrong, said in ((labels[:4].int(), "int64"), (labels, "labels"), (labels[:4] + 1, "to 3"), (-labels[:4], "-2")):
        with pytest.raises((RuntimeError, IndexError), match=said):
            layers.cross_entropy(logits, wrong, 0, 4)


def test_a_whole_number_is_a_number() -> None:
    """A momentum of 1 is 1.0."""
    norm, values = layers.BatchNorm2d(3, momentum=1), torch.rand(2, 3, 4, 4)
    norm(values)
    assert torch.allclose(norm.running_mean, values.mean((0, 2, 3)))


def test_no_images_have_no_gradient() -> None:
    """A batch of 0 images, as PyTorch has it: gradients of 0, and statistics that stay."""
    conv, norm = layers.Conv2d(3, 4, 3), layers.BatchNorm2d(4)
    conv(torch.rand(0, 3, 6, 6)).sum().backward()
    assert conv.weight.grad is not None
    assert not conv.weight.grad.any()
    norm.eval()(torch.rand(0, 4, 3, 3))
    assert norm.running_mean.tolist() == [0] * 4


def test_what_autograd_cannot_know_is_an_error() -> None:
    """A value that is changed in place before its gradient, and a gradient of a gradient."""
    relu, conv = layers.ReLU(), layers.Conv2d(2, 2, 3, padding=1)
    for layer in (relu, conv):
        hidden = torch.rand(1, 2, 5, 5) + conv.bias[0]
        made = layer(hidden)
        hidden.mul_(0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            made.sum().backward()
    chain = layers.Sequential(layers.Conv2d(2, 2, 3), layers.ReLU(), layers.Conv2d(2, 2, 3))
    made = chain(torch.rand(1, 2, 5, 5))
    with torch.no_grad():
        chain[2].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        made.sum().backward()
    values = torch.rand(1, 2, 5, 5, requires_grad=True)
    made = layers.cross_entropy(values.flatten(1), torch.zeros(1, dtype=torch.int64), 0.0, 1)
    for loss in (made, *(net(values).sum() for net in (relu, conv, layers.Sequential(layers.Conv2d(2, 2, 3))))):
        with pytest.raises(RuntimeError, match="no second derivative"):
            torch.autograd.grad(loss, values, create_graph=True)


def test_a_sequential_follows_its_layers() -> None:
    """A layer in evaluation mode, hooks, another layer, momentum and statistics are used, also after the first step."""
    chain, values = layers.Sequential(layers.BatchNorm2d(2), layers.Dropout(0.5)), torch.rand(3, 2, 4, 4)
    layers.draw_from(chain, torch.Generator().manual_seed(0))
    assert (chain(values) == 0).any()
    chain[1].eval()
    assert not (chain(values) == 0).any()
    norm = chain[0].eval()
    before = norm.running_mean.clone()
    chain(values.detach())
    assert torch.equal(norm.running_mean, before)
    chain = layers.Sequential(layers.BatchNorm2d(2)).train()
    chain(values)
    chain[0].running_mean = torch.zeros(2)
    chain[0].momentum = 1
    chain(values)
    assert torch.allclose(chain[0].running_mean, values.mean((0, 2, 3)))
    chain.append(layers.MaxPool2d(4))
    assert chain(values).shape == (3, 2, 1, 1)
    for kind in ("forward", "forward_pre", "full_backward", "full_backward_pre"):
        called: list[str] = []
        hook = getattr(chain[1], f"register_{kind}_hook")(lambda *of, kind=kind, called=called: called.append(kind))
        chain(values.clone().requires_grad_()).sum().backward()
        hook.remove()
        assert called == [kind]


@pytest.mark.parametrize(
    "net",
    [
        layers.ReLU(),
        layers.Flatten(),
        layers.Linear(2, 1),
        layers.Sequential(layers.ReLU(), layers.Flatten()),
        nn.Sequential(layers.Flatten(), layers.Flatten()),
        layers.Sequential(layers.Linear(2, 2), layers.ReLU(), layers.Linear(2, 1)),
    ],
)
def test_what_came_out_may_be_changed(net: nn.Module) -> None:
    """In place: the gradient is computed from what went in."""
    values = torch.tensor([[[[-1.0]], [[2.0]]]], requires_grad=True)
    found = []
    for change in (False, True):
        made = net(values)
        if change:
            made -= 3
        found.append(torch.autograd.grad(made.sum(), values)[0])
    assert torch.equal(*found)


def test_a_weight_that_is_computed_has_its_gradient() -> None:
    """PyTorch's pruning gives a layer another weight than its parameter: what is pruned has no gradient."""
    theirs, ours = nn.Linear(5, 4, bias=False), layers.Linear(5, 4, bias=False)
    ours.load_state_dict(theirs.state_dict())
    values = torch.rand(6, 5)
    for layer in (theirs, ours):
        prune.l1_unstructured(layer, "weight", amount=0.5)
        layer(values).sum().backward()
    assert torch.allclose(ours.weight_orig.grad, theirs.weight_orig.grad)
    assert int((ours.weight_orig.grad == 0).sum()) == 10


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:Converting a tensor")
def test_what_traces_a_net_gets_pytorchs_operations() -> None:
    """torch.jit.trace and torch.compile, whose values are no memory that a kernel could read."""
    net, pixels = description.build(NET, {}, (1, 28, 28), 10).eval(), torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        expected = net(pixels)
        assert torch.allclose(torch.jit.trace(net, pixels)(pixels), expected, atol=1e-5)
        assert torch.allclose(torch.compile(net, backend="eager")(pixels), expected, atol=1e-5)


FIRST_USE = """
import threading, torch
from stages.net import layers
images, made = torch.rand(8, 8, 28, 28), []
conv = layers.Conv2d(8, 32, 5)
threads = [threading.Thread(target=lambda: made.append(conv(images))) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(made) == 4 and all(torch.equal(made[0], other) for other in made)
"""


def test_threads_may_use_the_kernels_first() -> None:
    """Four threads at once, in a new process: they are loaded once."""
    subprocess.run([sys.executable, "-c", FIRST_USE], check=True, cwd=PROJECT)

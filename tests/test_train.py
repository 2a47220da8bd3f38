"""Training on tiny data: the same bits for any number of workers, and the gradient of plain autograd."""

import copy
import csv
import io
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.common import files, idx, raw
from stages.common.errors import StageError
from stages.net import description, exact, inference, layers
from stages.net.workers import Workers
from stages.train import checkpoint, fit
from stages.train import main as stage
from stages.train.gradients import Shard, ShardedGradient, as_vector
from stages.train.images import Images
from stages.train.processes import Processes
from stages.train.recipe import Recipe
from stages.train.step import RecordedStep, Step, step_of
from tests.steps import Unsaved, made_up

MODEL = ["normalize 0.5 0.5", "conv 8 5", "max_pool", "batch_norm", "relu", "linear 10"]
RECIPE: dict[str, Any] = {
    "model": MODEL,
    "optimizer": "adamw",
    "learning_rate": 0.01,
    "schedule": "constant",
    "batch_size": 64,
    "shards": 4,
    "epochs": 2,
    "shift": 2,
    "rotate": 10,
    "elastic": 1,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What training writes goes to a folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data() -> fit.Data:
    """200 random images, 150 of them to train on."""
    return made_up(200, training=150)


def fitted(
    data: fit.Data,
    workers: int = 1,
    seed: int = 0,
    unfinished: checkpoint.Checkpoint = Unsaved(),  # noqa: B008 - it keeps nothing
    **changes: Any,
) -> tuple[str, fit.Curve]:
    """Return the digest of the weights and the curve of a training."""
    recipe = Recipe(**{**RECIPE, **changes})
    with Workers(workers) as threads, Processes(torch.device("cpu"), "") as processes:
        net, curve = fit.fit(recipe, seed, data, threads, processes, unfinished)
    return exact.digest(net.state_dict()), curve


DROPOUT = ["conv 8 5", "dropout_2d 0.5", "max_pool", "relu", "dropout 0.5", "linear 10"]


def test_dropout_draws_the_same_for_any_number_of_workers(data: fit.Data) -> None:
    """What a shard sets to 0 follows from the seed, the step and the shard."""
    first = fitted(data, model=DROPOUT)
    for workers in (2, 3):
        assert fitted(data, workers=workers, model=DROPOUT) == first
    assert fitted(data, model=["conv 8 5", "max_pool", "relu", "linear 10"])[0] != first[0]


def test_more_epochs_begin_with_fewer(data: fit.Data) -> None:
    """With a constant schedule the first 3 epochs of 8 are those of the 3-epoch run: weights, optimizer and curve."""

    class Kept(Unsaved):
        def __init__(self) -> None:
            self.states: list[bytes] = []

        def save(self, state: Any) -> None:
            content = io.BytesIO()
            torch.save(state, content)
            self.states.append(content.getvalue())

    longer, shorter = Kept(), Kept()
    fitted(data, unfinished=longer, model=DROPOUT, epochs=8)
    fitted(data, unfinished=shorter, model=DROPOUT, epochs=3)
    assert len(longer.states) == 9  # the untrained net, too
    assert longer.states[:4] == shorter.states


class Stopped(checkpoint.Checkpoint):
    """A checkpoint whose run is interrupted once it has saved the epoch `last`."""

    def __init__(self, last: int):
        super().__init__("the configuration")
        self.last = last

    def save(self, state: Any) -> None:
        """Save, and stop."""
        super().save(state)
        if state[3][-1][0] == self.last:
            raise KeyboardInterrupt


FILE = checkpoint.FOLDER / "the configuration.pt"


@pytest.mark.parametrize("last", [0, 1, 2, 3])
def test_an_interrupted_training_goes_on_to_the_same_bits(
    data: fit.Data, capsys: pytest.CaptureFixture[str], last: int
) -> None:
    """Weights, optimizer, curve: as if there had been no interruption, be it after the last epoch."""
    through = fitted(data, model=DROPOUT, epochs=3, schedule="one_cycle")
    written = fit.TRAINING.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        fitted(data, unfinished=Stopped(last), model=DROPOUT, epochs=3, schedule="one_cycle")
    fit.TRAINING.unlink()  # as DVC does before it runs the stage again
    capsys.readouterr()
    again = fitted(data, unfinished=Stopped(4), model=DROPOUT, epochs=3, schedule="one_cycle")
    assert again == through
    assert fit.TRAINING.read_bytes() == written
    assert len(capsys.readouterr().out.splitlines()) == 3 - last


DAMAGES = {
    "a bit of a tensor": lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    "a bit of the digest": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "cut": lambda content: content[: len(content) // 2],
    "a byte is left": lambda content: content[:1],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_done_without(data: fit.Data, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    """It is named on stderr and replaced, and the training begins anew: the bits are those of an undisturbed run."""
    through = fitted(data)
    with pytest.raises(KeyboardInterrupt):
        fitted(data, unfinished=Stopped(1))
    FILE.write_bytes(DAMAGES[damage](FILE.read_bytes()))
    capsys.readouterr()
    unfinished = Stopped(3)
    assert fitted(data, unfinished=unfinished) == through
    said = capsys.readouterr()
    assert said.err == f"warning: {FILE}: damaged; the training begins anew\n"
    assert len(said.out.splitlines()) == 3  # epochs 0, 1 and 2
    assert unfinished.read()  # it is whole again


def test_the_number_of_workers_changes_no_bit(data: fit.Data) -> None:
    """1, 2, 3 and 4 workers give one digest and one curve; so does a second run."""
    first = fitted(data, workers=1)
    for workers in (1, 2, 3, 4):
        assert fitted(data, workers=workers) == first


@pytest.mark.parametrize("change", [{"shards": 2}, {"shift": 1}, {"optimizer": "sgd"}, {"label_smoothing": 0.1}])
def test_the_recipe_changes_the_bits(data: fit.Data, change: dict[str, Any]) -> None:
    """What a recipe says is used."""
    assert fitted(data, **change)[0] != fitted(data)[0]


def test_the_seed_changes_the_bits(data: fit.Data) -> None:
    """Another seed draws other weights, another order and other shifts."""
    assert fitted(data, seed=1)[0] != fitted(data)[0]


def test_the_first_epochs_of_a_longer_run_are_those_of_a_shorter_one(data: fit.Data) -> None:
    """With a constant learning rate, more epochs are the same epochs and more."""
    longer, shorter = (fitted(data, epochs=epochs)[1] for epochs in (3, 2))
    assert longer.epochs[:3] == shorter.epochs
    assert longer.losses[:4] == shorter.losses


def test_the_curve_starts_at_the_untrained_net(data: fit.Data) -> None:
    """Epoch 0 has seen no example; each epoch sees the batches that fill up: 2 x 64 of 150."""
    curve = fitted(data)[1]
    assert [row[:2] for row in curve.epochs] == [[0, 0], [1, 128], [2, 256]]
    assert len(curve.losses) == 4
    net = description.build(MODEL, {}, (1, 28, 28), 10)
    description.draw_weights(net, exact.generator(0, "weights"))
    with Workers(1) as workers:
        assert curve.epochs[0][2:] == fit.measure(net, data, workers)


def test_shards_too_small_for_batch_norm_are_refused(data: fit.Data) -> None:
    """One value of a channel has no variance."""
    recipe = Recipe(**{**RECIPE, "model": ["linear 32", "batch_norm", "linear 10"], "batch_size": 5, "shards": 4})
    with pytest.raises(StageError, match=r"batch_size 5, shards 4: a shard cannot be trained: ValueError: got \(1, 32"):
        fit.why_inexact(recipe, 0, data)


def test_what_made_a_training_diverge_is_named() -> None:
    """The learning rate; and the weight decay where that alone may be why."""
    small, large = (Recipe(**{**RECIPE, "learning_rate": 0.02, "weight_decay": decay}) for decay in (0.01, 1e4))
    assert str(fit.diverged("a", small)).endswith("; the recipe's learning_rate is 0.02: take a smaller one")
    named = "learning_rate is 0.02: take a smaller one, or less weight_decay, which is 10000.0"
    assert str(fit.diverged("a", large)).endswith(f"; the recipe's {named}")


def test_a_batch_greater_than_the_training_set_is_refused(data: fit.Data) -> None:
    """There would be no step."""
    with pytest.raises(StageError, match="batch_size: got 151, expected at most 150"):
        fitted(data, batch_size=151)


def sharded(net: torch.nn.Module, images: torch.Tensor, shards: int, workers: Workers, count: int) -> ShardedGradient:
    """Return what computes the gradients of a loss that is divided by `count`."""
    processes = Processes(torch.device("cpu"), "")
    return ShardedGradient(net, shards, workers, processes, lambda of: step_of(of, Images(images, 0), 0.0, count))


def shards_of(labels: torch.Tensor, count: int) -> list[Shard]:
    """Return the first images with these `labels`, not moved, in shards of `count`, without dropout."""
    places = torch.zeros(len(labels), 3, dtype=torch.int64)
    places[:, 0] = torch.arange(len(labels))
    parts = zip(places.split(count), labels.split(count), strict=True)
    return [(of_shard, labels, torch.Generator) for of_shard, labels in parts]


def test_the_gradient_is_that_of_plain_autograd() -> None:
    """Without batch norm, four shards give the gradient of the mean loss over the whole batch."""
    net = description.build(["conv 4 5", "relu", "max_pool", "linear 10"], {}, (1, 28, 28), 10)
    description.draw_weights(net, exact.generator(0, "weights"))
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (32, 28, 28), generator=random).to(torch.uint8)
    labels = torch.randint(10, (32,), generator=random)
    mean_loss = functional.cross_entropy(net(images[:, None] / 255), labels)
    mean_loss.backward()
    expected = torch.cat([values.grad.flatten() for values in net.parameters() if values.grad is not None])
    with Workers(2) as workers:
        loss, found = sharded(net, images, 4, workers, 32).of(shards_of(labels, 8))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(loss, mean_loss.detach())


def test_parameters_may_be_channels_last_in_memory() -> None:
    """As `net.to(memory_format=torch.channels_last)` lays them: the vector has their values, in PyTorch's order."""
    net = nn.Conv2d(3, 4, 5).to(memory_format=torch.channels_last)
    values = [parameter.flatten().tolist() for parameter in net.parameters()]
    vector = as_vector(net)
    assert vector.tolist() == values[0] + values[1]
    vector.zero_()
    assert not net.weight.any()


class SometimesDeeper(nn.Module):
    """A net with a layer that it uses only if told to."""

    def __init__(self, deeper: bool):
        super().__init__()
        self.first, self.last, self.deeper = layers.Linear(784, 10), layers.Linear(10, 10), deeper

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (N, 10)."""
        logits = self.first(pixels.flatten(1))
        return self.last(logits) if self.deeper else logits


def test_a_layer_that_a_step_skips_has_a_gradient_of_zero() -> None:
    """As with random depth; 7,850 values are those of the first layer."""
    shard = (torch.tensor([[0, 0, 0]]), torch.tensor([3]), torch.Generator)
    found = [
        Step(SometimesDeeper(deeper), Images(torch.ones(1, 28, 28, dtype=torch.uint8), 0), 0.0, 1)(*shard)
        for deeper in (True, False)
    ]
    assert [vector[7850:-1].any().item() for vector in found] == [True, False]
    assert [len(vector) for vector in found] == [7850 + 110 + 1] * 2


def test_a_recorded_step_gives_the_bits_of_autograd() -> None:
    """Loss, gradient and running statistics of three steps: of a list of layers, and of a class with these layers."""
    net = description.build(["normalize 0.2 0.4", *DROPOUT[:3], "batch_norm", *DROPOUT[3:]], {}, (1, 28, 28), 10)
    description.draw_weights(net, exact.generator(0, "weights"))
    images, labels = made_up(24, training=20).images, torch.arange(24) % 10
    found = []
    for whole in (net, torch.nn.Sequential(copy.deepcopy(net))):
        step, values = step_of(whole, Images(images, 1), 0.1, 8), []
        for start in range(0, 24, 8):
            places = torch.tensor([[row, row % 3, 1] for row in range(start, start + 8)])
            values.append(step(places, labels[start : start + 8], partial(exact.generator, start, "dropout")).clone())
        found.append((type(step), values, list(whole.buffers())))
    assert [kind for kind, *_ in found] == [RecordedStep, Step]
    for (_, *recorded), (_, *computed) in itertools.pairwise(found):
        for a, b in zip(itertools.chain(*recorded), itertools.chain(*computed), strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(found[0][1][0], found[0][1][1])


def test_running_statistics_are_the_mean_over_the_shards() -> None:
    """After one batch: a tenth of the mean of the shards' means, and the same in every replica."""
    net = description.build(["batch_norm", "linear 10"], {}, (1, 28, 28), 10)
    images = torch.tensor([51, 153], dtype=torch.uint8).repeat_interleave(4)[:, None, None].expand(8, 28, 28)
    with Workers(1) as workers:
        gradient = sharded(net, images, 2, workers, 8)
        gradient.of(shards_of(torch.zeros(8, dtype=torch.int64), 4))
        gradient.merge_statistics()
    torch.testing.assert_close(net[0].running_mean, torch.tensor([0.1 * (0.2 + 0.6) / 2]))
    assert net[0].num_batches_tracked == 1


def test_constants_stay_as_they_are() -> None:
    """Buffers that no shard changes, to the bit: large whole numbers, float64, and float32 in three shards."""
    net = description.build(["linear 10"], {}, (1, 28, 28), 10)
    constants = [torch.tensor([2**60 + 1]), torch.tensor([1 / 3], dtype=torch.float64), torch.tensor([True])]
    constants.append(torch.tensor([-torch.inf]))
    constants.append(torch.rand(1000, generator=torch.Generator().manual_seed(0)))
    for place, values in enumerate(constants):
        net.register_buffer(f"constant_{place}", values.clone())
    with Workers(1) as workers:
        gradient = sharded(net, torch.zeros(3, 28, 28, dtype=torch.uint8), 3, workers, 3)
        gradient.of(shards_of(torch.zeros(3, dtype=torch.int64), 1))
        gradient.merge_statistics()
    assert all(torch.equal(buffer, values) for buffer, values in zip(net.buffers(), constants, strict=True))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
def test_a_buffer_gets_the_mean_change_of_the_shards(dtype: torch.dtype) -> None:
    """From 5, by 2 in one shard and by 6 in the other: 9 in the net and in both replicas, of whatever type it is."""
    net = description.build(["linear 10"], {}, (1, 28, 28), 10)
    net.register_buffer("seen", torch.tensor([5], dtype=dtype))
    with Workers(1) as workers:
        gradient = sharded(net, torch.zeros(2, 28, 28, dtype=torch.uint8), 2, workers, 2)
        for replica, change in zip(gradient._replicas, (2, 6), strict=True):
            replica.seen += change
        gradient.merge_statistics()
    assert [of.seen.item() for of in (net, *gradient._replicas)] == [9, 9, 9]


def test_each_epoch_sees_each_image_once_in_another_order(data: fit.Data) -> None:
    """Full batches only, with their labels, in the recipe's shards; shifts go from 0 to twice the greatest, evenly."""
    recipe = Recipe(**RECIPE)
    epochs = [list(fit.batches(recipe, 0, epoch, data)) for epoch in (1, 2)]
    rows = [torch.cat([places[:, 0] for batch in batches for places, *_ in batch]) for batches in epochs]
    assert [len(batch) for batch in epochs[0]] == [4, 4]
    assert all(len(part.unique()) == 128 for part in rows)
    assert not torch.equal(*rows)
    for places, labels, _ in epochs[0][0]:
        assert torch.equal(labels, data.labels[places[:, 0]])
    shifts = torch.cat([places[:, 1:] for batch in epochs[0] for places, *_ in batch])
    assert sorted(set(itertools.chain(*shifts.tolist()))) == [0, 1, 2, 3, 4]


def test_images_are_moved() -> None:
    """The window in the middle is the image; the first is it moved down and right, black where nothing was.

    PyTorch's operations, which a GPU computes, give the same pixels.
    """
    images = torch.randint(256, (3, 28, 20), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    places = torch.tensor([[2, 2, 2], [0, 0, 0], [1, 4, 3]])
    pixels = Images(images, 2)(places)
    assert pixels.shape == (3, 1, 28, 20)
    assert torch.equal(pixels[0, 0], images[2] / 255)
    assert torch.equal(pixels[1, 0, 2:, 2:], images[0, :-2, :-2] / 255)
    assert not pixels[1, 0, :2].any()
    assert not pixels[1, 0, :, :2].any()
    assert torch.equal(pixels[2, 0, :-2, :-1], images[1, 2:, 1:] / 255)
    assert not pixels[2, 0, -2:].any()
    assert torch.equal(pixels, Images(images, 2).by_pytorch(places))
    assert torch.equal(pixels, Images(images, 2)(places.t().contiguous().t()))  # other strides
    assert torch.equal(Images(images, 0)(torch.tensor([[1, 0, 0]]))[0, 0], images[1] / 255)


def test_one_cycle_rises_and_falls() -> None:
    """From 0 to the learning rate at 20 % of the run, and back."""
    recipe = Recipe(**{**RECIPE, "schedule": "one_cycle", "learning_rate": 2.0})
    assert [round(recipe.scheduled_rate(p), 9) for p in (0.0, 0.1, 0.2, 0.6, 1.0)] == [0, 1, 2, 1, 0]


def test_a_small_data_set_gets_more_epochs(data: fit.Data) -> None:
    """Two steps an epoch: `min_steps: 5` makes three epochs of two; where `epochs` are enough, it changes nothing."""
    assert Recipe(**{**RECIPE, "min_steps": 5}).epochs_of(2) == 3
    assert fitted(data, min_steps=5) == fitted(data, epochs=3)
    assert fitted(data, min_steps=4) == fitted(data)


def test_the_curve_has_the_mean_loss_of_the_batches(data: fit.Data) -> None:
    """240 steps are 120 points of two steps each, beside a row for each epoch, in the order of the examples seen."""
    curve = fitted(data, epochs=120, shift=0, model=["conv 1 25", "linear 10"])[1]
    with fit.TRAINING.open() as table:
        rows = list(csv.DictReader(table))
    points = [row for row in rows if row["batch_loss"]]
    assert [int(row["examples"]) for row in points] == [128 * place for place in range(1, 121)]
    assert float(points[3]["batch_loss"]) == pytest.approx(sum(curve.losses[6:8]) / 2, abs=1e-6)
    epochs = [row for row in rows if row["epoch"]]
    assert [int(row["epoch"]) for row in epochs] == list(range(121))
    assert float(epochs[-1]["validation_loss"]) == pytest.approx(curve.epochs[-1][4], abs=1e-6)
    assert [int(row["examples"]) for row in rows] == sorted(int(row["examples"]) for row in rows)


def test_a_training_that_diverges_is_stopped(data: fit.Data) -> None:
    """At the first loss that is not finite: step, epoch and learning rate are named."""
    with pytest.raises(StageError, match=r"diverged: the loss of step \d+, in epoch [12], is (nan|inf); .* 1e\+30"):
        fitted(data, optimizer="sgd", learning_rate=1e30, model=["conv 4 5", "max_pool", "linear 10"])


def test_a_diverging_training_stops_at_once(data: fit.Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """No step follows the one whose loss is not finite: as many were taken as its message says."""
    taken = []
    step = fit.Optimizer.step
    monkeypatch.setattr(fit.Optimizer, "step", lambda *arguments: (taken.append(1), step(*arguments)))
    with pytest.raises(StageError, match="diverged") as error:
        fitted(data, optimizer="sgd", learning_rate=1e30, batch_size=8, model=["conv 4 5", "max_pool", "linear 10"])
    assert f"the loss of step {len(taken)}," in str(error.value)


def test_weights_that_are_not_finite_are_no_result(data: fit.Data) -> None:
    """A running variance overflows, while every loss is finite: the training ends in an error that names it."""
    model = ["normalize 0 1e-25", "conv 4 5 bias=false", "batch_norm", "relu", "linear 10"]
    with pytest.raises(StageError, match=r"diverged: 3_batch_norm\.running_var after epoch 1 is not finite; .* 0\.01"):
        fitted(data, model=model)
    with pytest.raises(StageError, match=r"^before the first step, train_loss is not finite; change the recipe's"):
        fitted(data, model=["normalize 0 1e-44", *model[1:]])
    recipe = Recipe(**{**RECIPE, "model": ["normalize 0 1e-44", *model[1:]]})
    assert fit.why_inexact(recipe, 0, data) == ""  # NaN is what it computes again


def test_the_training_data_are_the_official_training_set() -> None:
    """Images and labels of its files, not of the test set's, and the two lists of rows, which have each image once."""
    for part, first in (("train", 0), ("t10k", 100)):
        images = np.arange(first, first + 5, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
        files.write_whole(raw.FOLDER / f"{part}-images-idx3-ubyte", idx.encode(images))
        files.write_whole(raw.FOLDER / f"{part}-labels-idx1-ubyte", idx.encode(images[:, 0, 0] % 10))
    files.write_npy(stage.SPLIT / "train.npy", np.array([0, 2, 4]))
    files.write_npy(stage.SPLIT / "validation.npy", np.array([1, 3]))
    data = stage.read(torch.device("cpu"), 10)
    assert data.images.amax((1, 2)).tolist() == data.labels.tolist() == [0, 1, 2, 3, 4]
    assert (data.training.tolist(), data.validation.tolist()) == ([0, 2, 4], [1, 3])
    for rows in ([1], [1, 2], [0, 1, 3]):
        files.write_npy(stage.SPLIT / "validation.npy", np.array(rows))
        with pytest.raises(
            StageError, match=r"data/split: its two files do not have each of the 5 training images once"
        ):
            stage.read(torch.device("cpu"), 10)
    files.write_npy(stage.SPLIT / "validation.npy", np.array([1, 5]))
    with pytest.raises(StageError, match=r"validation\.npy: damaged \(.*, expected int64, of 0 to 4 in rising order\)"):
        stage.read(torch.device("cpu"), 10)


def test_loss_and_accuracy_of_known_logits() -> None:
    """Even logits cost ln 10; of two answers one is right."""
    logits = torch.zeros(2, 10)
    logits[1, 3] = 1e9
    loss, accuracy = inference.loss_and_accuracy(logits, torch.tensor([1, 3]))
    assert loss == pytest.approx(2.302585 / 2, abs=1e-6)
    assert accuracy == 0.5


def test_a_digest_is_of_names_dtypes_shapes_and_bytes() -> None:
    """Any of them changed changes it; the order of the names does not, nor how the tensor lies in memory."""
    a, b = torch.arange(6.0).reshape(2, 3), torch.ones(2)
    first = exact.digest({"a": a, "b": b})
    assert exact.digest({"b": b, "a": a.T.contiguous().T}) == first
    others = [{"a": a, "c": b}, {"a": a, "b": b.double()}, {"a": a.reshape(3, 2), "b": b}, {"a": a + 1, "b": b}]
    assert first not in {exact.digest(other) for other in others}

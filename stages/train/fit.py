"""The training loop: epochs of batches, each cut into shards, and the curve that grows while it runs."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from stages.common import files
from stages.common.errors import StageError
from stages.net import description, exact, inference, layers
from stages.net.workers import Workers
from stages.train import guard
from stages.train.checkpoint import Checkpoint, decode
from stages.train.distortion import distort
from stages.train.gradients import Shard, ShardedGradient, as_vector
from stages.train.images import Images
from stages.train.optimizer import Optimizer
from stages.train.processes import Processes
from stages.train.recipe import Recipe
from stages.train.step import step_of

TRAINING = Path("plots/training.csv")
MEASURES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
POINTS = 100  # of the loss of the batches in plots/training.csv, about
BAR = "{desc} {bar} {n_fmt}/{total_fmt} steps, {elapsed}, {remaining} left"
WRITTEN_TOGETHER = 10  # points: a write in each hundredth of a run would slow `quick` by a tenth


@dataclass(frozen=True)
class Data:
    """The official training set on the device, and which of its rows are for what."""

    images: Tensor  # (n, height, width) in grey, (n, height, width, 3) in colour; bytes
    labels: Tensor  # (n)
    training: Tensor  # rows
    validation: Tensor  # rows
    classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return (3 if self.images.dim() == 4 else 1, self.images.shape[1], self.images.shape[2])


@dataclass
class Curve:
    """What a training has measured so far."""

    losses: list[float] = field(default_factory=list)  # of each step: its batch, as it was trained on
    epochs: list[list[float]] = field(default_factory=list)  # epoch (0 is the untrained net), examples, MEASURES


def fit(
    recipe: Recipe, seed: int, data: Data, workers: Workers, processes: Processes, unfinished: Checkpoint
) -> tuple[nn.Module, Curve]:
    """Return the net trained by `recipe` from `seed`, and its curve.

    Goes on where `unfinished` was left, and leaves it at the last epoch. Raises StageError if there are too few images
    for a batch, or if the training diverges.
    """
    steps = steps_of(recipe, data)
    epochs = recipe.epochs_of(steps)
    net = untrained(recipe, seed, data)
    optimizer = make_optimizer(recipe, as_vector(net))
    curve = Curve()
    if state := processes.broadcast(unfinished.read() if processes.rank == 0 else b""):
        resume(state, net, optimizer, curve)
    images = data.images.clone() if recipe.distorts else data.images
    gradient = sharded_gradient(recipe, net, images, workers, processes)
    point = max(1, epochs * steps // POINTS)
    if curve.epochs and processes.rank == 0:
        write_curve(curve, recipe.batch_size, point)  # DVC deletes it before a stage runs
    silent = processes.rank > 0 or not sys.stderr.isatty()
    with tqdm(total=epochs * steps, initial=len(curve.losses), bar_format=BAR, disable=silent) as bar:
        for epoch in range(len(curve.epochs), epochs + 1):
            if epoch > 0:  # epoch 0 is the untrained net
                if recipe.distorts:
                    random = exact.generator(seed, "distortion", epoch)
                    distort(data.images, data.training, recipe, random, workers, out=images)
                pending: list[Tensor] = []  # on a GPU, a number is fetched only where it is needed
                for loss in train_epoch(recipe, seed, epoch, data, gradient, optimizer):
                    pending.append(loss)
                    bar.update()
                    due = (len(curve.losses) + len(pending)) % (WRITTEN_TOGETHER * point) == 0
                    if due or not loss.is_cuda:
                        curve.losses += checked(pending, curve, recipe)
                        pending.clear()
                    if due:
                        describe(bar, curve, epochs)
                        if processes.rank == 0:
                            write_curve(curve, recipe.batch_size, point)
                curve.losses += checked(pending, curve, recipe)
            measures = measure(net, data, workers)
            check_finite(net, measures, epoch, recipe)
            curve.epochs.append([epoch, epoch * steps * recipe.batch_size, *measures])
            describe(bar, curve, epochs)
            if processes.rank == 0:
                write_curve(curve, recipe.batch_size, point)
                print_epoch(curve, epochs)
                unfinished.save((net.state_dict(), optimizer.state(), curve.losses, curve.epochs))
    return net, curve


def steps_of(recipe: Recipe, data: Data) -> int:
    """Return how many batches an epoch has. Raises StageError if there are too few images for one."""
    size, count = recipe.batch_size, len(data.training)
    if size > count:
        raise StageError(f"the recipe's batch_size: got {size}, expected at most {count} (training images)")
    return count // size


def resume(state: bytes, net: nn.Module, optimizer: Optimizer, curve: Curve) -> None:
    """Give `net`, `optimizer` and `curve` the `state` that a checkpoint has."""
    net_state, optimizer_state, curve.losses, curve.epochs = decode(state)
    net.load_state_dict(net_state)
    optimizer.restore(optimizer_state)


def untrained(recipe: Recipe, seed: int, data: Data) -> nn.Module:
    """Return the recipe's net with its weights drawn."""
    net = description.build(recipe.model, recipe.options, data.shape, data.classes)
    description.draw_weights(net, exact.generator(seed, "weights"))
    return net.to(data.images.device)


def why_inexact(recipe: Recipe, seed: int, data: Data) -> str:
    """Return what could give other bits on another run or computer; nothing if the promise holds.

    A copy of the net is made, trains on one shard and predicts it, while the guard looks at each of PyTorch's
    operations. Raises StageError if the net cannot be trained, such as on shards that are too small for batch norm, if
    the loss does not depend on one of the parameters, or if a buffer that no file keeps is not a constant.
    """
    if data.images.device.type != "cpu":
        return "a GPU computes it"
    rows = data.training[: recipe.batch_size // recipe.shards]
    pixels = inference.scaled(data.images[rows])
    with guard.Guard() as watched:
        net, again = untrained(recipe, seed, data), untrained(recipe, seed, data)
        drawn = differing(net, again)
        layers.draw_from(net, exact.generator(seed, "dropout"))
        try:
            logits = net(pixels)
            loss = layers.cross_entropy(logits, data.labels[rows], recipe.label_smoothing, len(rows))
            loss.backward()
            net.load_state_dict(again.state_dict())
            layers.draw_from(net, exact.generator(seed, "dropout"))
            same = np.array_equal(net(pixels).detach(), logits.detach(), equal_nan=True)
            inference.predict(net, data.images[rows], Workers(1))
        except Exception as error:
            what = f"batch_size {recipe.batch_size}, shards {recipe.shards}: a shard cannot be trained"
            raise StageError(f"{what}{description.line_of(error)}: {type(error).__name__}: {error}") from None
    if idle := [name for name, parameter in net.named_parameters() if parameter.grad is None]:
        raise StageError(f"{recipe.model}: the loss has no gradient for {', '.join(idle)}; remove what is not trained")
    saved, changed = net.state_dict(), dict(net.named_buffers())
    if lost := [name for name, of in again.named_buffers() if name not in saved and not of.equal(changed[name])]:
        raise StageError(f"{recipe.model}: its copies differ in {', '.join(lost)}; make it a persistent buffer")
    other = "" if same else "from the same state and draws, a net computes other logits"
    different = f"each copy of the net has another {drawn}" if drawn else other
    return "; ".join(filter(None, (watched.reason(), different)))


def differing(net: nn.Module, other: nn.Module) -> str:
    """Return the names of the parameters and buffers of `net` that are not equal to those of `other`."""
    values = [(*of.named_parameters(), *of.named_buffers()) for of in (net, other)]
    return ", ".join(name for (name, one), (_, two) in zip(*values, strict=True) if not torch.equal(one, two))


def train_epoch(
    recipe: Recipe, seed: int, epoch: int, data: Data, gradient: ShardedGradient, optimizer: Optimizer
) -> Iterator[Tensor]:
    """Train for one epoch (1 is the first), and yield the loss of each batch when its step is done."""
    steps = steps_of(recipe, data)
    all_steps = recipe.epochs_of(steps) * steps
    for step, batch in enumerate(batches(recipe, seed, epoch, data), (epoch - 1) * steps + 1):
        loss, gradients = gradient.of(batch)
        optimizer.step(gradients, recipe.scheduled_rate(step / (all_steps + 1)))
        yield loss
    gradient.merge_statistics()


def checked(losses: list[Tensor], curve: Curve, recipe: Recipe) -> list[float]:
    """Return the next `losses` of `curve` as numbers. Raises StageError if one of them is not finite."""
    values: list[float] = torch.stack(losses).tolist() if losses else []
    for step, loss in enumerate(values, len(curve.losses) + 1):
        if not math.isfinite(loss):
            raise diverged(f"the loss of step {step}, in epoch {len(curve.epochs)}, is {loss}", recipe)
    return values


def check_finite(net: nn.Module, measures: list[float], epoch: int, recipe: Recipe) -> None:
    """Raise StageError if one of the MEASURES after `epoch`, a weight or a running statistic is not finite."""
    for name, values in [*zip(MEASURES, torch.tensor(measures), strict=True), *net.state_dict().items()]:
        if not values.isfinite().all():
            if epoch == 0:
                raise StageError(f"before the first step, {name} is not finite; change the recipe's model")
            raise diverged(f"{name} after epoch {epoch} is not finite", recipe)


def diverged(reason: str, recipe: Recipe) -> StageError:
    """Return the error of a training that went wrong for `reason`."""
    advice = f"the recipe's learning_rate is {recipe.learning_rate}: take a smaller one"
    if recipe.learning_rate * recipe.weight_decay > 1:  # above 2, the decay alone makes the weights grow
        advice += f", or less weight_decay, which is {recipe.weight_decay}"
    return StageError(f"the training diverged: {reason}; {advice}")


def write_curve(curve: Curve, batch_size: int, point: int) -> None:
    """Write plots/training.csv: a row for each `point` steps, with their mean loss, and a row for each epoch."""
    rows: list[list[Any]] = []
    for step in range(point, len(curve.losses) + 1, point):
        mean = math.fsum(curve.losses[step - point : step]) / point
        rows.append([step * batch_size, None, mean, *[None] * len(MEASURES)])
    rows += [[examples, epoch, None, *measures] for epoch, examples, *measures in curve.epochs]
    rows.sort(key=lambda row: row[0])
    files.write_csv(TRAINING, ("examples", "epoch", "batch_loss", *MEASURES), rows)


def describe(bar: "tqdm[Any]", curve: Curve, epochs: int) -> None:
    """Say on `bar` which epoch goes on, the mean loss of its last batches, and the last validation accuracy."""
    epoch, _, train_loss, *_, accuracy = curve.epochs[-1]
    last = curve.losses[-WRITTEN_TOGETHER:] or [train_loss]
    loss, epoch = math.fsum(last) / len(last), min(epoch + 1, epochs)
    bar.set_description_str(f"epoch {epoch}/{epochs}, loss {loss:.3f}, validation accuracy {accuracy:.2%}")


def print_epoch(curve: Curve, epochs: int) -> None:
    """Print what the last epoch measured, above the progress bar."""
    epoch, _, *measures = curve.epochs[-1]
    named = (f"{name} {value:.4f}" for name, value in zip(MEASURES, measures, strict=True))
    with tqdm.external_write_mode():
        print(f"epoch {epoch}/{epochs}:", *named, flush=True)


def sharded_gradient(
    recipe: Recipe, net: nn.Module, images: Tensor, workers: Workers, processes: Processes
) -> ShardedGradient:
    """Return what computes the gradients of the batches of `recipe`, of `images`."""
    arguments = (Images(images, recipe.shift), recipe.label_smoothing, recipe.batch_size)
    return ShardedGradient(net, recipe.shards, workers, processes, lambda replica: step_of(replica, *arguments))


def batches(recipe: Recipe, seed: int, epoch: int, data: Data) -> Iterator[list[Shard]]:
    """Yield the batches of an epoch, each as its shards. A shard has the places of its images (b, 3; a row, and how far
    the image is moved), their labels (b), and what makes the random generator of its dropout.

    Rows that fill no batch are left out, other rows in each epoch.
    """
    count, size = len(data.training), recipe.batch_size
    order = data.training[torch.randperm(count, generator=exact.generator(seed, "order", epoch))]
    shifts = torch.randint(2 * recipe.shift + 1, (count, 2), generator=exact.generator(seed, "shift", epoch))
    places, labels = torch.column_stack([order, shifts]), data.labels[order]
    for start in range(0, count - size + 1, size):
        parts = (values[start : start + size].tensor_split(recipe.shards) for values in (places, labels))
        draws = (partial(exact.generator, seed, "dropout", epoch, start, shard) for shard in range(recipe.shards))
        yield list(zip(*parts, draws, strict=True))


def make_optimizer(recipe: Recipe, parameters: Tensor) -> Optimizer:
    """Return the recipe's optimizer of the vector `parameters`, by PyTorch's defaults where the recipe says nothing."""
    beta1, beta2 = recipe.betas or (0.9, 0.999)
    return Optimizer(recipe.optimizer, parameters, recipe.weight_decay, recipe.momentum or 0.0, (beta1, beta2))


def measure(net: nn.Module, data: Data, workers: Workers) -> list[float]:
    """Return MEASURES of `net`. Those on the training part are of as many of its images as validation has."""
    alike = torch.arange(len(data.validation)) * len(data.training) // len(data.validation)
    measures: list[float] = []
    for rows in (data.training[alike], data.validation):
        logits = inference.predict(net, data.images[rows], workers)
        measures += inference.loss_and_accuracy(logits, data.labels[rows].cpu())
    return measures

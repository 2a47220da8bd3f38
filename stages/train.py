"""Train the net of a recipe: the same weights, bit for bit, on every run.

    python -m stages.train

Reads the training images and the two lists of rows in data/split; writes models/model.pt, metrics/train.json and,
row by row while it runs, plots/training.csv. `train` in params.yaml says seed, device and recipe, and
`recipes.NAME` all the rest.
"""

import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from stages.common import checkpoint, command, declared, errors, exact, files, idx, inference, nets, settings
from stages.common.gradients import ShardedGradient, as_vector
from stages.common.optimizer import Kind, Optimizer
from stages.common.processes import Processes
from stages.common.workers import Workers, available

RAW = Path("data/raw/MNIST/raw")
SPLIT = Path("data/split")
MODEL, METRICS, TRAINING = Path("models/model.pt"), Path("metrics/train.json"), Path("plots/training.csv")
MEASURES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
PREDICT_BATCH = 500
WARM_UP = 0.2  # the share of a one-cycle run in which the learning rate rises
Row = list[float]
Shard = tuple[Tensor, Tensor, torch.Generator]


class Train(settings.Settings):
    """The section `train` of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    device: Literal["auto", "cpu", "cuda"]
    recipe: str


class Recipe(settings.Settings):
    """One block under `recipes` in params.yaml."""

    model: list[str]
    optimizer: Kind
    learning_rate: Annotated[float, Field(gt=0)]
    schedule: Literal["constant", "one_cycle"]
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None  # of sgd
    betas: list[Annotated[float, Field(ge=0, lt=1)]] | None = None  # of adam and adamw
    batch_size: Annotated[int, Field(ge=1)]
    shards: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    shift: Annotated[int, Field(ge=0, le=8)] = 0  # pixels, at most, in each direction
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @field_validator("model")
    @classmethod
    def _can_be_built(cls, model: list[str]) -> list[str]:
        nets.build(model)
        return model

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.shards > self.batch_size:
            raise ValueError(f"shards ({self.shards}) no greater than batch_size ({self.batch_size})")
        if self.optimizer == "sgd" and self.betas is not None:
            raise ValueError("no `betas` with the optimizer sgd, which has `momentum`")
        if self.optimizer != "sgd" and self.momentum is not None:
            raise ValueError(f"no `momentum` with the optimizer {self.optimizer}, which has `betas`")
        if self.betas is not None and len(self.betas) != 2:
            raise ValueError("two `betas`")
        return self


@dataclass(frozen=True)
class Data:
    """The official training set on the device, and which of its rows are for what."""

    images: Tensor  # (n, 28, 28), bytes
    labels: Tensor  # (n)
    training: Tensor  # rows
    validation: Tensor  # rows


def main() -> None:
    """Train, and write the model, its metrics and its curve."""
    exact.pin()
    train = settings.load("train", Train)
    recipe = settings.load(f"recipes.{train.recipe}", Recipe)
    device = choose(train.device)
    configuration = checkpoint.configuration(declared.fingerprint("train"), device)
    unfinished = checkpoint.Checkpoint(configuration)
    with Processes(device) as processes, Workers(available() if device.type == "cpu" else 1) as workers:
        processes.agree(configuration)
        net, curve = fit(recipe, train.seed, read(device), workers, processes, unfinished)
    if processes.rank > 0:
        return  # the first process writes for all
    weights = {name: value.cpu().clone() for name, value in net.state_dict().items()}  # without the whole vector
    content = io.BytesIO()
    digest = exact.digest(weights)
    model = {"recipe": train.recipe, "layers": recipe.model, "weights": weights, "weights_sha256": digest}
    torch.save(model, content)
    files.write_whole(MODEL, content.getvalue())
    final = dict(zip(MEASURES, curve[-1][2:], strict=True))
    parameters = sum(parameter.numel() for parameter in net.parameters())
    files.write_json(METRICS, {"weights_sha256": digest, "parameters": parameters, **final})
    unfinished.delete()


def choose(device: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Return the device to train on; `auto` is the GPU if there is one. Raises StageError if it is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise errors.StageError("params.yaml: train.device: got 'cuda', but PyTorch finds no GPU; take auto or cpu")
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def read(device: torch.device) -> Data:
    """Return what the stages download and split wrote."""
    images = torch.from_numpy(idx.read(RAW / "train-images-idx3-ubyte").copy())
    labels = torch.from_numpy(idx.read(RAW / "train-labels-idx1-ubyte").astype(np.int64))
    training, validation = (torch.from_numpy(np.load(SPLIT / f"{part}.npy")) for part in ("train", "validation"))
    return Data(images.to(device), labels.to(device), training, validation)


def fit(
    recipe: Recipe, seed: int, data: Data, workers: Workers, processes: Processes, unfinished: checkpoint.Checkpoint
) -> tuple[nn.Module, list[Row]]:
    """Return the net trained by `recipe` from `seed`, and a row for each epoch, 0 being the untrained net.

    A row is epoch, examples seen and MEASURES. Goes on where `unfinished` was left, and leaves it at the last epoch.
    """
    steps = len(data.training) // recipe.batch_size
    if steps == 0:
        raise errors.StageError(
            f"params.yaml: batch_size: got {recipe.batch_size}, expected at most {len(data.training)} (training images)"
        )
    net = nets.build(recipe.model)
    nets.draw_weights(net, exact.generator(seed, "weights"))
    net.to(data.images.device)
    optimizer = make_optimizer(recipe, as_vector(net))
    curve: list[Row] = []
    if state := processes.from_first(unfinished.read()):
        net_state, optimizer_state, curve = checkpoint.decode(state)
        net.load_state_dict(net_state)
        optimizer.restore(optimizer_state)
        if processes.rank == 0:
            report(curve, recipe.epochs)
    gradient = ShardedGradient(net, recipe.shards, workers, processes)
    silent = processes.rank > 0 or not sys.stderr.isatty()
    with tqdm(total=recipe.epochs * steps, unit="step", disable=silent) as bar:
        for epoch in range(len(curve), recipe.epochs + 1):
            bar.update(max(epoch - 1, 0) * steps - bar.n)
            if epoch > 0:  # epoch 0 is the untrained net
                for _ in train_epoch(recipe, seed, epoch, data, gradient, optimizer):
                    bar.update()
            curve.append([epoch, epoch * steps * recipe.batch_size, *measure(net, data, workers)])
            if processes.rank == 0:
                report(curve, recipe.epochs)
                unfinished.save((net.state_dict(), optimizer.state(), curve))
    return net, curve


def train_epoch(
    recipe: Recipe, seed: int, epoch: int, data: Data, gradient: ShardedGradient, optimizer: Optimizer
) -> Iterator[int]:
    """Train for one epoch (1 is the first), and yield the number of each step of the run when it is done."""
    windows = shifted_windows(data.images, recipe.shift)
    steps = len(data.training) // recipe.batch_size

    def loss(replica: nn.Module, shard: Shard) -> Tensor:
        rows, shift, random = shard
        nets.draw_from(replica, random)
        logits = replica(inference.scaled(windows[rows, shift[:, 0], shift[:, 1]]))
        smoothing = recipe.label_smoothing
        loss = functional.cross_entropy(logits, data.labels[rows], reduction="sum", label_smoothing=smoothing)
        return loss / recipe.batch_size

    for step, batch in enumerate(batches(recipe, seed, epoch, data.training), (epoch - 1) * steps + 1):
        learning_rate = recipe.learning_rate * schedule(recipe, step / (recipe.epochs * steps + 1))
        optimizer.step(gradient.of(loss, batch), learning_rate)
        yield step
    gradient.merge_statistics()


def report(curve: list[Row], epochs: int) -> None:
    """Write the curve so far and, where nobody sees a progress bar, a line."""
    files.write_csv(TRAINING, ("epoch", "examples", *MEASURES), curve)
    if not sys.stderr.isatty():
        epoch, _, *measures = curve[-1]
        named = (f"{name} {value:.4f}" for name, value in zip(MEASURES, measures, strict=True))
        print(f"epoch {epoch}/{epochs}:", *named, flush=True)


def batches(recipe: Recipe, seed: int, epoch: int, training: Tensor) -> Iterator[list[Shard]]:
    """Yield the batches of an epoch, each as its shards: rows (b), their shifts (b, 2; down and right), and what its
    dropout draws from.

    Rows that fill no batch are left out, other rows in each epoch.
    """
    order = training[torch.randperm(len(training), generator=exact.generator(seed, "order", epoch))]
    random = exact.generator(seed, "shift", epoch)
    shifts = torch.randint(2 * recipe.shift + 1, (len(training), 2), generator=random)
    for start in range(0, len(training) - recipe.batch_size + 1, recipe.batch_size):
        batch = slice(start, start + recipe.batch_size)
        parts = (values[batch].tensor_split(recipe.shards) for values in (order, shifts))
        draws = (exact.generator(seed, "dropout", epoch, start, shard) for shard in range(recipe.shards))
        yield list(zip(*parts, draws, strict=True))


def shifted_windows(images: Tensor, shift: int) -> Tensor:
    """Return a view (n, 2 shift + 1, 2 shift + 1, 28, 28) of all the shifted copies of `images` (n, 28, 28).

    The middle of the two axes is the image as it is.
    """
    padded = functional.pad(images, (shift,) * 4)
    return padded.unfold(1, 28, 1).unfold(2, 28, 1)


def make_optimizer(recipe: Recipe, parameters: Tensor) -> Optimizer:
    """Return the recipe's optimizer of the vector `parameters`, by PyTorch's defaults where the recipe says nothing."""
    beta1, beta2 = recipe.betas or (0.9, 0.999)
    return Optimizer(recipe.optimizer, parameters, recipe.weight_decay, recipe.momentum or 0.0, (beta1, beta2))


def schedule(recipe: Recipe, progress: float) -> float:
    """Return the share of the learning rate to use at `progress` (0..1) of the run.

    `one_cycle` rises in a line over the first 20 % and falls in a line to 0 (after Smith and Topin 2018).
    """
    if recipe.schedule == "constant":
        return 1.0
    return min(progress / WARM_UP, (1 - progress) / (1 - WARM_UP))


def measure(net: nn.Module, data: Data, workers: Workers) -> list[float]:
    """Return MEASURES of `net`. Those on the training part are of as many of its images as validation has."""
    alike = torch.arange(len(data.validation)) * len(data.training) // len(data.validation)
    measures: list[float] = []
    for rows in (data.training[alike], data.validation):
        logits = inference.predict(net, data.images[rows], PREDICT_BATCH, workers)
        measures += inference.loss_and_accuracy(logits, data.labels[rows].cpu())
    return measures


if __name__ == "__main__":
    command.run("train", main, __doc__)

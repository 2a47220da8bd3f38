"""Training as a textbook has it, for `fit` to agree with: torch.optim, autograd and float64, in one loop.

It takes the recipe's draws (weights, order, shifts, dropout) and distorted images where `fit` takes them, and does all
the rest in the plainest way. A batch is cut into shards only where the net's layers tell them apart.
"""

from itertools import count

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from stages.net import description, exact, layers
from stages.net.workers import Workers
from stages.train import distortion
from stages.train.fit import Data
from stages.train.recipe import Recipe

Measures = list[list[float]]  # of each epoch: loss and accuracy of training images, then those of validation


def train(recipe: Recipe, seed: int, data: Data) -> tuple[dict[str, Tensor], list[float], Measures]:
    """Return the weights after `recipe.epochs` epochs, the loss of each step, and what each epoch measured."""
    net = description.build(recipe.model, recipe.options, (1, 28, 28), 10)
    description.draw_weights(net, exact.generator(seed, "weights"))
    net.double()
    apart = any(isinstance(layer, nn.BatchNorm2d | layers.Dropout) for layer in net)
    shards = recipe.shards if apart else 1
    optimizer = make_optimizer(recipe, net)
    size, rows = recipe.batch_size, len(data.training)
    steps = recipe.epochs * (rows // size)
    losses, measures, numbers = [], [measure(net, data)], count(1)
    for epoch in range(1, recipe.epochs + 1):
        order = data.training[torch.randperm(rows, generator=exact.generator(seed, "order", epoch))]
        shifts = torch.randint(2 * recipe.shift + 1, (rows, 2), generator=exact.generator(seed, "shift", epoch))
        images = data.images.clone()
        if recipe.distorts:
            with Workers(1) as workers:
                random = exact.generator(seed, "distortion", epoch)
                distortion.distort(data.images, data.training, recipe, random, workers, out=images)
        statistics = [{name: values.clone() for name, values in net.named_buffers()} for _ in range(shards)]
        for start in range(0, rows - size + 1, size):
            batch = slice(start, start + size)
            parts = zip(order[batch].tensor_split(shards), shifts[batch].tensor_split(shards), strict=True)
            net.train()
            loss = torch.zeros((), dtype=torch.float64)
            for shard, (of_shard, moves) in enumerate(parts):
                layers.draw_from(net, exact.generator(seed, "dropout", epoch, start, shard))
                pixels = torch.stack(
                    [
                        moved(images[row], *move)
                        for row, move in zip(of_shard, (moves - recipe.shift).tolist(), strict=True)
                    ]
                )
                logits = functional_call(net, statistics[shard], (pixels[:, None] / 255,))
                loss = loss + cross_entropy(logits, data.labels[of_shard], recipe.label_smoothing).sum() / size
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, next(numbers) / (steps + 1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        for name, values in net.named_buffers():
            values.copy_(torch.stack([of_shard[name].double() for of_shard in statistics]).mean(0))
        measures.append(measure(net, data))
    return net.state_dict(), losses, measures


def make_optimizer(recipe: Recipe, net: nn.Module) -> torch.optim.Optimizer:
    """Return PyTorch's own class, by its own defaults where the recipe says nothing."""
    decay = recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(net.parameters(), lr=1.0, momentum=recipe.momentum or 0.0, weight_decay=decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    betas = {"betas": tuple(recipe.betas)} if recipe.betas else {}
    return kind(net.parameters(), lr=1.0, weight_decay=decay, **betas)


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Return the rate at `progress` (0..1): constant, or in two lines up to a fifth of the run and down to its end."""
    if recipe.schedule == "constant":
        return recipe.learning_rate
    return float(np.interp(progress, [0, 0.2, 1], [0, recipe.learning_rate, 0]))


def moved(image: Tensor, up: int, left: int) -> Tensor:
    """Return `image` (28, 28) moved by so many pixels; what comes in is black."""
    result = np.zeros((28, 28))
    rows, columns = np.mgrid[:28, :28]
    there = (rows + up >= 0) & (rows + up < 28) & (columns + left >= 0) & (columns + left < 28)
    result[there] = image.numpy()[rows[there] + up, columns[there] + left]
    return torch.from_numpy(result)


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Return the cross-entropy of each of the `logits` (n, 10), with the label's weight shared among all classes."""
    wanted = torch.full_like(logits, smoothing / 10)
    wanted[torch.arange(len(labels)), labels] += 1 - smoothing
    return -(wanted * (logits - logits.logsumexp(1, keepdim=True))).sum(1)


def measure(net: nn.Module, data: Data) -> list[float]:
    """Return loss and accuracy: of as many training images as there are for validation, evenly spread, and of those."""
    every = [place * len(data.training) // len(data.validation) for place in range(len(data.validation))]
    net.eval()
    found = []
    for rows in (data.training[every], data.validation):
        with torch.no_grad():
            logits = net(data.images[rows][:, None].double() / 255)
        found.append(cross_entropy(logits, data.labels[rows], 0.0).mean().item())
        found.append((logits.argmax(1) == data.labels[rows]).double().mean().item())
    return found

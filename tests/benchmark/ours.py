"""What is measured of this project, each in a process of its own."""

import contextlib
import io
import os
import resource
import tempfile
import threading
import time
from typing import Any

import torch
from stages.common.gradients import ShardedGradient, as_vector
from stages.common.processes import Processes
from stages.common.workers import Workers

from stages import train
from stages.common import checkpoint, exact, inference, nets, settings
from stages.evaluate import read_test_set

CPU = torch.device("cpu")


def matrix_peak(threads: int) -> float:
    """Return the FLOP/s of float32 matrix products of 1024 x 1024, a thread each on `threads` cores."""
    exact.pin()
    repeats, n = 40, 1024

    def multiply() -> None:
        torch.set_num_threads(1)
        left, right = torch.rand(n, n), torch.rand(n, n)
        for _ in range(repeats):
            torch.mm(left, right)

    multiply()
    start = time.perf_counter()
    running = [threading.Thread(target=multiply) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return threads * repeats * 2 * n**3 / (time.perf_counter() - start)


def trained(name: str, seed: int, threads: int, changes: dict[str, Any]) -> dict[str, float]:
    """Train the recipe `name` on MNIST in data/, and return what the table shows: seconds, bytes and FLOP."""
    exact.pin()
    recipe = settings.load(f"recipes.{name}", train.Recipe).model_copy(update=changes)
    data, (images, labels) = train.read(CPU), read_test_set()
    os.chdir(tempfile.mkdtemp())  # the curve and the checkpoint go there
    silent = contextlib.redirect_stdout(io.StringIO())
    with Workers(threads) as workers, Processes(CPU) as processes, silent:
        start = time.perf_counter()
        net, curve = train.fit(recipe, seed, data, workers, processes, checkpoint.Checkpoint("benchmark"))
        seconds = time.perf_counter() - start
        accuracy = inference.loss_and_accuracy(inference.predict(net, images, 500, workers), labels)[1]
    return {
        "seconds": seconds,
        "accuracy": accuracy,
        "validation_accuracy": curve[-1][5],
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "flop": flop(net, images_trained=int(curve[-1][1]), images_measured=len(curve) * 2 * len(data.validation)),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def flop(net: torch.nn.Module, images_trained: int, images_measured: int) -> float:
    """Return the multiplications and additions in the convolutions for so many images to train on and to measure."""
    total, first = 0, True
    values = torch.zeros(1, *nets.PIXELS)
    for layer in net.eval():  # type: ignore[attr-defined]
        values = layer(values)
        if isinstance(layer, torch.nn.Conv2d):
            # the gradient of the pixels is not computed, so in training the first layer is gone through twice, the
            # others thrice
            passes = images_trained * (2 if first else 3) + images_measured
            total += 2 * values.numel() * layer.weight[0].numel() * passes
            first = False
    return total


def images_a_second(recipe: train.Recipe, threads: int, steps: int) -> float:
    """Return how many images a second `steps` steps of `recipe` take, after five to warm up."""
    exact.pin()
    data = train.read(CPU)
    net = nets.build(recipe.model)
    nets.draw_weights(net, exact.generator(0, "weights"))
    optimizer = train.make_optimizer(recipe, as_vector(net))
    start = 0.0
    with Workers(threads) as workers, Processes(CPU) as processes:
        gradient = ShardedGradient(net, recipe.shards, workers, processes)
        for step in train.train_epoch(recipe, 0, 1, data, gradient, optimizer):
            if step == 5:
                start = time.perf_counter()
            if step == 5 + steps:
                break
    return steps * recipe.batch_size / (time.perf_counter() - start)

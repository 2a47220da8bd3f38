"""What is measured of this project, each in a process of its own."""

import contextlib
import io
import os
import tempfile
import threading
import time
from typing import Any

import numpy as np
import torch

from stages.common import raw, settings
from stages.net import description, exact, inference
from stages.net.kernels import compiler
from stages.net.kernels.code import Code, Pointer, Value
from stages.net.workers import Workers
from stages.train import recipe as recipes
from stages.train.checkpoint import Checkpoint
from stages.train.fit import fit, make_optimizer, sharded_gradient, train_epoch
from stages.train.gradients import as_vector
from stages.train.main import read
from stages.train.processes import Processes

CPU = torch.device("cpu")


SUMS = 12  # independent ones, so that none waits for the one before; they fit the registers of every CPU


def peak(code: Code, y: Pointer, count: Value) -> None:
    """SUMS vectors y = y y0 + y0, `count` times: a kernel that does nothing but fused multiply-adds in registers."""
    lanes = code.target.lanes
    sums, factor = [code.variable((y + at * lanes).load(lanes)) for at in range(SUMS)], y.load(lanes)
    with code.loop(count):
        for total in sums:
            total.store(code.fma(total.load(), factor, factor))
    for at, total in enumerate(sums):
        (y + at * lanes).store(total.load(), lanes)


def compilation() -> float:
    """Return the seconds of CPU that compiling all kernels takes, in a process that has compiled nothing."""
    start = time.process_time()
    compiler.compiled(compiler.host())
    return time.process_time() - start


def fma_peak(threads: int) -> float:
    """Return the FLOP/s of fused multiply-adds in registers, a thread each on `threads` cores."""
    compiler.KERNELS.clear()  # this process does nothing else
    compiler.kernel("f32* y, i64 count")(peak)
    target, count = compiler.host(), 30_000_000
    kernels = compiler.Kernels(target, compiler.compiled(target))

    def multiply() -> None:
        values = torch.full((SUMS * target.lanes,), 0.5)
        arguments = torch.tensor([values.data_ptr(), count])
        command = torch.tensor([kernels.addresses["peak"], arguments.data_ptr()])
        kernels.run(command.data_ptr(), 1)

    start = time.perf_counter()
    running = [threading.Thread(target=multiply) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return threads * count * SUMS * target.lanes * 2 / (time.perf_counter() - start)


def trained(name: str, seed: int, threads: int, changes: dict[str, Any]) -> dict[str, float]:
    """Train the recipe `name` on MNIST in data/, and return what the table shows: seconds, accuracy and FLOP."""
    exact.pin()
    recipe = settings.load(recipes.Recipe, path=recipes.path(name)).model_copy(update=changes)
    images, labels = torch.from_numpy(raw.images("t10k").copy()), torch.from_numpy(raw.labels("t10k").astype(np.int64))
    data = read(CPU, 10)
    os.chdir(tempfile.mkdtemp())  # the curve and the checkpoint go there
    silent = contextlib.redirect_stdout(io.StringIO())
    with Workers(threads) as workers, Processes(CPU, "") as processes, silent:
        start = time.perf_counter()
        net, curve = fit(recipe, seed, data, workers, processes, Checkpoint("benchmark"))
        seconds = time.perf_counter() - start
        accuracy = inference.loss_and_accuracy(inference.predict(net, images, workers), labels)[1]
    return {
        "seconds": seconds,
        "accuracy": accuracy,
        "validation_accuracy": curve.epochs[-1][5],
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "flop": flop(
            net, images_trained=int(curve.epochs[-1][1]), images_measured=len(curve.epochs) * 2 * len(data.validation)
        ),
    }


def flop(net: torch.nn.Module, images_trained: int, images_measured: int) -> float:
    """Return the multiplications and additions in the convolutions for so many images to train on and to measure."""
    products: list[int] = []  # of each layer, for one image
    for layer in net.eval().modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(lambda of, _, made: products.append(made.numel() * of.weight[0].numel()))
    net(torch.zeros(1, 1, 28, 28))
    # the gradient of the pixels is not computed, so in training the first layer is gone through twice, others thrice
    return 2 * (sum(products) * (3 * images_trained + images_measured) - products[0] * images_trained)


def images_a_second(recipe: recipes.Recipe, threads: int, steps: int) -> float:
    """Return how many images a second `steps` steps of `recipe` take, after five to warm up."""
    exact.pin()
    data = read(CPU, 10)
    net = description.build(recipe.model, recipe.options, (1, 28, 28), 10)
    description.draw_weights(net, exact.generator(0, "weights"))
    optimizer = make_optimizer(recipe, as_vector(net))
    start = 0.0
    with Workers(threads) as workers, Processes(CPU, "") as processes:
        gradient = sharded_gradient(recipe, net, data.images, workers, processes)
        for step, _ in enumerate(train_epoch(recipe, 0, 1, data, gradient, optimizer), start=1):
            if step == 5:
                start = time.perf_counter()
            if step == 5 + steps:
                break
    return steps * recipe.batch_size / (time.perf_counter() - start)

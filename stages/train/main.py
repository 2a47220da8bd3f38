"""Train the net of a recipe: the same weights, bit for bit, on every run.

    python -m stages.train

Reads the training images, and the two lists of rows in data/split. Writes models/model.pt, metrics/train.json and,
while it runs, plots/training.csv. `train` in params.yaml says which recipe, random seed and device, and
recipes/NAME.yaml all the rest.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from stages.common import declared, errors, files, raw, settings
from stages.net import description, exact, model
from stages.net.workers import Workers, available
from stages.train import checkpoint, recipe
from stages.train.fit import MEASURES, Data, fit, why_inexact
from stages.train.processes import Processes, variable

SPLIT, METRICS = Path("data/split"), Path("metrics/train.json")
METRICS_DIGITS = 12  # hexadecimal, of the weights' digest; the model file has all 64


class Train(settings.Settings):
    """The section `train` of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    device: Literal["cpu", "cuda"]
    recipe: str
    exact: Literal["required"] | None = None  # refuse a training whose bits may differ on another CPU


def main() -> None:
    """Train, and write the model, its metrics and its curve."""
    exact.pin()
    train = settings.load(Train, "train")
    chosen = settings.load(recipe.Recipe, path=recipe.path(train.recipe))
    device = find(train.device)
    configuration = checkpoint.configuration(declared.fingerprint("train"), device)
    unfinished = checkpoint.Checkpoint(configuration)
    with (
        Processes(device, configuration) as processes,
        Workers(available() if device.type == "cpu" else 1) as workers,
    ):
        if processes.rank == 0:
            exact.warn_of_other_versions("torch", "numpy")
            if device.type == "cpu" and torch.cuda.is_available():
                print("a GPU is available; to use it: dvc exp run -S train.device=cuda", file=sys.stderr)
        data = raw.describe()
        images = read(device, len(data.classes))
        chosen = fitted(chosen, recipe.path(train.recipe), images)
        if (inexact := why_inexact(chosen, train.seed, images)) and train.exact == "required":
            raise errors.StageError(f"params.yaml: train.exact: got 'required', but the bits may differ: {inexact}")
        if inexact and processes.rank == 0:
            print(f"the bits may differ on another run or computer: {inexact}", file=sys.stderr)
        net, curve = fit(chosen, train.seed, images, workers, processes, unfinished)
    if processes.rank > 0:
        return  # the first process writes for all
    ran = exact.environment(device)
    environment = ran if inexact else {"device": ran["device"]}  # of an exact run, no version decides anything
    origin = {"recipe": train.recipe, "model": chosen.model, "options": chosen.options, "data": data.model_dump()}
    digest = model.write(origin | {"environment": environment | {"exact": not inexact}}, net)
    final = dict(zip(MEASURES, curve.epochs[-1][2:], strict=True))
    parameters = sum(parameter.numel() for parameter in net.parameters())
    metrics = {"weights_sha256": digest[:METRICS_DIGITS], "parameters": parameters, **final}
    files.write_json(METRICS, metrics | ({"exact": f"no: {inexact}"} if inexact else {}))
    unfinished.delete()
    accuracy = final["validation_accuracy"]
    print(f"trained with Python {ran['python']}, PyTorch {ran['torch']}, NumPy {ran['numpy']}")
    print(f"{model.MODEL}: validation accuracy {accuracy:.2%}, weights {digest[:METRICS_DIGITS]}")


def find(device: Literal["cpu", "cuda"]) -> torch.device:
    """Return the device to train on. Raises StageError if it is not there."""
    if device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise errors.StageError("params.yaml: train.device: got 'cuda', but PyTorch finds no GPU; expected 'cpu'")
    return torch.device("cuda", variable("LOCAL_RANK", 0, torch.cuda.device_count() - 1, default="0"))


def fitted(chosen: recipe.Recipe, path: Path, data: Data) -> recipe.Recipe:
    """Return the recipe `chosen` for `data`, whose mean and standard deviation a bare `normalize` gets.

    These are of the training images. Raises StageError, which names the recipe's `path`, if a layer does not fit.
    """
    model = chosen.model
    if not isinstance(model, str) and "normalize" in model:
        images = data.images[data.training].reshape(-1)
        count = torch.bincount(images, minlength=256).tolist()  # whole numbers, so that no bit depends on an order
        mean = sum(value * of for value, of in enumerate(count)) / len(images)
        variance = sum((value - mean) ** 2 * of for value, of in enumerate(count)) / len(images)
        normalize = f"normalize {round(mean / 255, 4)} {round(variance**0.5 / 255, 4)}"
        model = [normalize if line == "normalize" else line for line in model]
    try:
        description.build(model, chosen.options, data.shape, data.classes)
    except ValueError as error:
        channels, height, width = data.shape
        what = f"images of {height} x {width} pixels, {channels} to a pixel, in {data.classes} classes"
        raise errors.StageError(f"{path}: does not fit {what}\n  model: expected {error}") from None
    return chosen.model_copy(update={"model": model})


def read(device: torch.device, classes: int) -> Data:
    """Return what the stages download and split wrote. Raises StageError if it is damaged."""
    images = torch.from_numpy(raw.images("train"))
    labels = torch.from_numpy(raw.labels("train").astype(np.int64))
    training, validation = (
        torch.from_numpy(files.read_rows(SPLIT / f"{part}.npy", len(images))) for part in ("train", "validation")
    )
    if not torch.equal(torch.cat([training, validation]).sort().values, torch.arange(len(labels))):
        raise errors.StageError(
            f"{SPLIT}: its two files do not have each of the {len(labels)} training images once; delete it and run"
            " `dvc repro`"
        )
    return Data(images.to(device), labels.to(device), training, validation, classes)

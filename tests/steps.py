"""The bits after two steps of each recipe, and after 20 steps in shards of few and of many images: a digest for each.

    python -m tests.steps > tests/steps.json

writes again what tests/test_arithmetic.py compares with. tests/test_exact.py runs it on emulated CPUs, too.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from stages.common import settings
from stages.net import exact, inference
from stages.net.workers import Workers
from stages.train import checkpoint, fit, recipe
from stages.train.processes import Processes

PROJECT = Path(__file__).parent.parent
KNOWN = Path(__file__).with_suffix(".json")
RECIPES = sorted(path.stem for path in PROJECT.glob("recipes/*.yaml"))
LONGER = ("fast", "cnn_10_20", "convnet_4_8", "residual")
SHARDED = {f"{name}, shards of {images}": (name, images) for name in LONGER for images in (1, 3, 15, 64)}
NAMES = [*RECIPES, *SHARDED]


def known() -> dict[str, str]:
    """Return the digests that are committed."""
    found: dict[str, str] = json.loads(KNOWN.read_text())
    return found


class Unsaved(checkpoint.Checkpoint):
    """A checkpoint of nothing."""

    def __init__(self) -> None:
        pass

    def save(self, state: Any) -> None:
        """Keep nothing: these runs are not interrupted."""

    def read(self) -> bytes:
        """Return that there is nothing to go on from."""
        return b""


def made_up(count: int, training: int) -> fit.Data:
    """Return `count` random images, the first `training` of them to train on and the others to validate."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 28, 28), dtype=torch.uint8, generator=random)
    labels = torch.randint(10, (count,), generator=random)
    return fit.Data(images, labels, torch.arange(training), torch.arange(training, count), classes=10)


def digest(name: str) -> str:
    """Return the SHA-256 (16 hex digits) of weights, losses and logits after some steps, for one of NAMES."""
    of, images = SHARDED.get(name, (name, None))
    chosen = settings.load(recipe.Recipe, path=PROJECT / recipe.path(of))
    size = images * chosen.shards if images else chosen.batch_size
    steps = 20 if images else 2
    chosen = chosen.model_copy(update={"batch_size": size, "epochs": 1, "min_steps": 0})
    data = made_up(steps * size + 20, training=steps * size)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(sys.stderr),
        Processes(torch.device("cpu"), "") as processes,
        Workers(2) as workers,
    ):
        net, curve = fit.fit(chosen, 0, data, workers, processes, Unsaved())
        logits = inference.predict(net, data.images[data.validation], workers)
    losses = torch.tensor(curve.losses, dtype=torch.float64)
    return exact.digest({**net.state_dict(), "losses": losses, "logits": logits})[:16]


if __name__ == "__main__":
    exact.pin()
    print(json.dumps({name: digest(name) for name in sys.argv[1:] or NAMES}, indent=2))

"""The arithmetic of training: that of a plain loop, within float32; and known bits after some steps of each recipe."""

from pathlib import Path
from typing import Any

import pytest
import torch

from stages.net.workers import Workers
from stages.train import fit
from stages.train.processes import Processes
from stages.train.recipe import Recipe
from tests import plain, steps

SHARDED = ["normalize 0.5 0.5", "conv 6 5 bias=false", "max_pool", "batch_norm", "relu", "conv 8 3", "linear 10"]
WHOLE = ["normalize 0.1 0.3", "conv 6 5", "max_pool", "relu", "linear 10"]
DROPOUT = ["conv 6 5", "dropout_2d 0.4", "max_pool", "relu", "dropout 0.3", "linear 10"]
ADAM = {"learning_rate": 0.01, "betas": [0.6, 0.8], "weight_decay": 0.5}
SGD = {"optimizer": "sgd", "learning_rate": 0.1}
CASES: dict[str, dict[str, Any]] = {
    "adamw": {"model": WHOLE, "optimizer": "adamw", **ADAM},
    "adam": {"model": WHOLE, "optimizer": "adam", **ADAM},
    "adam by PyTorch's defaults": {"model": WHOLE, "optimizer": "adam", "learning_rate": 0.01},
    "sgd": {"model": WHOLE, **SGD},
    "sgd with momentum and weight decay": {"model": WHOLE, **SGD, "momentum": 0.7, "weight_decay": 0.5},
    "one_cycle": {"model": WHOLE, **SGD, "schedule": "one_cycle"},
    "shift": {"model": WHOLE, **SGD, "shift": 3},
    "distortion": {"model": WHOLE, **SGD, "rotate": 20, "scale": 0.2, "elastic": 2, "flip": True},
    "label smoothing": {"model": WHOLE, **SGD, "label_smoothing": 0.3},
    "dropout": {"model": DROPOUT, **SGD},
    "batch norm": {"model": SHARDED, **SGD},
    "all": {
        "model": SHARDED,
        "optimizer": "adamw",
        **ADAM,
        "schedule": "one_cycle",
        "shift": 2,
        "label_smoothing": 0.1,
    },
}


@pytest.mark.parametrize("case", CASES)
def test_fit_agrees_with_a_plain_loop(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of three batches of three shards: weights, statistics, losses and measures are those of plain code."""
    monkeypatch.chdir(tmp_path)
    recipe = Recipe(**{"schedule": "constant", "batch_size": 20, "shards": 3, "epochs": 2, **CASES[case]})
    data = steps.made_up(90, training=70)
    weights, losses, measures = plain.train(recipe, 5, data)
    with Workers(1) as workers, Processes(torch.device("cpu"), "") as processes:
        net, curve = fit.fit(recipe, 5, data, workers, processes, steps.Unsaved())
    torch.testing.assert_close(
        {k: v.double() for k, v in net.state_dict().items()},
        {k: v.double() for k, v in weights.items()},
        rtol=1e-4,
        atol=1e-5,
    )
    assert curve.losses == pytest.approx(losses, rel=1e-5)
    assert [row[:2] for row in curve.epochs] == [[epoch, epoch * 60] for epoch in range(3)]
    assert [row[2:] for row in curve.epochs] == [pytest.approx(of_epoch, rel=1e-5) for of_epoch in measures]


@pytest.mark.parametrize("name", steps.NAMES)
def test_steps_give_known_bits(name: str) -> None:
    """Each recipe, and shards of few images, on made-up images: the digest that is committed, on every CPU.

    A change that is meant to alter the results gives others: write tests/steps.json again by `python -m tests.steps`,
    and say so.
    """
    known = steps.known()
    assert name in known, "a new recipe: `python -m tests.steps > tests/steps.json`"
    assert steps.digest(name) == known[name]

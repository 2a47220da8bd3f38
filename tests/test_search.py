"""A search: the same trials each time, stopped trials that anyone can train to the end, and a winner on fresh seeds."""

import argparse
import json
import math
import os
import sys
from pathlib import Path

import optuna
import pytest

from stages.common import environment, settings
from stages.common.errors import StageError
from stages.report import runs
from tests.conftest import Clone, wait_for_runs
from tools import search, study
from tools.planned import Planned

RATE = "recipes/fast.yaml:learning_rate"
SPACE = [f"{RATE}=tag(log,interval(0.001,0.1))", "train.recipe=fast", "recipes/fast.yaml:epochs=int(interval(2,4))"]


def made_up(planned: Planned, trial: optuna.Trial) -> tuple[list[float], bool]:
    """Return losses that are least at a learning rate of 0.01; a rate above 0.05 fails."""
    (rate,) = (float(of.partition("=")[2]) for of in planned.sets if of.startswith(RATE))
    losses = [] if rate > 0.05 else [abs(math.log(rate / 0.01)) + 1 / epoch for epoch in (1, 2)]
    return search.until_pruned(losses, trial)


def trials(monkeypatch: pytest.MonkeyPatch, seed: int, count: int = 20) -> tuple[list[Planned], Planned]:
    """Return the trials of a search with losses that are made up, and the best of them."""
    tried = []

    def run(planned: Planned, trial: optuna.Trial, slurm: None) -> tuple[list[float], bool]:
        tried.append(planned)
        return made_up(planned, trial)

    monkeypatch.setattr(search, "run", run)
    return tried, search.search("lr", count, SPACE, seed)


def test_the_same_search_proposes_the_same_trials(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice, and as the first trials of a longer search; another seed proposes others. The best is the one named."""
    first, best = trials(monkeypatch, seed=0)
    said = capsys.readouterr().out
    trials(monkeypatch, seed=0, count=40)
    assert capsys.readouterr().out.count("failed: ") < 10  # what fails is not proposed again and again
    assert trials(monkeypatch, seed=0) == (first, best)
    assert trials(monkeypatch, seed=0, count=5)[0] == first[:5]
    assert trials(monkeypatch, seed=1)[0] != first
    assert len({of.name for of in first}) == len(first) == 20
    losses = {of.name: made_up(of, optuna.create_study(pruner=optuna.pruners.NopPruner()).ask())[0] for of in first}
    assert best.name == min((name for name in losses if losses[name]), key=lambda name: losses[name][-1])
    assert ", stopped after epoch 1" in said
    assert "failed: cat .dvc/tmp/search/lr-" in said
    assert all("train.recipe=fast" in of.sets for of in first)


def test_values_are_set_as_dvc_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers have four digits; `int` makes whole ones; one of several texts is quoted as it was given."""
    given = [
        "a=int(interval(1,9))",
        "b=interval(0.0,1.0)",
        "recipes/fast.yaml:model.1='conv 8 5',\"conv 9 5 bias=false\"",
    ]
    fixed, free = search.space([*given, "c='x y'"])
    assert fixed == ["c='x y'"]
    assert free["a"] == optuna.distributions.IntDistribution(1, 9)
    assert free["b"] == optuna.distributions.FloatDistribution(0, 1)
    assert search.space(SPACE)[1][RATE] == optuna.distributions.FloatDistribution(0.001, 0.1, log=True)
    choices = ("'conv 8 5'", '"conv 9 5 bias=false"')
    assert free["recipes/fast.yaml:model.1"] == optuna.distributions.CategoricalDistribution(choices)
    assert [search.text(value) for value in (0.123456, 7, choices[0])] == ["0.1235", "7", "'conv 8 5'"]


def test_what_cannot_be_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """No param with several values, no trial that ended: each is said, with what to do."""
    with pytest.raises(StageError, match="--search: no param has several values; for example"):
        search.search("lr", 3, ["train.recipe=fast"], 0)
    with pytest.raises(StageError, match=r"changes nothing where train\.recipe is quick"):
        search.search("lr", 3, [SPACE[0], "train.recipe=quick"], 0)
    for odd in ("tag(log,interval(0,0.1))", "interval(0.1,0.01)"):
        with pytest.raises(StageError, match=r"-S .*interval\(0"):
            search.search("lr", 3, [f"{RATE}={odd}"], 0)
    for ended in (([], False), ([1.0], True)):  # failed, stopped
        monkeypatch.setattr(search, "run", lambda planned, trial, slurm, ended=ended: ended)
        with pytest.raises(StageError, match="search lr: no trial ended"):
            search.search("lr", 2, SPACE, 0)


def test_the_last_loss_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best trial has the least loss after its last epoch."""
    losses = iter([[0.1, 0.9], [0.5, 0.4]])
    monkeypatch.setattr(search, "run", lambda planned, trial, slurm: (next(losses), False))
    assert search.search("lr", 2, SPACE, 0).name.endswith("-trial=1")


@pytest.mark.slow
def test_a_stopped_trial_can_be_trained_to_the_end(
    measured: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an experiment with its params and its curve; applied, `dvc repro` ends with the bits of a whole run.

    Asked for again, it is read and not run; other tools pass over it.
    """
    clone = measured.copy(tmp_path / "clone")
    for key, value in clone._environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(clone.path)
    always = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=0.0))
    planned = Planned("lr-trial=0", (f"{RATE}=0.01", "recipes/fast.yaml:epochs=30"))
    told, stopped = search.run(planned, always.ask())
    assert stopped
    assert len(told) == 1
    monkeypatch.setattr(search.job, "clone", lambda commit: pytest.fail("it was run again"))
    assert search.run(planned, always.ask()) == (told, True)
    never = optuna.create_study(pruner=optuna.pruners.NopPruner())
    assert search.run(planned, never.ask())[1]  # it has no results, whatever the others have now
    assert clone.run("git", "status", "--porcelain").stdout == ""
    with pytest.raises(StageError, match="has no experiments"):
        runs.experiments()
    with pytest.raises(
        StageError, match=f"no metrics/evaluate.json; .*: `dvc exp apply {planned.name}` and `dvc repro`"
    ):
        runs.load(planned.name)
    clone.run("dvc", "exp", "apply", planned.name)
    assert not (clone.path / "metrics/evaluate.json").exists()
    assert "learning_rate: 0.01" in (clone.path / "recipes/fast.yaml").read_text()
    assert clone.repro() == ["train", "evaluate"]
    first = json.loads((clone.path / "metrics/train.json").read_text())
    whole = measured.copy(tmp_path / "whole")
    whole.run("dvc", "exp", "run", "-S", planned.sets[0], "-S", planned.sets[1], "train")
    assert first == json.loads((whole.path / "metrics/train.json").read_text())


@pytest.mark.slow
def test_the_winner_is_confirmed_on_fresh_seeds(measured: Clone, tmp_path: Path) -> None:
    """Two trials of the committed seed, 0; then the best one against what is committed, each with the seeds 1 and 2."""
    clone = measured.copy(tmp_path / "clone")
    command = ("-m", "tools.study", "--name", "lr", "--search", "2", "--seeds", "2", "-S", SPACE[0])
    printed = wait_for_runs(clone.start(sys.executable, *command, seconds=1800), clone, "lr", 6)
    refs = clone.experiments("lr")
    names = [ref.split("/")[-1] for ref in refs]
    assert len(names) == 6
    assert sum("trial" in name for name in names) == 2
    for name in names:
        seed = "seed: 0" if "trial" in name else f"seed: {name[-1]}"
        assert (
            f"  {seed} # random seed of weights"
            in clone.run("git", "show", f"{refs[names.index(name)]}:params.yaml").stdout
        )
    assert {name for name in names if "confirmed-seed" in name} == {"lr-confirmed-seed=1", "lr-confirmed-seed=2"}
    assert "Fresh seeds say whether it is better" in printed
    again = clone.run(sys.executable, *command).stdout
    assert again == printed


def test_the_winner_is_compared_on_its_data_set(finished: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The committed params are run on the data set that the trials had; the rest of them is as committed.

    The seed of the trials is not run again. Two jobs at once have half of the cores each.
    """
    monkeypatch.chdir(finished.path)
    value = settings.value
    monkeypatch.setattr(settings, "value", lambda key: 2 if key == runs.SEED else value(key))
    monkeypatch.setattr(environment, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    del os.environ["OMP_NUM_THREADS"]  # which monkeypatch undoes
    best = Planned("lr-trial=0", ("++download.dataset=mnist", f"{RATE}=0.01"))
    monkeypatch.setattr(search, "search", lambda *_: best)
    monkeypatch.setattr(study, "run", lambda name, planned, on, commit: found.extend(of.sets for of in planned))
    found: list[tuple[str, ...]] = []
    parser = argparse.ArgumentParser()
    study.add_arguments(parser)
    study.main(parser.parse_args(["--name", "lr", "--search", "1", "--seeds", "2", "--jobs", "2"]))
    assert os.environ["OMP_NUM_THREADS"] == "4"
    seeds = [f"train.seed={of}" for of in (1, 3)]
    assert found == [(*sets, of) for sets in (best.sets[:1], best.sets) for of in seeds]


def test_search_of_no_trials() -> None:
    """It is refused."""
    parser = argparse.ArgumentParser()
    study.add_arguments(parser)
    with pytest.raises(StageError, match="--search: got 0, expected at least 1"):
        study.check(parser.parse_args(["--name", "a", "--search", "0"]))

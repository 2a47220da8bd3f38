"""A search by Optuna: TPE proposes params, each trial is an experiment, and a trial that falls behind is stopped.

Which params a trial gets depends only on the trials before it, and these have the same bits on every run. So the same
search proposes the same trials, and goes on where it was stopped: trials that exist are read, not run. A job of a
cluster trains to the end: its trial is read afterwards, and counts as stopped where it would have been.
"""

import contextlib
import csv
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import optuna
from dvc.utils.hydra import to_hydra_overrides
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from stages.common import git, settings
from stages.common.errors import StageError
from stages.report import runs
from tools import job
from tools.planned import Planned, by_file, check, named
from tools.slurm import Slurm

CURVE = "plots/training.csv"
KEPT = {CURVE, "plots/classes.csv", "metrics/data.json"}  # of a stopped trial: the other results are the commit's
LOGS = Path(".dvc/tmp/search")
PAUSE = 0.2  # seconds between two looks at a curve


def search(name: str, trials: int, given: Sequence[str], seed: int, slurm: Slurm | None = None) -> Planned:
    """Run the trials of the search `name` over the params `given`, and return the one with the least validation loss.

    `seed` is that of Optuna's sampler. With `slurm`, each trial is a job of it. Raises StageError if `given` has
    nothing to search, or if no trial ended.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fixed, free = space(given)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=optuna.pruners.MedianPruner())
    best: Planned | None = None
    for number in range(trials):
        trial = study.ask(free)
        sets = (*fixed, *(f"{key}={text(value)}" for key, value in trial.params.items()))
        check(sets)
        planned = Planned(named(name, sets, f"trial={number}"), sets)
        losses, stopped = run(planned, trial, slurm)
        if not losses:  # Optuna is not told: TPE would forget the trial, and propose its like again and again
            log = slurm.log(planned.name) if slurm else f"cat {shlex.quote(str(LOGS / planned.name))}.log"
            print(f"{planned.name}: failed: {log}", flush=True)
            continue
        state = TrialState.PRUNED if stopped else TrialState.COMPLETE
        study.tell(trial, None if stopped else losses[-1], state=state)
        what = f"{', stopped' * stopped} after epoch {len(losses)}"
        print(f"{planned.name}: validation loss {losses[-1]:.4f}{what}", flush=True)
        if not stopped and study.best_trial.number == number:
            best = planned
    if best is None:
        raise StageError(f"search {name}: no trial ended")
    return best


def space(given: Sequence[str]) -> tuple[list[str], dict[str, BaseDistribution]]:
    """Return of the params `given`, in Hydra's syntax, those with one value, and the distributions of the others."""
    fixed: list[str] = []
    free: dict[str, BaseDistribution] = {}
    for path, overrides in by_file(given).items():
        prefix = "" if path == str(settings.PARAMS) else f"{path}:"
        try:
            for override in to_hydra_overrides(overrides):
                key = f"{prefix}{override.key_or_group}"
                if override.is_interval_sweep():
                    of = override.value()
                    whole = isinstance(of.start, int) and isinstance(of.end, int)
                    kind = IntDistribution if whole else FloatDistribution
                    free[key] = kind(of.start, of.end, log="log" in of.tags)
                elif override.is_sweep_override():
                    free[key] = CategoricalDistribution(list(override.sweep_string_iterator()))
                else:
                    fixed.append(f"{prefix}{override.input_line}")
        except (HydraException, ValueError) as error:
            raise StageError(f"-S {prefix}{overrides[0]}: {' '.join(str(error).split())}") from None
    if not free:
        raise StageError("--search: no param has several values; for example -S 'KEY=tag(log,interval(0.001,0.1))'")
    return fixed, free


def text(value: float | str) -> str:
    """Return a proposed value as it is set: four digits of a number with a fraction."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def run(planned: Planned, trial: optuna.Trial, slurm: Slurm | None = None) -> tuple[list[float], bool]:
    """Run `planned` unless it exists; return its validation losses, epoch by epoch, and whether it was stopped."""
    commit = runs.resolve("HEAD")
    ref = runs.reference(commit, planned.name)
    if slurm:
        for _ in range(2):  # a job may be lost
            if ref not in runs.references():
                slurm.run(planned)
    if ref in runs.references():
        losses, stopped = until_pruned(losses_in(git.text("show", f"{ref}:./{CURVE}")), trial)
        return losses, stopped or not git.text("ls-tree", "--name-only", ref, "--", runs.EVALUATE)  # as `record` has it
    if slurm:
        return [], False
    LOGS.mkdir(parents=True, exist_ok=True)
    with job.clone(commit) as place, (LOGS / f"{planned.name}.log").open("wb") as log:
        committed = (place / CURVE).read_text()
        told: list[float] = []
        ended = stopped = False
        with job.started(place, planned, log) as process:
            while not (ended or stopped):
                time.sleep(PAUSE)
                ended = process.poll() is not None  # before the look at the curve, which may be its last
                there = ""
                with contextlib.suppress(FileNotFoundError):
                    there = (place / CURVE).read_text()
                if there != committed or process.returncode == 0:  # DVC deletes the commit's before it trains
                    more, stopped = until_pruned(losses_in(there)[len(told) :], trial, len(told))
                    told += more
        if process.returncode == 0:
            job.push(place, job.root(), ref)
        elif stopped:
            record(place, f"{planned.name}: stopped after epoch {len(told)}", ref)
        else:
            return [], False
    return told, stopped


def until_pruned(losses: Sequence[float], trial: optuna.Trial, before: int = 0) -> tuple[list[float], bool]:
    """Report `losses`, those of the epochs after `before`, to `trial`; return them up to the one that stops it."""
    for place, loss in enumerate(losses, start=1):
        trial.report(loss, before + place)
        if trial.should_prune():
            return list(losses[:place]), True
    return list(losses), False


def losses_in(curve: str) -> list[float]:
    """Return the validation losses of the epochs in `curve`, the content of plots/training.csv."""
    rows = csv.DictReader(curve.splitlines())
    return [float(row["validation_loss"]) for row in rows if row["epoch"] and float(row["epoch"]) > 0]


def record(place: Path, message: str, ref: str) -> None:
    """Push what a stopped trial has as an experiment: its params and its curve. `dvc repro` on it trains to the end."""
    for tracked in git.text("ls-files", "metrics", "plots", "report", cwd=place).splitlines():
        if tracked not in KEPT:
            (place / tracked).unlink(missing_ok=True)
    git.run("add", "--all", ".", cwd=place)
    git.run("commit", "--quiet", "--message", message, cwd=place)
    job.push(place, job.root(), ref, "HEAD")

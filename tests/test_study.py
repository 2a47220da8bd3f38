"""A study: its table against numbers worked by hand, and its runs on DVC's own queue, killed and gone on with."""

import argparse
import contextlib
import csv
import dataclasses
import json
import math
import os
import re
import shutil
import signal
import sys
from itertools import combinations
from pathlib import Path

import pytest
from dvc.repo import Repo
from dvc.repo.experiments.queue.base import QueueEntry
from dvc.repo.experiments.queue.celery import LocalCeleryQueue
from playwright.sync_api import Browser
from scipy import stats

from stages.common.errors import StageError
from stages.report import pictures, runs, studies
from tests.conftest import SECONDS, Clone, wait_until
from tests.made import Made, make
from tests.test_page import AXE
from tests.test_report import look
from tools import study, summary
from tools.planned import Planned, plan
from tools.queued import Queue, refuse_other_letters

STUDY = (sys.executable, "-m", "tools.study")
RATE = "recipes/fast.yaml:learning_rate"
# Validation accuracies of the seeds 1 to 4, by learning rate
ACCURACIES = {
    0.01: (0.99, 0.98, 0.985, 0.991),
    0.02: (0.97, 0.971, 0.969, 0.972),
    0.03: (0.9892, 0.981, 0.984, 0.99),
    0.04: (0.96, 0.99, 0.95, 0.97),
}


def name(rate: float, seed: int) -> str:
    """Return the name of an experiment of the study `rate`."""
    return f"rate-learning_rate={rate}-seed={seed}"


@pytest.fixture(scope="module")
def studied(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, list[str]]:
    """A clone that has the experiments of ACCURACIES, and the lines that the study of them prints."""
    clone = finished.copy(tmp_path_factory.mktemp("studied") / "clone")
    make(
        clone,
        (
            Made(name(rate, seed), seed, rate, accuracy)
            for rate, accuracies in ACCURACIES.items()
            for seed, accuracy in enumerate(accuracies, start=1)
        ),
    )
    (clone.path / "matplotlibrc").write_text("lines.linewidth: 9\n")  # which is not for this picture
    (clone.path / ".git/info/exclude").write_text("matplotlibrc\n")
    grid = f"{RATE}={','.join(map(str, ACCURACIES))}"
    return clone, clone.run(*STUDY, "--name", "rate", "--seeds", "4", "-S", grid).stdout.splitlines()


def test_the_table(studied: tuple[Clone, list[str]]) -> None:
    """The best is first, six pairs are corrected by Holm's method, and it says so in 100 columns; nothing is run."""
    clone, lines = studied
    assert max(map(len, lines)) <= 100
    p = {pair: float(stats.ttest_rel(*(ACCURACIES[of] for of in pair)).pvalue) for pair in combinations(ACCURACIES, 2)}
    order = sorted(p, key=p.__getitem__)
    corrected = {pair: max(min(1, (6 - of) * p[order[of]]) for of in range(order.index(pair) + 1)) for pair in p}
    cells = {line.split()[0]: line for line in lines if line.startswith("learning_rate=")}
    assert list(cells) == [f"learning_rate={rate}" for rate in (0.01, 0.03, 0.02, 0.04)]
    assert "98.650 ± 0.507" in cells["learning_rate=0.01"]
    for rate in (0.02, 0.03, 0.04):
        assert f" {corrected[0.01, rate]:.2g} " in cells[f"learning_rate={rate}"]
    assert f" {corrected[0.01, 0.02]:.2g}  0 " in re.sub("  +", "  ", cells["learning_rate=0.02"])
    said = " ".join(lines)
    assert "It is better than: learning_rate=0.02. No evidence of a difference from: learning_rate=0.03; " in said
    assert "p: paired t-tests of the seeds in common, corrected for all 6 pairs of groups by Holm's method" in said
    assert "The test accuracy decides nothing." in said
    assert lines[0].split()[-2:] == ["test,", "%"]
    assert not list((clone.path / ".dvc/tmp").glob("exps/celery/broker/*/*"))


def test_the_sentences(finished: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test says of the seeds in common counts; one seed, or no spread, is no evidence; ties are tests, too."""
    clone = finished.copy(tmp_path / "clone")
    monkeypatch.chdir(clone.path)
    made = {
        0.01: {1: 0.90, 2: 0.91, 3: 0.99, 4: 0.995},
        0.02: {1: 0.93, 2: 0.945},  # lower than 0.01 on average, higher on both of its seeds
        0.03: {1: 0.89, 2: 0.90, 3: 0.98, 4: 0.985},
        0.04: {1: 0.999},
    }
    make(clone, [Made(f"s-{rate}-{of}", of, rate, a) for rate, seeds in made.items() for of, a in seeds.items()])
    groups, found = summary.summarise(runs.experiments())
    assert summary.verdict(groups, found) == [
        "Best by the mean validation accuracy: learning_rate=0.01.",
        "No evidence of a difference from: learning_rate=0.02.",
        "Not tested, as one seed or no spread allows no test: learning_rate=0.03; learning_rate=0.04.",
    ]
    found["against_best"][list(groups).index("learning_rate=0.02")]["p_corrected"] = 0.01
    said = summary.verdict(groups, found)
    assert "On the seeds in common it is worse than: learning_rate=0.02." in said
    assert found["pairs"] == 3
    tested = [of for of in found["against_best"].values() if "p" in of]
    assert len(tested) == 1


def test_a_group_with_no_value_of_its_own(finished: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A param that is null, or not there, is one and the same, and names the group. The order of params is no param."""
    clone = finished.copy(tmp_path / "clone")
    monkeypatch.chdir(clone.path)
    make(clone, [Made(f"s-{place}", place % 2, 0.01, 0.9 + place / 100) for place in range(4)])
    recipe, found = Path("recipes/fast.yaml"), sorted(runs.experiments(), key=lambda run: run.name)
    momenta: list[dict[str, float | None]] = [{}, {"momentum": None}, {"momentum": 0.5}, {"momentum": 0.5}]
    given = [{**run.files[recipe], **momentum} for run, momentum in zip(found, momenta, strict=True)]
    given[1::2] = [dict(reversed(of.items())) for of in given[1::2]]
    changed = [dataclasses.replace(run, files={**run.files, recipe: of}) for run, of in zip(found, given, strict=True)]
    groups, _ = summary.summarise(changed)
    assert {name: [run.name for run in of] for name, of in groups.items()} == {
        "momentum=0.5": ["s-2", "s-3"],
        "momentum=null": ["s-0", "s-1"],
    }
    groups, numbers = summary.summarise(changed[:2])
    assert summary.table(groups, numbers)[1][0][:4] == ["all runs", "2", "90.500 ± 0.707", ""]
    assert summary.verdict(groups, numbers) == []


def test_seeds_more(finished: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what the smaller group of the two needs, also where that is the best one, whose other runs failed."""
    clone = finished.copy(tmp_path / "clone")
    monkeypatch.chdir(clone.path)
    made = {0.01: {1: 0.99, 2: 0.992}, 0.02: {1: 0.96, 2: 0.985, 3: 0.97, 4: 0.97}}
    make(clone, [Made(f"s-{rate}-{of}", of, rate, a) for rate, seeds in made.items() for of, a in seeds.items()])
    groups, found = summary.summarise(runs.experiments())
    needed = found["against_best"][1]["seeds_to_tell"]
    header, rows = summary.table(groups, found)
    assert rows[1][header.index("seeds more")] == str(needed - 2)
    assert "corrected for one pair of groups" in summary.legend(found)[1]
    found["against_best"][1]["seeds_to_tell"] = 2  # as many as there are, and not told for all pairs together
    assert summary.table(groups, found)[1][1][header.index("seeds more")] == "1"


class Nobody:
    """Runs nothing, and is not to be asked to."""

    def active(self) -> bool:
        """Return that all have ended."""
        return False

    def submit(self, missing: list[Planned]) -> None:
        """Fail."""
        pytest.fail(f"{missing} were submitted")

    def log(self, name: str) -> str:
        """Return nothing."""
        return ""


def test_a_study_stays_at_its_commit(finished: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit, another commit, and a shallow clone are refused before anything is queued."""
    clone = finished.copy(tmp_path / "clone")
    begun = clone.run("git", "rev-parse", "HEAD").stdout.strip()
    again = ("python", "-c", f"from tools import study; study.baseline('{begun}')")
    (clone.path / "notes.txt").write_text("not tracked")
    clone.run(*again)
    clone.replace("recipes/fast.yaml", "epochs: 2 ", "epochs: 9 ")
    clone.run("git", "add", "--all")
    assert "git restore --staged --worktree ." in clone.run(*again, status=1).stderr
    clone.run("git", "commit", "--quiet", "--message", "more epochs")
    monkeypatch.chdir(clone.path)
    with pytest.raises(StageError, match=f"the study began at {begun[:7]}"):
        study.run_missing("any", [Planned("any", ())], Nobody(), begun)
    shallow = tmp_path / "shallow"
    clone.run("git", "clone", "--quiet", "--depth", "1", clone.path.as_uri(), str(shallow))
    failed = Clone(shallow, tmp_path).run("python", "-m", "tools.study", "--name", "rate", status=1)
    assert f"error: {shallow}: a shallow clone, where DVC loses queued" in failed.stderr


def test_what_fails_is_tried_until_nothing_new_comes(
    finished: Clone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then it is told what is missing, and the exit status is 1."""
    monkeypatch.chdir(finished.path)
    monkeypatch.setattr(study, "PAUSE", 0)
    submitted, planned = [], [Planned("any", ())]

    class Failing(Nobody):
        def submit(self, missing: list[Planned]) -> None:
            submitted.append(missing)
            assert len(submitted) == 1

    assert study.run("any", planned, Failing(), runs.resolve("HEAD")) == 1
    assert submitted == [planned]
    assert capsys.readouterr().out == "Missing, 1 of 1 (the same command tries them again):\n  any: \n\n"


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (["train.recipe=quick", "recipes/fast.yaml:epochs=1,3"], "recipes/fast.yaml:epochs=1: changes nothing where"),
        (["recipes/quick.yaml:epochs=1,3"], "train.recipe is fast; run another study for it"),
        (["train.recipe=fast,quick", "recipes/fast.yaml:epochs=1,3"], "train.recipe is quick"),
        (["++train.recipe=quick", "recipes/fast.yaml:epochs=1,3"], "where train.recipe is quick"),
        (["train.recipe='quick'", "recipes/fast.yaml:epochs=1,3"], "where train.recipe is quick"),
        (["download.dataset=mnist,digits"], "a study has one data set"),
        (["++download.dataset=mnist,digits"], "a study has one data set"),
        (["train.recipe=fast,fast"], "they are equal, or differ in punctuation only"),
    ],
)
def test_a_grid_that_compares_nothing_is_refused(grid: list[str], message: str) -> None:
    """Before anything is run."""
    with pytest.raises(StageError, match=re.escape(message)):
        plan("any", grid, [1, 2])


def test_a_name_is_one_that_git_can_store(measured: Clone, tmp_path: Path) -> None:
    """A digest stands for params that are too long for a file of git's; each point keeps a name of its own."""
    clone, layer = measured.copy(tmp_path / "clone"), "conv 8 5 " * 20
    names = [
        of.name for of in plan("a" * 100, [f"recipes/fast.yaml:model.1='{layer}','{layer}bias=false'"], [1, 22222])
    ]
    assert len(set(names)) == 4
    assert [re.sub(r"^a{100}-[0-9a-f]{16}-", "", of) for of in names] == [
        "seed=1",
        "seed=1",
        "seed=22222",
        "seed=22222",
    ]
    for of in names:
        clone.run("git", "update-ref", runs.reference("0" * 40, of), "HEAD")


def test_a_recipe_in_quotes() -> None:
    """It is the recipe of that name."""
    assert len(plan("any", ["train.recipe='quick'", "recipes/quick.yaml:epochs=1,3"], [1, 2])) == 4


def test_the_interval_of_a_pair(studied: tuple[Clone, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the paired t-test's, as SciPy has it, of Bonferroni's confidence for six pairs."""
    monkeypatch.chdir(studied[0].path)
    _, found = summary.summarise(runs.experiments())
    expected = stats.ttest_rel(ACCURACIES[0.01], ACCURACIES[0.02]).confidence_interval(1 - 0.05 / 6)
    assert found["against_best"][2]["interval"] == pytest.approx([expected.low, expected.high])


def test_the_picture_and_the_plot(studied: tuple[Clone, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same PNG and page from the same experiments; DVC draws the rows of every epoch of every run."""
    clone, lines = studied
    monkeypatch.chdir(clone.path)
    groups, found = summary.summarise(runs.experiments())
    assert (clone.path / "studies/rate.html").read_bytes() == summary.page(summary.content("rate", groups, found, []))
    assert (clone.path / "studies/rate.png").read_bytes() == pictures.png(summary.picture(groups))
    one, other = groups["learning_rate=0.01"][:2]
    lower = one.training.copy()
    lower["validation_loss"] -= 0.2
    assert summary.curve([one, dataclasses.replace(other, training=lower)])[2] == pytest.approx(0.2 / math.sqrt(2))
    assert not summary.curve([one])[2].any()
    rows = list(csv.DictReader((clone.path / "studies/rate.csv").read_text().splitlines()))
    assert len(rows) == 16 * 2
    shown = clone.run(*lines[-1].split("or: ")[1].split(), "--json").stdout
    assert shown.count('"validation_loss": "') >= len(rows)
    assert "errorband" in shown
    assert clone.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page(studied: tuple[Clone, list[str]], browser: Browser, width: int, scheme: str) -> None:
    """No console message, no request, inside the window; the table that was printed, and each run's numbers in charts.

    The mean and each of four seeds are a mark of its group, and say their values under the pointer.
    """
    clone, lines = studied
    page = clone.path / "studies/rate.html"
    text = " ".join(look(browser, page, width, scheme).split())
    assert "16 runs in 4 groups Best by the mean validation accuracy: learning_rate=0.01." in text
    for line in (line for line in lines if line.startswith("learning_rate=")):
        assert " ".join(line.split()) in text
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab.goto(page.as_uri())
    losses, accuracies = (tab.locator("figure.chart").nth(place) for place in (0, 1))
    assert [of.locator(".series").count() for of in (losses, accuracies)] == [4, 4]
    assert [of.locator(".band").count() for of in (losses, accuracies)] == [4, 4]
    colors = accuracies.locator(".series circle:first-of-type").evaluate_all(
        "all => all.map(e => getComputedStyle(e).fill)"
    )
    assert len(set(colors)) == 4
    accuracies.locator(".series").nth(2).locator("circle").nth(1).hover(force=True)
    said = accuracies.locator("output").inner_text()
    test = json.loads((clone.path / "metrics/evaluate.json").read_text())["accuracy"]
    assert said == f"learning_rate=0.02, seed 2, validation 97.100%, test {test:.3%}, experiment {name(0.02, 2)}"
    tab.locator("summary").nth(1).click()
    rows = [row.split("\t") for row in accuracies.locator("tbody tr").all_inner_texts()]
    assert len(rows) == 4 * (1 + 4)
    assert rows[0][:4] == ["learning_rate=0.01", "98.650%", "0.507%", "4"]
    if AXE.exists():
        tab.evaluate(AXE.read_text())
        assert tab.evaluate("axe.run().then(result => result.violations.map(of => of.id))") == []
    tab.close()


def test_the_report_shows_a_study(studied: tuple[Clone, list[str]], browser: Browser, tmp_path: Path) -> None:
    """With the table that was printed and both charts, if it is put into plots/studies; a damaged file is named."""
    clone = studied[0].copy(tmp_path / "clone")
    kept = clone.path / "plots/studies/rate.json"
    kept.parent.mkdir()
    shutil.copy(clone.path / "studies/rate.json", kept)
    assert clone.repro() == ["report"]
    text = " ".join(look(browser, clone.path / "report/index.html", 390, "dark").split())
    assert "Study rate Data set: digits. Best by the mean validation accuracy: learning_rate=0.01." in text
    for line in (line for line in studied[1] if line.startswith("learning_rate=")):
        assert " ".join(line.split()) in text
    tab = browser.new_page()
    tab.goto((clone.path / "report/index.html").as_uri())
    assert tab.locator(".study figure.chart .series").count() == 4 + 4
    tab.close()
    study = json.loads(kept.read_text())
    group = {**study["groups"][0], "mean": math.nan}
    strange = [{**study, **changed} for changed in ({"groups": None}, {"groups": [group]}, {"cells": 1})]
    message = "plots/studies/rate.json: damaged, or no study; delete it, or copy it from st"
    for damaged in ("[]", "{}", *map(json.dumps, strange), kept.read_text()[:-9]):
        kept.write_text(damaged)
        with contextlib.chdir(clone.path), pytest.raises(StageError, match=f"^{re.escape(message)}"):
            studies.load()
    assert f"error: {message}" in clone.run("python", "-m", "stages.report", status=1).stderr


def processes_of(clone: Clone) -> list[int]:
    """Return the processes that run in `clone`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(clone.path):
                found.append(int(process.name))
        except OSError:
            pass  # it has ended
    return found


def killed(clone: Clone) -> list[int]:
    """Kill the processes that run in `clone`, and return them."""
    running = processes_of(clone)
    for process in running:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(process, signal.SIGKILL)
    return running


def queue(clone: Clone) -> str:
    """Return what DVC says of its queue in `clone`."""
    return clone.run("dvc", "queue", "status", status=None).stdout


def done(clone: Clone) -> dict[str, str]:
    """Return the commits of the experiments of `clone`, by their names."""
    listed = clone.run("git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps/*/*/rate-*").stdout
    return {ref.split("/")[-1]: commit for ref, commit in map(str.split, listed.splitlines())}


@pytest.mark.slow
def test_a_study_goes_on_where_it_was_stopped(measured: Clone, tmp_path: Path) -> None:
    """Ctrl-C, then SIGKILL for all that runs, as a reboot does: what is done stays, the rest is run, none twice.

    The rate that the pipeline refuses is missing in the end, and the command named beside it says why.
    """
    clone = measured.copy(tmp_path / "clone")
    study = (*STUDY, "--name", "rate", "--seeds", "2", "-S", f"{RATE}=0.01,-1")
    interrupted = clone.start(*study)
    wait_until(lambda: done(clone) or interrupted.poll() is not None, "a run is done", lambda: queue(clone))
    os.killpg(interrupted.pid, signal.SIGINT)
    assert "What is queued goes on" in interrupted.communicate(timeout=60)[1]
    assert interrupted.returncode == 130
    before = done(clone)
    assert processes_of(clone)  # Ctrl-C is not for the runs
    wait_until(lambda: not killed(clone), "nothing runs in the clone", lambda: processes_of(clone))
    for lock in (".dvc/tmp/rwlock", ".dvc/tmp/exps/rwlock"):
        (clone.path / lock).write_text("")  # as a kill leaves it that hits DVC while it writes
    ended = clone.run(*study, status=1, seconds=2 * SECONDS)  # four runs, of which two fail
    after = done(clone)
    assert set(after) == {name(0.01, 1), name(0.01, 2)}
    assert after.items() >= before.items()
    assert "Missing, 2 of 4" in ended.stdout
    log = re.search(r"-seed=1: (.+)", ended.stdout)
    assert log
    assert "learning_rate: got -1, expected greater than 0" in clone.run(*log[1].split()).stdout
    assert clone.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_queued_goes_on(measured: Clone, tmp_path: Path, number: signal.Signals) -> None:
    """Also after Ctrl-C or SIGTERM while runs are being queued: those that are, run without the command."""
    clone = measured.copy(tmp_path / "clone")
    study = clone.start(*STUDY, "--name", "rate", "--seeds", "50", "-S", f"{RATE}=0.01")
    messages = clone.path / ".dvc/tmp/exps/celery/broker/in"
    wait_until(lambda: list(messages.glob("*")) or study.poll() is not None, "a run is queued", lambda: queue(clone))
    study.send_signal(number)
    assert "What is queued goes on" in study.communicate(timeout=60)[1]
    wait_until(lambda: done(clone), "a run is done", lambda: queue(clone))
    assert queue(clone).count("rate-") < 50
    assert clone.run("git", "status", "--porcelain").stdout == ""
    wait_until(lambda: not killed(clone), "nothing runs in the clone", lambda: processes_of(clone))


QUEUE = """
import sys
from tools.planned import plan
from tools.queued import Queue
Queue._start = lambda self: None
planned = plan(sys.argv[1], sys.argv[2:], range(1, 26))
Queue(planned, 1).submit(planned)
"""


@pytest.mark.slow
def test_two_studies_queue_at_once(measured: Clone, tmp_path: Path) -> None:
    """One waits while DVC has its lock for the other; each run has the params of its own study."""
    clone = measured.copy(tmp_path / "clone")
    grids = {"a": f"{RATE}=0.07", "b": "recipes/fast.yaml:epochs=7"}
    for process in [clone.start(sys.executable, "-c", QUEUE, *of, PYTHONPATH=".") for of in grids.items()]:
        _, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, errors
    queued = clone.run("git", "log", "--walk-reflogs", "--format=%H %gs", "refs/exps/celery/stash").stdout.splitlines()
    found = []
    for commit, said in (of.split(" ", 1) for of in queued):
        recipe = clone.run("git", "show", f"{commit}:recipes/fast.yaml").stdout
        found.append((said.split(":")[-1][0], "learning_rate: 0.07 " in recipe, "epochs: 7 " in recipe))
    assert sorted(found) == [("a", True, False)] * 25 + [("b", False, True)] * 25


def test_a_run_that_starts_between_two_looks(measured: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is active, though it was not running at the first look, and is not queued any more at the second."""
    entry, states = QueueEntry("", "", "ref", "rev", "rev", None, "a"), ["queued", "active"]

    def look(state: str) -> list[QueueEntry]:
        return [entry] if states and states.pop(0) == state else []

    for state in ("queued", "active"):
        monkeypatch.setattr(LocalCeleryQueue, f"iter_{state}", lambda self, state=state: look(state))
    monkeypatch.chdir(measured.path)
    queue = Queue([Planned("a", ())], 1)
    queue._next_check = math.inf  # no look for workers, which this queue has not
    assert queue.active()
    queue._names, states = {"b"}, ["queued", "active"]
    assert not queue.active()  # the run is another study's


REFUSED = [
    ({"name": "a b"}, "--name: got 'a b', expected letters, digits, - and _"),
    ({"name": "-a"}, "--name: got '-a', expected letters, digits, - and _"),
    ({"name": "é" * 51}, f"--name: got '{'é' * 51}', expected letters, digits, - and _, at most 100 bytes"),
    ({"seeds": 1}, "--seeds: got 1, expected at least 2"),
    ({"jobs": 0}, "--jobs: got 0, expected at least 1"),
    ({"set_param": ["train.seed=1,2"]}, "-S train.seed: --seeds sets the seeds of a study"),
    ({"set_param": ["++train.seed=1,2"]}, "-S train.seed: --seeds sets the seeds of a study"),
    (
        {"set_param": ["train.recipe=fast", "++train.recipe=quick"]},
        "-S params.yaml:train.recipe: given twice; expected ",
    ),
    ({"set_param": [f"{RATE}=0.1,0.2"] * 2, "search": 2}, f"-S {RATE}: given twice; expected once, its values with "),
    ({"set_param": ["train.seed=interval(1,9)"], "search": 2}, "-S train.seed: --seeds sets the seeds of a study"),
    ({"set_param": ["train.recipe=[fast"]}, "-S train.recipe=[fast: "),
    ({"set_param": ["train.recipe='a b',a_b"]}, "two points of the grid have one name"),
]


def test_what_no_study_can_have(finished: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is refused in one line before anything is queued; so are DVC's own errors, and a workspace with an edit."""
    clone = finished.copy(tmp_path / "clone")
    monkeypatch.chdir(clone.path)
    parser = argparse.ArgumentParser()
    study.add_arguments(parser)
    for values, message in REFUSED:
        with pytest.raises(StageError) as refused:
            study.main(argparse.Namespace(**{**vars(parser.parse_args(["--name", "a"])), **values}))
        assert str(refused.value).startswith(message)
        assert "\n" not in str(refused.value)
    clone.run("git", "worktree", "add", "--quiet", str(tmp_path / "tree"))  # where .git is a file
    with Repo(str(tmp_path / "tree")) as repo:
        refuse_other_letters(repo)
    with pytest.raises(StageError, match=r"train.nothing=1: exit status \d+; DVC says why above"):
        Queue([], 1).submit([Planned("a", ("train.nothing=1",))])
    with monkeypatch.context() as patched, pytest.raises(StageError, match="dvc queue start: exit status 1; type it"):
        patched.setattr(sys, "executable", "false")
        Queue([], 1)._start()
    for name, value in (("config.local", "url = a\u0301"), ("../.git/config", "name = Jos\u00e9")):
        with (clone.path / ".dvc" / name).open("a", encoding="utf-8") as config:
            config.write(f"[user]\n{value}\n" if "git" in name else f"['remote \"a\"']\n{value}\n")
        with pytest.raises(StageError, match=rf"{Path(name).name}: .*{value[-2:]}.*: DVC's queue takes ASCII alone"):
            Queue([], 1).submit([])
        (clone.path / ".dvc/config.local").unlink(missing_ok=True)
    (clone.path / ".dvc/config.local").write_text("[core")
    broken = clone.run(*STUDY, "--name", "a", status=1).stderr
    assert broken.startswith("error: DVC: config file error: Invalid line ('[core')")
    assert broken.count("\n") == 1
    clone.replace("recipes/fast.yaml", "epochs: 2 #", "epochs: 3 #")
    assert "a study starts from a commit" in clone.run(*STUDY, "--name", "a", status=1).stderr

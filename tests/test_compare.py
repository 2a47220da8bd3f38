"""Two runs side by side, from what git has: digits only one reads, tests, and verdicts in words."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import pytest

from tests.conftest import Clone

COMPARE = ("python", "-m", "tools.compare")
SEEDS = {"quick-1": ("quick", 1), "quick-2": ("quick", 2), "fast-1": ("fast", 1), "fast-2": ("fast", 2)}


@pytest.fixture(scope="session")
def compared(finished: Clone, shared: Callable[[str, Callable[[Path], None]], Clone]) -> Clone:
    """A clone with the branch `quick`, whose run is committed, and an experiment for each of SEEDS."""

    def build(place: Path) -> None:
        clone = finished.copy(place / "project")
        clone.run("git", "switch", "--quiet", "--create", "quick")
        clone.run("dvc", "exp", "run", "-S", "train.recipe=quick", "evaluate")
        clone.run("git", "commit", "--quiet", "--all", "--message", "quick")
        clone.run("git", "switch", "--quiet", "main")
        for name, (recipe, seed) in SEEDS.items():
            recipes = ("-S", f"train.recipe={recipe}", "-S", f"train.seed={seed}")
            clone.run("dvc", "exp", "run", "--name", name, *recipes, "evaluate")
        clone.run("git", "reset", "--quiet", "--hard")

    return shared("compared", build)


def read_by(clone: Clone, revision: str) -> set[int]:
    """Return the rows of the test digits that the run of `revision` reads."""
    rows = csv.DictReader(clone.run("git", "show", f"{revision}:plots/predictions.csv").stdout.splitlines())
    return {place for place, row in enumerate(rows) if row["actual"] == row["predicted"]}


def test_two_branches_on_a_clone_without_cache(compared: Clone, tmp_path: Path) -> None:
    """No data, no cache, no remote of DVC's: the digits that only one reads are those of the tables in git."""
    clone = compared.clone(tmp_path / "clone")
    found = json.loads(clone.run(*COMPARE, "main", "origin/quick", "--json").stdout)
    ours, theirs = read_by(clone, "main"), read_by(clone, "origin/quick")
    assert found["only_read_by"] == {"main": sorted(ours - theirs), "origin/quick": sorted(theirs - ours)}
    assert found["metrics"]["main"]["accuracy"] == len(ours) / 500
    counts = f"{len(ours - theirs)} against {len(theirs - ours)} digits that only main or only origin/quick reads"
    assert found["verdict"].startswith(counts)
    assert ("no evidence" in found["verdict"]) == (found["mcnemar_p"] > 0.05)
    printed = clone.run(*COMPARE, "main", "origin/quick").stdout
    assert found["verdict"] in printed
    assert f"{len(ours) / 500:.2%} (" in printed
    assert "| recipe " in clone.run(*COMPARE, "main", "origin/quick", "--md").stdout


def test_the_workspace_and_experiments(compared: Clone) -> None:
    """B is the workspace unless it is named; A may be an experiment; what has the same weights is said to."""
    found = json.loads(compared.run(*COMPARE, "quick-1", "--json").stdout)
    assert set(found["metrics"]) == {"quick-1", "workspace"}
    assert "main and workspace have the same weights, bit for bit." in compared.run(*COMPARE, "main").stdout


def test_seeds(compared: Clone) -> None:
    """Mean and spread of each group, and what a difference of the size seen would take."""
    found = json.loads(
        compared.run(*COMPARE, "--seeds", "quick-1", "quick-2", "--against", "fast-1", "fast-2", "--json").stdout
    )
    metrics = {name: json.loads(compared.run(*COMPARE, name, "--json").stdout)["metrics"][name] for name in SEEDS}
    for group in found["groups"]:
        accuracies = [metrics[name]["accuracy"] for name in group["runs"]]
        assert group["mean"] == pytest.approx(mean(accuracies))
        assert group["deviation"] == pytest.approx(stdev(accuracies))
    assert found["difference"] == pytest.approx(found["groups"][0]["mean"] - found["groups"][1]["mean"])
    if found["welch_p"] > 0.05:
        assert f"takes about {found['seeds_to_tell']} seeds a side" in found["verdict"]
    alone = compared.run(*COMPARE, "--seeds", "quick-1", "quick-2").stdout
    assert "from seed to seed" in alone


def refusal(clone: Clone, *arguments: str) -> str:
    """Return the message with which a comparison is refused."""
    failed = clone.run(*COMPARE, *arguments, status=1)
    assert failed.stdout == ""
    assert failed.stderr.startswith("error: ")
    return failed.stderr


def test_what_cannot_be_compared(compared: Clone, tmp_path: Path) -> None:
    """Each is refused by name, with what to do."""
    assert "nowhere: no such revision; expected a commit, branch, tag or experiment" in refusal(compared, "nowhere")
    assert "no such revision" in refusal(compared, "--", "--output=/tmp/x")
    assert "mnist, workspace has 500 of digits; compare runs on one data set" in refusal(compared, "main~1")
    assert "quick-1: one run alone has no spread; name two or more" in refusal(compared, "--seeds", "quick-1")
    assert "the same weights as another run" in refusal(compared, "--seeds", "main", "HEAD")
    clone = compared.copy(tmp_path / "clone")
    older = json.loads((clone.path / "metrics/evaluate.json").read_text())
    del older["loss"]
    (clone.path / "metrics/evaluate.json").write_text(json.dumps(older))
    clone.run("git", "commit", "--quiet", "--all", "--message", "an older shape")
    clone.run("git", "tag", "older")
    message = refusal(clone, "older", "main")
    assert "older: metrics/evaluate.json has no loss; another version of the pipeline wrote it" in message
    assert "`git checkout older` and `dvc repro`" in message
    clone.run("git", "revert", "--no-edit", "HEAD")
    clone.run("git", "rm", "--quiet", "plots/predictions.csv")
    clone.run("git", "commit", "--quiet", "--message", "no predictions")
    assert "HEAD: has no plots/predictions.csv; another version" in refusal(clone, "HEAD", "older")
    (clone.path / "plots/predictions.csv").write_text("actual,predicted\n1,1\n")
    assert "workspace: plots/predictions.csv has no column probability" in refusal(clone, "quick")
    (clone.path / "plots/predictions.csv").unlink()
    assert "plots/predictions.csv: not found; run `dvc repro`" in refusal(clone, "quick")


def test_usage(compared: Clone) -> None:
    """Neither a revision nor seeds, or both, is refused; so are two forms at once."""
    for arguments in ((), ("main", "--seeds", "quick-1"), ("--against", "quick-1")):
        assert "name a revision A, and perhaps B; or --seeds" in refusal(compared, *arguments)
    assert "usage: python -m tools.compare" in compared.run(*COMPARE, "main", "--md", "--json", status=2).stderr
    assert "McNemar" in compared.run(*COMPARE, "--help").stdout

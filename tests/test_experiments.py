"""Experiments as people run them: in the workspace, in a folder of their own, and in a queue with two jobs at once."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import PROJECT, Clone, wait_until
from tests.test_exact import weights
from tests.test_study import queue

QUICK = ("-S", "train.recipe=quick")


def shown(clone: Clone) -> dict[str, dict[str, str]]:
    """Return what `dvc exp show` has of each experiment, by its name."""
    rows = csv.DictReader(clone.run("dvc", "exp", "show", "--csv").stdout.splitlines())
    return {row["Experiment"]: row for row in rows if row["Experiment"]}


def ended(clone: Clone) -> list[str]:
    """Return the lines of the queue's runs that have ended."""
    return [line for line in queue(clone).splitlines() if re.search("Success|Failed", line)]


@pytest.mark.slow
def test_a_queue_with_two_jobs_at_once(measured: Clone, tmp_path: Path) -> None:
    """A sweep ends with the bits that each run has alone; the failed one says why.

    The jobs compute with the code that was queued: that of the workspace is broken in the meantime.
    """
    clone = measured.copy(tmp_path / "clone")
    clone.run("dvc", "exp", "run", "--queue", "--name", "sweep", *QUICK, "-S", "train.seed=1,2")
    clone.run("dvc", "exp", "run", "--queue", *QUICK, "-S", "recipes/quick.yaml:learning_rate=-1")
    code = (clone.path / "stages/train/main.py").read_text()
    clone.replace(
        "stages/train/main.py", "def main() -> None:", "def main() -> None:\n    raise RuntimeError('not queued')\n"
    )
    clone.run("dvc", "queue", "start", "--jobs", "2")
    try:
        # git is asked first: DVC needs a second of CPU to answer, and the runs need it, too
        wait_until(lambda: len(clone.experiments("sweep")) == 2, "two runs have ended", lambda: queue(clone))
        wait_until(lambda: len(ended(clone)) == 3, "the failed run has ended", lambda: queue(clone))
    finally:
        clone.run("dvc", "queue", "stop", "--kill")
    (failed,) = (line.split()[0] for line in ended(clone) if "Failed" in line)
    assert "learning_rate: got -1, expected greater than 0" in clone.run("dvc", "queue", "logs", failed).stdout
    (clone.path / "stages/train/main.py").write_text(code)
    assert clone.run("git", "status", "--porcelain").stdout == ""
    done = [row for row in shown(clone).values() if row["weights_sha256"] and row["State"] != "Failed"]
    assert len({row["weights_sha256"] for row in done}) == len(done) == 2
    for row in done:
        clone.run("dvc", "exp", "run", *QUICK, "-S", f"train.seed={row['train.seed']}", "train", "--force")
        assert weights(clone) == row["weights_sha256"]
        clone.run("git", "restore", ".")


@pytest.mark.slow
def test_experiments_are_shown_compared_applied_and_made_branches(measured: Clone, tmp_path: Path) -> None:
    """`exp run --temp` leaves the workspace alone; show, diff, apply and branch find what it kept."""
    clone = measured.copy(tmp_path / "clone")
    before = weights(clone)
    clone.run("dvc", "exp", "run", "--temp", "--name", "quicker", *QUICK)
    assert clone.run("git", "status", "--porcelain").stdout == ""
    quicker = shown(clone)["quicker"]
    assert quicker["train.recipe"] == "quick"
    assert quicker["weights_sha256"] != before
    difference = json.loads(clone.run("dvc", "exp", "diff", "main", "quicker", "--json").stdout)
    assert difference["params"]["params.yaml"]["train.recipe"] == {"old": "fast", "new": "quick"}
    assert difference["metrics"]["metrics/train.json"]["parameters"]["diff"] == 16_786 - 67_978
    clone.run("dvc", "exp", "branch", "quicker", "quicker-branch")
    metrics = json.loads(clone.run("dvc", "metrics", "diff", "main", "quicker-branch", "--json").stdout)
    assert metrics["metrics/train.json"]["weights_sha256"]["new"] == quicker["weights_sha256"]
    clone.run("dvc", "exp", "apply", "quicker")
    assert weights(clone) == quicker["weights_sha256"]
    assert clone.repro() == []


@pytest.mark.slow
def test_a_shallow_clone_loses_no_experiment(measured: Clone, common: Path, tmp_path: Path) -> None:
    """There, DVC would run it, report success and keep nothing; it is refused before any work, until all is fetched.

    The project stands in a folder of the repository, where no `.git` is.
    """
    folder = "projects/digits"
    whole, cloned = Clone(tmp_path / "whole", common / "cache"), tmp_path / "cloned"
    shutil.copytree(measured.path, whole.path / folder, ignore=shutil.ignore_patterns(".git"))
    whole.run("git", "init", "--quiet")
    whole.run("git", "add", "--all")
    for message in ("first", "second"):
        whole.run("git", "commit", "--quiet", "--allow-empty", "--message", message)
    whole.run("git", "clone", "--quiet", "--depth", "1", f"file://{whole.path}", str(cloned))
    shallow = Clone(cloned / folder, common / "cache")
    refused = shallow.run("dvc", "exp", "run", "--temp", *QUICK, status=255)
    assert "a shallow clone" in refused.stderr
    assert "git fetch --unshallow" in refused.stderr
    assert shown(shallow) == {}
    shallow.run("git", "fetch", "--quiet", "--unshallow")
    shallow.run("dvc", "exp", "run", "--temp", "--name", "kept", *QUICK)
    assert "kept" in shown(shallow)


def lines_of_the_merge() -> list[str]:
    """Return the commands of docs/branches.md from the merge on."""
    section = (PROJECT / "docs/branches.md").read_text().split("\n## Merge it\n")[1]
    fences = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    (place,) = (place for place, fence in enumerate(fences) if fence.startswith("git merge"))
    return "".join(fences[place:]).splitlines()


@pytest.mark.slow
def test_a_merge_by_the_docs(measured: Clone, tmp_path: Path) -> None:
    """Both branches changed one param: resolved by hand, the page's lines end with the results of the merged params."""
    clone = measured.copy(tmp_path / "clone")
    clone.run("git", "branch", "wider")
    for branch, seed in (("wider", 1), ("main", 2)):
        clone.run("git", "switch", "--quiet", branch)
        clone.run("dvc", "checkout")
        clone.run("dvc", "exp", "run", "-S", f"train.seed={seed}")
        clone.run("git", "commit", "--quiet", "--all", "--message", f"seed {seed}")
    merge, *others = lines_of_the_merge()
    clone.run("sh", "-c", merge, status=1)
    params = (clone.path / "params.yaml").read_text()
    ours = re.search(r"<<<<<<<.*\n(.*seed: )2(.*\n)=======", params)
    assert ours
    settled = re.sub("<<<<<<<.*?>>>>>>> wider\n", f"{ours[1]}1{ours[2]}", params, flags=re.DOTALL)
    (clone.path / "params.yaml").write_text(settled)
    for line in others:
        clone.run("sh", "-c", line)
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert len(clone.run("git", "log", "-1", "--format=%P").stdout.split()) == 2
    alone = json.loads(clone.run("git", "show", "wider:metrics/train.json").stdout)["weights_sha256"]
    assert weights(clone) == alone
    assert clone.repro() == []

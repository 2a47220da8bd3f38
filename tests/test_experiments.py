"""Experiments as people run them: a queue, two jobs at once, each in a folder of its own."""

import json
import time
from pathlib import Path

from tests.conftest import Clone


def test_a_queue_with_two_jobs_at_once(finished: Clone, tmp_path: Path) -> None:
    """A sweep of two seeds, both at once, ends with the bits that each has alone; the workspace stays as it was."""
    clone = finished.copy(tmp_path / "clone")
    clone.run("dvc", "exp", "run", "--queue", "-S", "train.recipe=quick", "-S", "train.seed=1,2")
    clone.run("dvc", "queue", "start", "--jobs", "2")
    try:
        while (status := clone.run("dvc", "queue", "status").stdout).count("Success") < 2:
            assert "Failed" not in status
            time.sleep(1)
    finally:
        clone.run("dvc", "queue", "stop", "--kill")
    assert clone.run("git", "status", "--porcelain").stdout == ""
    queued = {}
    for experiment in clone.run("dvc", "exp", "list", "--name-only").stdout.split():
        reference = clone.run(
            "git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{experiment}"
        ).stdout.strip()
        params = clone.run("git", "show", f"{reference}:params.yaml").stdout
        seed = next(seed for seed in ("1", "2") if f"train:\n  seed: {seed}\n" in params)
        queued[seed] = json.loads(clone.run("git", "show", f"{reference}:metrics/train.json").stdout)
    for seed in ("1", "2"):
        clone.run("dvc", "exp", "run", "-S", "train.recipe=quick", "-S", f"train.seed={seed}", "train", "--force")
        assert json.loads((clone.path / "metrics/train.json").read_text()) == queued[seed]

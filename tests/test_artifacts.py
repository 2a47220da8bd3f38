"""The trained net as an artifact of DVC: registered with `gto`, fetched by its version from another folder."""

import json
from pathlib import Path

import pytest
import torch

from stages.net import exact, model
from tests.conftest import Clone

pytestmark = pytest.mark.slow


def elsewhere(folder: Path) -> Clone:
    """Return an empty folder that is no repository, and no cache but its own."""
    (folder / "elsewhere").mkdir()
    return Clone(folder / "elsewhere", folder / "another cache")


def trained_again(clone: Clone) -> bytes:
    """Train with another seed, commit, and return the new model."""
    clone.run("dvc", "exp", "run", "-S", "train.recipe=quick", "-S", "train.seed=1", "train")
    clone.run("git", "commit", "--quiet", "--all", "--message", "another seed")
    return (clone.path / "models/model.pt").read_bytes()


def test_the_artifact_is_part_of_no_stage(finished: Clone, tmp_path: Path) -> None:
    """With or without the section `artifacts` of dvc.yaml, there is nothing to run."""
    clone = finished.copy(tmp_path / "clone")
    assert json.loads(clone.run("dvc", "status", "--json").stdout) == {}
    stages, section, _ = (clone.path / "dvc.yaml").read_text().partition("\nartifacts:\n")
    assert section
    (clone.path / "dvc.yaml").write_text(stages)
    assert json.loads(clone.run("dvc", "status", "--json").stdout) == {}


def test_each_version_is_fetched_as_it_was(finished: Clone, tmp_path: Path) -> None:
    """Two registered trainings; by version, by stage or as the latest, each comes with its bytes, and can be used."""
    clone, there = finished.copy(tmp_path / "clone"), elsewhere(tmp_path)
    first = (clone.path / "models/model.pt").read_bytes()
    clone.run("gto", "register", "mnist-cnn", "--version", "v1.0.0")
    second = trained_again(clone)
    clone.run("gto", "register", "mnist-cnn", "--version", "v2.0.0")
    clone.run("gto", "assign", "mnist-cnn", "--version", "v1.0.0", "--stage", "prod")
    assert clone.run("git", "tag").stdout.split() == ["mnist-cnn#prod#1", "mnist-cnn@v1.0.0", "mnist-cnn@v2.0.0"]
    shown = json.loads(clone.run("gto", "show", "--json").stdout)["mnist-cnn"]
    assert (shown["version"], shown["stage"]) == ("v2.0.0", {"prod": "v1.0.0"})
    assert first != second
    for asked, expected in {("--rev", "v1.0.0"): first, ("--stage", "prod"): first, (): second}.items():
        there.run("dvc", "artifacts", "get", str(clone.path), "mnist-cnn", *asked, "--out", "model.pt", "--force")
        assert (there.path / "model.pt").read_bytes() == expected, asked
    fetched = torch.load(there.path / "model.pt", weights_only=True)
    assert model.trained(fetched)(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    metrics = json.loads(clone.run("git", "show", "mnist-cnn@v2.0.0:metrics/train.json").stdout)
    assert exact.digest(fetched["weights"])[:12] == metrics["weights_sha256"]
    failed = there.run("dvc", "artifacts", "get", str(clone.path), "mnist-cnn", "--rev", "v3.0.0", "-o", "3", status=1)
    assert "Unable to find artifact 'mnist-cnn @ v3.0.0'" in failed.stderr
    assert [path.name for path in there.path.iterdir()] == ["model.pt"]


def test_from_a_remote(finished: Clone, tmp_path: Path) -> None:
    """With a remote, set before the version is registered, a clone of what git has is enough: no cache of the maker."""
    clone, there = finished.copy(tmp_path / "clone"), elsewhere(tmp_path)
    clone.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    clone.run("git", "commit", "--quiet", "--all", "--message", "a remote")
    clone.run("gto", "register", "mnist-cnn", "--version", "v1.0.0")
    clone.run("dvc", "push")
    bare = tmp_path / "project.git"
    clone.run("git", "clone", "--quiet", "--bare", "--no-local", str(clone.path), str(bare))
    first = (clone.path / "models/model.pt").read_bytes()
    clone.path.rename(tmp_path / "gone")
    there.run("dvc", "artifacts", "get", bare.as_uri(), "mnist-cnn", "--rev", "v1.0.0")
    assert (there.path / "model.pt").read_bytes() == first

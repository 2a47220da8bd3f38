"""Work shared through a remote: the real `dvc` with a real sshd and a real S3, and what is stored there damaged."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ruamel.yaml import YAML

if TYPE_CHECKING:
    from tests.conftest import Clone, Shared
    from tests.servers import Remote, Sshd

pytest_plugins = ["tests.servers"]
pytestmark = pytest.mark.slow

MODEL = "models/model.pt"
SEEDS = ("seed: 0 # random seed of weights", "seed: 5 # random seed of weights")
# As in the README: the name of an object is the MD5 of what it holds
FIND_DAMAGED = r"cd .dvc/cache/files/md5 && find . -type f | sed -E 's#\./(..)/(\w+).*#\1\2  &#' | md5sum --quiet -c"


@pytest.fixture(scope="session")
def five(measured: Clone, shared: Shared) -> Clone:
    """Return a clone with another seed trained on the branch `five`, its cache full: to be copied, not changed."""

    def build(place: Path) -> None:
        clone = measured.copy(place / "project")
        clone.run("git", "switch", "--quiet", "--create", "five")
        clone.replace("params.yaml", *SEEDS)
        assert clone.repro() == ["train", "evaluate"]
        clone.run("git", "commit", "--quiet", "--all", "--message", "another seed")
        clone.run("git", "switch", "--quiet", "main")
        clone.run("dvc", "checkout")

    return shared("five", build)


def second(first: Clone, remote: Remote, path: Path) -> Clone:
    """Return a fresh clone, with nothing in its cache, that knows the way to the remote."""
    clone = first.clone(path)
    remote.enter(clone)
    return clone


def changed(clone: Clone) -> str:
    """Return what git says was changed."""
    return clone.run("git", "status", "--porcelain").stdout


def model(clone: Clone) -> bytes:
    """Return the model's bytes."""
    return (clone.path / MODEL).read_bytes()


def test_another_clone_trains_nothing(five: Clone, remote: Remote, tmp_path: Path) -> None:
    """What one clone pushed, another pulls, and no stage runs, on either branch; nor for a param flipped, and back.

    What git keeps (metrics, tables) DVC does not push, and it is part of its run-cache: `dvc commit --force` adds it.
    """
    one = five.copy(tmp_path / "one")
    remote.add(one)
    one.run("git", "rebase", "--quiet", "main", "five")  # the remote is in the config of each branch
    one.run("git", "switch", "--quiet", "main")
    one.run("dvc", "push", "--all-branches", "--run-cache")
    other = second(one, remote, tmp_path / "other")
    other.run("git", "fetch", "--quiet", "origin", "five:five")
    other.run("dvc", "pull", "--all-branches", "--run-cache")
    models = {}
    for branch in ("five", "main"):
        other.run("git", "switch", "--quiet", branch)
        other.run("dvc", "checkout")
        assert other.repro() == []
        other.run("dvc", "commit", "--force")
        assert changed(other) == ""
        models[branch] = model(other)
    assert models["main"] == model(five) != models["five"]
    other.replace("params.yaml", *SEEDS)
    assert other.repro() == []
    assert model(other) == models["five"]
    other.replace("params.yaml", *reversed(SEEDS))
    assert other.repro() == []
    assert model(other) == models["main"]
    assert changed(other) == ""


def test_a_sweep_of_two_clones(five: Clone, over_ssh: Remote, tmp_path: Path) -> None:
    """Each clone runs a seed; then both show both, and apply the other's, with what it trained, without training."""
    one = five.copy(tmp_path / "one")
    over_ssh.add(one)
    one.run("dvc", "push", "--run-cache")
    one.run("git", "clone", "--quiet", "--bare", ".", str(tmp_path / "origin"))
    other = second(one, over_ssh, tmp_path / "other")
    other.run("dvc", "pull", "--run-cache")
    models, accuracy = {}, {}
    for name, clone in (("seed-5", one), ("seed-6", other)):
        clone.run("git", "remote", "set-url", "origin", str(tmp_path / "origin"))
        clone.run("dvc", "exp", "run", "--name", name, "-S", f"train.seed={name[-1]}")
        models[name] = model(clone)
        accuracy[name] = json.loads((clone.path / "metrics/evaluate.json").read_text())["accuracy"]
        clone.run("dvc", "exp", "push", "origin", name)
    assert models["seed-5"] != models["seed-6"]
    for clone, name in ((one, "seed-6"), (other, "seed-5")):
        clone.run("dvc", "exp", "pull", "origin")
        assert sorted(clone.run("dvc", "exp", "list", "--name-only").stdout.split()) == sorted(models)
        shown = csv.DictReader(clone.run("dvc", "exp", "show", "--csv").stdout.splitlines())
        assert {row["Experiment"]: float(row["accuracy"]) for row in shown if row["Experiment"] in models} == accuracy
        clone.run("git", "restore", ".")
        clone.run("dvc", "exp", "apply", name)
        assert clone.repro() == []
        assert model(clone) == models[name]


def truncated(content: bytes) -> bytes:
    """Return the first half."""
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """Return `content` with one bit in the middle changed."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGED = {"data/split/train.npy": ("split", flipped), MODEL: ("train", truncated)}


def objects(clone: Clone, file: str) -> tuple[str, str]:
    """Return the names of two objects: a file that is to be damaged, and the list of its folder."""
    outs = YAML(typ="safe").load(clone.path / "dvc.lock")["stages"][DAMAGED[file][0]]["outs"]
    folder = next(out["md5"] for out in outs if out["path"] == str(Path(file).parent))
    listed = json.loads((clone.path / cached(folder)).read_text())
    return next(entry["md5"] for entry in listed if entry["relpath"] == Path(file).name), folder


def cached(name: str) -> str:
    """Return where DVC's cache has an object."""
    return f".dvc/cache/files/md5/{name[:2]}/{name[2:]}"


def test_damaged_objects_in_the_cache(finished: Clone, tmp_path: Path) -> None:
    """DVC trusts its cache; `md5sum` names what is wrong; when that is deleted, its stages run again."""
    clone = finished.copy(tmp_path / "clone")
    for file, (_, damage) in DAMAGED.items():
        stored = clone.path / cached(objects(clone, file)[0])
        stored.chmod(0o644)
        stored.write_bytes(damage(stored.read_bytes()))
        stored.chmod(0o444)  # as DVC leaves it: what is read-only it does not read again
        (clone.path / file).unlink()
    clone.run("dvc", "checkout")
    assert model(clone) == truncated(model(finished))
    found = clone.run("sh", "-c", FIND_DAMAGED, status=1).stdout
    paths = [cached(objects(clone, file)[0]) for file in DAMAGED]
    assert sorted(found.splitlines()) == sorted(
        f".{path.removeprefix('.dvc/cache/files/md5')}: FAILED" for path in paths
    )
    for path in paths:
        (clone.path / path).unlink()
    missing = clone.run("dvc", "status").stdout
    assert "not in cache:       data/split" in missing
    assert "not in cache:       models" in missing
    assert clone.repro() == [stage for stage, _ in DAMAGED.values()]
    assert model(clone) == model(finished)
    assert changed(clone) == clone.run("sh", "-c", FIND_DAMAGED).stdout == ""


def test_damaged_objects_in_the_remote(finished: Clone, remote: Remote, tmp_path: Path) -> None:
    """`dvc pull` names the outputs, their stages run again, and a push fixes the remote, once those are deleted there.

    That takes the remote's option `verify`: without it, nobody would notice.
    """
    one = finished.copy(tmp_path / "one")
    remote.add(one)
    one.run("dvc", "push", "--run-cache")
    names = {file: objects(one, file) for file in DAMAGED}
    for file, (_, damage) in DAMAGED.items():
        path = remote.path(names[file][0])
        remote.files.pipe_file(path, damage(remote.files.cat_file(path)))
    other = second(one, remote, tmp_path / "other")
    pulled = other.run("dvc", "pull", "--run-cache", "--verbose", status=1)
    named = pulled.stderr.split("Checkout failed for following targets:\n")[1].split("\nIs your")[0]
    assert sorted(named.splitlines()) == ["data/split", "models"]
    for name, _ in names.values():
        assert f"corrupted cache file '{other.path / cached(name)}'" in pulled.stdout
    assert other.repro() == [stage for stage, _ in DAMAGED.values()]
    assert changed(other) == ""
    for file_and_folder in names.values():
        for name in file_and_folder:
            remote.files.rm_file(remote.path(name))
    other.run("dvc", "push")
    third = second(one, remote, tmp_path / "third")
    third.run("dvc", "pull")
    assert third.repro() == []
    assert model(third) == model(finished)


def test_another_host_key_is_refused(finished: Clone, sshd: Sshd, over_ssh: Remote, tmp_path: Path) -> None:
    """With ssh as the proxy, a server whose key is not the known one gets nothing; with its key known, it does."""
    one = finished.copy(tmp_path / "one")
    over_ssh.add(one)
    known = sshd.home / ".ssh/known_hosts"
    before = known.read_text()
    known.write_text(f"{before.split()[0]} {(sshd.home / '.ssh/id_ed25519.pub').read_text()}")
    try:
        assert "Connection lost" in one.run("dvc", "push", status=255).stderr
    finally:
        known.write_text(before)
    assert not over_ssh.files.exists(over_ssh.folder)
    one.run("dvc", "push")
    assert over_ssh.files.exists(over_ssh.folder)

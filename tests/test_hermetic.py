"""A stage reads and writes what dvc.yaml declares, and all of it: checked by Python's own audit events."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.conftest import PROJECT, Clone

STAGES: dict[str, Any] = YAML(typ="safe").load((PROJECT / "dvc.yaml").read_text())["stages"]
# Runs a stage and prints, as JSON, each file that it opened, each that it put in place, and each param it looked up.
AUDIT = """
import contextlib, json, os, runpy, sys
stage, report = sys.argv[1:]
seen = {"read": set(), "written": set(), "params": set()}
def hook(event, values):
    if event == "open" and isinstance(values[0], (str, bytes)):
        write = (values[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        seen["written" if write else "read"].add(os.path.realpath(os.fsdecode(values[0])))
    elif event == "os.rename":
        seen["written"].discard(os.path.realpath(os.fsdecode(values[0])))
        seen["written"].add(os.path.realpath(os.fsdecode(values[1])))
sys.addaudithook(hook)
from stages.common import declared, settings
look_up = settings.look_up
settings.look_up = lambda values, key, name: (seen["params"].add(key), look_up(values, key, name))[1]
# these two open all that is declared
declared.unchanged, declared.fingerprint = lambda stage: contextlib.nullcontext(), lambda stage: {}
leave = os._exit
def end(status):
    found = {kind: sorted(names) for kind, names in seen.items()}
    with open(report, "w") as file:
        json.dump(found, file)
    leave(status)
os._exit = end
sys.argv = [stage]
runpy.run_module(f"stages.{stage}", run_name="__main__")
"""
RECIPE = "recipes/${train.recipe}.yaml"
OWN = {"params.yaml", "dvc.yaml", ".checkpoints"}  # of DVC, and the state of an unfinished training


def outputs(stage: str) -> set[str]:
    """Return the paths that `stage` declares to write."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in STAGES[stage].get(kind, [])]
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def source(path: Path) -> Path:
    """Return the file that a compiled one comes from, or `path`."""
    return path.parent.parent / f"{path.name.split('.')[0]}.py" if path.suffix == ".pyc" else path


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_and_writes_what_it_declares(finished: Clone, tmp_path: Path, stage: str) -> None:
    """Undeclared fails, and so does declared and never used: files of the project, outputs, and params."""
    clone = finished.copy(tmp_path / "clone")
    clone.run(sys.executable, "-c", AUDIT, stage, str(tmp_path / "audit.json"), PYTHONPATH=str(clone.path))
    seen = json.loads((tmp_path / "audit.json").read_text())
    root = Path(os.path.realpath(clone.path))

    def inside(kind: str) -> set[str]:
        paths = {source(Path(name)) for name in seen[kind] if Path(name).is_relative_to(root)}
        names = {path.relative_to(root) for path in paths if path.exists() and path.name != "__init__.py"}
        return {name.as_posix() for name in names if name.parts[0] not in OWN | {".git", ".dvc"}}

    def covers(declared: set[str], names: set[str]) -> tuple[set[str], set[str]]:
        under = {name: {one for one in declared if Path(name).is_relative_to(one)} for name in names}
        return {name for name, ones in under.items() if not ones}, declared - set().union(*under.values())

    assert covers(
        {dep.replace("${download.dataset}", "digits") for dep in STAGES[stage]["deps"]} - {"nets"},  # of classes only
        {name for name in inside("read") - inside("written") if not name.startswith("recipes")},
    ) == (set(), set())
    assert covers(outputs(stage), inside("written")) == (set(), set())
    declared = {param for param in STAGES[stage].get("params", []) if isinstance(param, str)}
    keys, names = ({key.replace(".", "/") for key in of} for of in (declared, seen["params"]))
    assert covers(keys, names) == (set(), set())
    recipes = {"recipes/fast.yaml"} if {RECIPE: None} in STAGES[stage].get("params", []) else set()
    assert {name for name in inside("read") if name.startswith("recipes")} == recipes
    test_set = {name for name in inside("read") if "/t10k-" in name}
    assert stage != "train" or not test_set
    assert all(path.stat().st_size == 0 for path in (PROJECT / "stages").rglob("__init__.py"))


def test_an_undeclared_read_is_found(finished: Clone, tmp_path: Path) -> None:
    """The check above is one that can fail: a stage that peeks into the README is caught."""
    clone = finished.copy(tmp_path / "clone")
    here = "    chosen = settings"
    clone.replace("stages/split/main.py", here, f"    Path('README.md').read_text()\n{here}")
    clone.run(sys.executable, "-c", AUDIT, "split", str(tmp_path / "audit.json"), PYTHONPATH=str(clone.path))
    seen = json.loads((tmp_path / "audit.json").read_text())
    assert os.path.realpath(clone.path / "README.md") in seen["read"]

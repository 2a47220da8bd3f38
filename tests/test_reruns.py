"""An edit runs the stages that it affects, and no other: the real `dvc repro` after each of a table of edits."""

import ast
import functools
import json
import re
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import PROJECT, Clone

ALL = ["download", "split", "train", "evaluate", "report"]
STAGES = YAML(typ="safe").load((PROJECT / "dvc.yaml").read_text())["stages"]


@functools.cache
def imports(module: Path) -> set[Path]:
    """Return the project's files that `module` itself imports."""
    names: list[str | None] = []
    for node in ast.walk(ast.parse((PROJECT / module).read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    paths = {Path(*name.split(".")).with_suffix(".py") for name in names if name}
    return {path for path in paths if (PROJECT / path).is_file()}


def imported(module: Path, seen: set[Path]) -> set[Path]:
    """Return the project's files that `module` imports, and those that they import, and itself."""
    seen.add(module)
    for path in imports(module) - seen:
        imported(path, seen)
    return seen


def declared(stage: str) -> dict[Path, set[Path]]:
    """Return the Python files of each dependency of `stage` that is a folder of code."""
    return {Path(dep): files_of(Path(dep)) for dep in STAGES[stage]["deps"] if dep.startswith("stages/")}


def files_of(folder: Path) -> set[Path]:
    """Return the Python files of `folder`."""
    found = (PROJECT / folder).rglob("*.py")
    return {path.relative_to(PROJECT) for path in found if path.name != "__init__.py"}


@pytest.mark.parametrize("stage", ALL)
def test_each_module_knows_its_room(stage: str) -> None:
    """A stage imports, transitively, every file of the folders that it declares, and no other file of the project."""
    start, main = (Path("stages", stage, name) for name in ("__main__.py", "main.py"))  # the first runs the second
    assert set().union(*declared(stage).values()) == imported(start, set()) | imported(main, set())


def test_a_module_lives_with_those_who_import_it() -> None:
    """Two folders that the same stages declare would be one; and each file of `stages` is in a declared folder."""
    users: dict[Path, tuple[str, ...]] = {}
    for stage in ALL:
        for place in declared(stage):
            users[place] = (*users.get(place, ()), stage)
    shared = [stages for stages in users.values() if len(stages) > 1]
    assert len(set(shared)) == len(shared)
    assert set().union(*map(files_of, users)) == files_of(Path("stages"))


def test_no_import_goes_in_a_circle() -> None:
    """No file of the project imports, transitively, itself; and no stage imports a tool."""
    for file in files_of(Path("stages")) | files_of(Path("tools")):
        reached = set()
        for other in imported(file, set()) - {file}:
            reached |= imported(other, set())
        assert file not in reached, file
        assert file.parts[0] == "tools" or not any(other.parts[0] == "tools" for other in reached)


RUN = [
    ("datasets/digits/dataset.yaml:title", "Mine", ["download", "report"]),
    ("split.seed", "1", ["split", "train", "evaluate", "report"]),
    ("recipes/fast.yaml:learning_rate", "2e-2", []),  # the same number
]


def test_an_edit_of_a_param_runs_what_it_affects(finished: Clone, tmp_path: Path) -> None:
    """Params of each section, one after the other; `download.dataset` has a test of its own with the real MNIST."""
    clone = finished.copy(tmp_path / "clone")
    for param, value, expected in RUN:
        output = clone.run("dvc", "exp", "run", "-S", f"{param}={value}").stdout
        ran = [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]
        assert ran == expected, param


PARAMS, FAST = "params.yaml", "recipes/fast.yaml"
AFFECTED: list[tuple[str, ...]] = [
    (PARAMS, "dataset: digits", "dataset: mnist", "download", "report"),
    (PARAMS, "method: stratified", "method: group", "download", "split", "report"),
    (PARAMS, "validation_fraction: 0.1", "validation_fraction: 0.2", "split", "report"),
    (PARAMS, "seed: 0 # random seed of weights", "seed: 1 # random seed of weights", "train", "report"),
    (PARAMS, "recipe: fast", "recipe: cnn_10_20", "train", "report"),
    (PARAMS, "device: cpu", "device: cuda", "train", "report"),
    (FAST, "learning_rate: 0.02", "learning_rate: 0.03", "train", "report"),
    (FAST, "- linear classes", "- linear classes bias=false", "train", "report"),
    (FAST, "optimizer: adamw", "optimizer: adam", "train", "report"),
    (FAST, "- 0.9\n", "- 0.99\n", "train", "report"),
    (FAST, "weight_decay: 0.01", "weight_decay: 0", "train", "report"),
    (FAST, "schedule: one_cycle", "schedule: constant", "train", "report"),
    (FAST, "batch_size: 256", "batch_size: 120", "train", "report"),
    (FAST, "shards: 4", "shards: 3", "train", "report"),
    (FAST, "epochs: 2", "epochs: 1", "train", "report"),
    (FAST, "min_steps: 0", "min_steps: 9", "train", "report"),
    (FAST, "shift: 1", "shift: 0", "train", "report"),
    (FAST, "label_smoothing: 0.03", "label_smoothing: 0", "train", "report"),
]


# Applies each edit that it is given as JSON to a file, prints what `dvc status --json` prints, and takes the edit back
STATUS = """
import json, sys
from pathlib import Path
from dvc.repo import Repo
for file, old, new in json.loads(sys.argv[1]):
    path = Path(file)
    before = path.read_text()
    if old:
        assert before.count(old) == 1, (file, old)
    path.write_text(before.replace(old, new) if old else before + new)
    print(json.dumps(Repo().status()))
    path.write_text(before)
print(json.dumps(Repo().status()))
"""


def affected(clone: Clone, edits: list[tuple[str, str, str]]) -> list[list[str]]:
    """Return, for each of `edits` and for none, the stages whose own deps or params are not those of the lock.

    An edit is a file, an old text that stands in it once, and a new one; without an old one, the new one is added.
    """
    lines = clone.run(sys.executable, "-c", STATUS, json.dumps(edits)).stdout.splitlines()
    return [sorted(json.loads(line), key=ALL.index) for line in lines]


def test_a_param_affects_the_stages_that_declare_it(finished: Clone, tmp_path: Path) -> None:
    """`dvc status` after an edit of each other param names those stages, and no other."""
    edits = [(file, old, new) for file, old, new, *_ in AFFECTED]
    assert affected(finished.copy(tmp_path / "clone"), edits) == [stages for _, _, _, *stages in AFFECTED] + [[]]


def test_every_param_is_tried() -> None:
    """The two tests name every key of params.yaml and of the recipe."""
    values = YAML(typ="safe").load((PROJECT / PARAMS).read_text())
    keys = {f"{section}.{key}" for section in values for key in values[section]} - {"split.seed"}
    recipe = YAML(typ="safe").load((PROJECT / FAST).read_text())
    tried = {old.split(":")[0] for _, old, *_ in AFFECTED}
    assert {key.split(".")[1] for key in keys} | set(recipe) <= tried | {"model", "betas"}  # edited by their elements
    assert "split.seed" in {param for param, *_ in RUN}
    assert set(values) <= set(ALL)


def test_an_edit_of_another_recipe_runs_nothing(finished: Clone, tmp_path: Path) -> None:
    """A comment and an edit of another recipe affect nothing; choosing that recipe affects the training."""
    clone = finished.copy(tmp_path / "clone")
    params = clone.path / "params.yaml"
    params.write_text("# a comment\n" + params.read_text())
    clone.replace("recipes/lenet5_relu.yaml", "optimizer: adam #", "optimizer: adamw #")
    assert affected(clone, [("params.yaml", "recipe: fast", "recipe: lenet5_relu")]) == [["train", "report"], []]


def test_comments_survive_a_run(finished: Clone, tmp_path: Path) -> None:
    """`-S` changes the value of a key and leaves its comment, in params.yaml and in a recipe."""
    clone = finished.copy(tmp_path / "clone")
    sets = ("train.seed=7", "recipes/fast.yaml:epochs=1", "recipes/fast.yaml:betas=[0.8,0.95]")
    clone.run("dvc", "exp", "run", "--queue", *(word for one in sets for word in ("-S", one)))
    clone.run("dvc", "exp", "run", *(word for one in sets for word in ("-S", one)), "split")
    changed = clone.run("git", "diff", "--unified=0", "params.yaml", "recipes").stdout.splitlines()
    lines = [line for line in changed if re.match(r"[-+](?!--|\+\+)", line)]
    for old, new in [("seed: 0", "seed: 7"), ("epochs: 2", "epochs: 1")]:
        (before,), (after,) = ([line[1:] for line in lines if f"{text} #" in line] for text in (old, new))
        assert before.replace(old, new) == after
    assert [line for line in lines if "#" not in line] == ["-- 0.7", "-- 0.9", "+- 0.8", "+- 0.95"]


ROOMS = {
    "stages/common": ALL,
    "stages/net": ALL[2:],
    **{f"stages/{stage}": [stage] for stage in ALL},
}


def test_an_edit_of_code_affects_the_stages_that_import_it(finished: Clone, tmp_path: Path) -> None:
    """A comment more in a file of each room: the stages that use it are to run, and no other; a tool affects none."""
    rooms = {**ROOMS, "tools": []}
    edits = [(sorted(files_of(Path(place)))[-1].as_posix(), "", "# a comment\n") for place in rooms]
    assert affected(finished.copy(tmp_path / "clone"), edits) == [*rooms.values(), []]


def test_an_edit_of_code_that_changes_no_output_runs_no_other_stage(finished: Clone, tmp_path: Path) -> None:
    """The stages that use the files run and write the same bytes, so none runs for their sake; a second run is none."""
    clone = finished.copy(tmp_path / "clone")
    for file in ("stages/split/main.py", "stages/train/gradients.py"):
        path = clone.path / file
        path.write_text(path.read_text() + "# a comment\n")
    assert clone.repro() == ["split", "train"]
    assert clone.repro() == []
    assert clone.run("git", "status", "--porcelain", "metrics", "plots", "report").stdout == ""

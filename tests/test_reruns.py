"""An edit runs the stages that it affects, and no other: the real `dvc repro` after each of a table of edits."""

import ast
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import PROJECT, Clone

ALL = ["download", "split", "train", "evaluate", "report"]
STAGES = YAML(typ="safe").load((PROJECT / "dvc.yaml").read_text())["stages"]


def imported(module: Path, seen: set[Path]) -> set[Path]:
    """Return the project's files that `module` imports, and those that they import, and itself."""
    seen.add(module)
    for node in ast.walk(ast.parse((PROJECT / module).read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            path = Path(*name.split(".")).with_suffix(".py")
            if (PROJECT / path).is_file() and path not in seen:
                imported(path, seen)
    return seen


@pytest.mark.parametrize("stage", ALL)
def test_code_declared_is_code_imported(stage: str) -> None:
    """The `.py` deps of a stage are its own file and what that imports from the project, transitively."""
    declared = {Path(dep) for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert declared == imported(Path("stages", f"{stage}.py"), set())


RUN = [
    ("split.seed", "1", ["split", "train", "evaluate", "report"]),
    ("train.device", "cpu", ["train"]),  # the same bits, so there is nothing new to evaluate
    ("recipes.fast.learning_rate", "2e-2", []),  # the same number
    ("evaluate.batch_size", "100", ["evaluate"]),  # the same numbers, so nothing new to draw
]


def test_an_edit_of_a_param_runs_what_it_affects(finished: Clone, tmp_path: Path) -> None:
    """Params of each section, one after the other; `download.dataset` has a test of its own with the real MNIST."""
    clone = finished.copy(tmp_path / "clone")
    for param, value, expected in RUN:
        output = clone.run("dvc", "exp", "run", "-S", f"{param}={value}").stdout
        ran = [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]
        assert ran == expected, param


AFFECTED: list[tuple[str, ...]] = [
    ("dataset: digits", "dataset: mnist", "download", "evaluate", "report"),
    ("method: stratified", "method: writer", "download", "split"),
    ("validation_fraction: 0.1", "validation_fraction: 0.2", "split"),
    ("train:\n  seed: 0", "train:\n  seed: 1", "train", "report"),
    ("recipe: fast", "recipe: cnn_10_20", "train", "report"),
    ("learning_rate: 0.02", "learning_rate: 0.03", "train", "report"),
    ("- linear 10", "- linear 10 bias=false", "train", "report"),
    ("optimizer: adamw", "optimizer: adam", "train", "report"),
    ("    - 0.9\n", "    - 0.99\n", "train", "report"),
    ("weight_decay: 0.01", "weight_decay: 0", "train", "report"),
    ("schedule: one_cycle", "schedule: constant", "train", "report"),
    ("batch_size: 256", "batch_size: 120", "train", "report"),
    ("shards: 4", "shards: 3", "train", "report"),
    ("epochs: 2", "epochs: 1", "train", "report"),
    ("shift: 1", "shift: 0", "train", "report"),
    ("label_smoothing: 0.03", "label_smoothing: 0", "train", "report"),
]


def test_a_param_affects_the_stages_that_declare_it(finished: Clone, tmp_path: Path) -> None:
    """`dvc status` after an edit of each other param names those stages, and no other."""
    clone = finished.copy(tmp_path / "clone")
    params = clone.path / "params.yaml"
    before = params.read_text()
    for old, new, *stages in AFFECTED:
        head, found, tail = before.partition(old)
        assert found, old
        params.write_text(head + new + tail)
        assert affected(clone) == stages, new
    params.write_text(before)
    assert affected(clone) == []


def affected(clone: Clone) -> list[str]:
    """Return the stages whose own deps or params are not those of the lock."""
    return sorted(json.loads(clone.run("dvc", "status", "--json").stdout), key=ALL.index)


def test_every_param_is_tried() -> None:
    """The two tables name every key of params.yaml."""
    values = YAML(typ="safe").load((PROJECT / "params.yaml").read_text())
    keys = {key for section in ALL[:-1] for key in values[section]}
    tried = {param.split(".")[-1] for param, _, _ in RUN}
    tried |= {old.splitlines()[-1].strip(" -").split(":")[0] for old, *_ in AFFECTED}
    assert keys | set(values["recipes"]["fast"]) <= tried | {"model", "betas"}  # edited by their elements


def test_an_edit_of_another_recipe_runs_nothing(finished: Clone, tmp_path: Path) -> None:
    """A comment and an edit of another recipe run nothing; taking that recipe trains."""
    clone = finished.copy(tmp_path / "clone")
    params = clone.path / "params.yaml"
    params.write_text("# a comment\n" + params.read_text())
    assert clone.repro() == []
    clone.replace("params.yaml", "optimizer: adam\n", "optimizer: adamw\n")  # of lenet5_relu
    assert clone.repro() == []
    clone.replace("params.yaml", "recipe: fast", "recipe: lenet5_relu")
    assert clone.repro() == ["train", "evaluate", "report"]


EVERY_STAGE = ["command", "declared", "errors", "files", "idx", "settings"]
CODE = {
    "stages/download.py": ["download"],
    "stages/split.py": ["split"],
    "stages/train.py": ["train"],
    "stages/evaluate.py": ["evaluate"],
    "stages/report.py": ["report"],
    "stages/compare.py": ["report"],
    "stages/predict.py": [],  # no stage, but a user's command
    "stages/export.py": [],
    "stages/common/digit.py": ["download"],
    **{f"stages/common/{name}.py": ["report"] for name in ("pictures", "revisions")},
    "stages/common/statistics.py": ["evaluate", "report"],
    **{f"stages/common/{name}.py": ["train"] for name in ("checkpoint", "gradients", "optimizer", "processes")},
    **{f"stages/common/{name}.py": ALL[2:] for name in ("exact", "inference", "nets", "workers")},
    **{f"stages/common/{name}.py": ALL for name in EVERY_STAGE},
}


def test_an_edit_of_code_affects_the_stages_that_import_it(finished: Clone, tmp_path: Path) -> None:
    """A comment more in each file of `stages`: the stages that use it are to run, and no other."""
    clone = finished.copy(tmp_path / "clone")
    assert set(CODE) == {str(path.relative_to(PROJECT)) for path in (PROJECT / "stages").rglob("[a-z]*.py")}
    for file, stages in CODE.items():
        path = clone.path / file
        before = path.read_text()
        path.write_text(before + "# a comment\n")
        assert affected(clone) == stages, file
        path.write_text(before)
    assert affected(clone) == []


@pytest.mark.parametrize("file", ["stages/split.py", "stages/common/gradients.py"])
def test_an_edit_of_code_that_changes_no_output_runs_no_other_stage(finished: Clone, tmp_path: Path, file: str) -> None:
    """The stages that use the file run and write the same bytes, so none runs for their sake; a second run is none."""
    clone = finished.copy(tmp_path / "clone")
    path = clone.path / file
    path.write_text(path.read_text() + "# a comment\n")
    assert clone.repro() == CODE[file]
    assert clone.repro() == []
    assert clone.run("git", "status", "--porcelain", "metrics", "plots").stdout == ""

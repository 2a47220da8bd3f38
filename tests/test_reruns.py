"""An edit runs the stages that it affects, and no other: the real `dvc repro` after each of a table of edits."""

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import PROJECT, Clone

ALL = ["download", "split", "train", "evaluate"]
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


RECIPE = ("recipes.fast.", ["train", "evaluate"])
PARAMS = [
    ("split.seed", "1", ["split", "train", "evaluate"]),
    ("split.validation_fraction", "0.2", ["split", "train", "evaluate"]),
    ("train.seed", "1", ["train", "evaluate"]),
    ("train.device", "cpu", ["train"]),  # the same bits, so there is nothing new to evaluate
    ("recipes.fast.model.12", "linear 10 bias=false", ["train", "evaluate"]),
    ("recipes.fast.optimizer", "adam", ["train", "evaluate"]),
    ("recipes.fast.learning_rate", "0.02", ["train", "evaluate"]),
    ("recipes.fast.learning_rate", "2e-2", []),
    ("recipes.fast.betas.0", "0.8", ["train", "evaluate"]),
    ("recipes.fast.weight_decay", "0", ["train", "evaluate"]),
    ("recipes.fast.schedule", "constant", ["train", "evaluate"]),
    ("recipes.fast.batch_size", "120", ["train", "evaluate"]),
    ("recipes.fast.shards", "3", ["train", "evaluate"]),
    ("recipes.fast.epochs", "1", ["train", "evaluate"]),
    ("recipes.fast.shift", "1", ["train", "evaluate"]),
    ("evaluate.batch_size", "100", ["evaluate"]),
]


def test_an_edit_of_a_param_runs_what_it_affects(finished: Clone, tmp_path: Path) -> None:
    """Each param of each section, one after the other; the data set itself has a test with the real MNIST."""
    clone = finished.copy(tmp_path / "clone")
    for param, value, expected in PARAMS:
        output = clone.run("dvc", "exp", "run", "-S", f"{param}={value}").stdout
        ran = [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]
        assert ran == expected, param
    missing = {f"{section}.{key}" for section in ("split", "train", "evaluate", "recipes.fast") for key in keys(section)}
    tried = {".".join(part for part in param.split(".") if not part.isdigit()) for param, _, _ in PARAMS}
    assert missing - tried == {"train.recipe"}


def keys(section: str) -> list[str]:
    values = YAML(typ="safe").load((PROJECT / "params.yaml").read_text())
    for key in section.split("."):
        values = values[key]
    return list(values)


def test_an_edit_of_another_recipe_runs_nothing(finished: Clone, tmp_path: Path) -> None:
    """A comment and a new recipe run nothing; taking the new recipe trains."""
    clone = finished.copy(tmp_path / "clone")
    params = clone.path / "params.yaml"
    params.write_text("# a comment\n" + params.read_text())
    assert clone.repro() == []
    block = params.read_text().partition("  fast:\n")[2]
    params.write_text(params.read_text() + "  slow:\n" + block.replace("epochs: 4", "epochs: 5"))
    assert clone.repro() == []
    clone.replace("params.yaml", "recipe: fast", "recipe: slow")
    assert clone.repro() == ["train", "evaluate"]


EVERY_STAGE = ["command", "files", "idx", "settings"]
CODE = {
    "stages/download.py": ["download"],
    "stages/split.py": ["split"],
    "stages/train.py": ["train"],
    "stages/evaluate.py": ["evaluate"],
    "stages/common/pictures.py": ["evaluate"],
    "stages/common/gradients.py": ["train"],
    **{f"stages/common/{name}.py": ["train", "evaluate"] for name in ("exact", "inference", "nets", "workers")},
    **{f"stages/common/{name}.py": ALL for name in EVERY_STAGE},
}


def test_an_edit_of_code_runs_the_stages_that_import_it(finished: Clone, tmp_path: Path) -> None:
    """A comment more in each file of `stages`: the stages that use it run, and as nothing they write changes, no other."""
    clone = finished.copy(tmp_path / "clone")
    assert set(CODE) == {str(path.relative_to(PROJECT)) for path in (PROJECT / "stages").rglob("[a-z]*.py")}
    for file, expected in CODE.items():
        path = clone.path / file
        path.write_text(path.read_text() + "# a comment\n")
        assert clone.repro() == expected, file
    assert clone.repro() == []
    assert clone.run("git", "status", "--porcelain", "metrics", "plots").stdout == ""

"""What is checked of a change before anyone reads it: lint, types, and the workflow that GitHub runs for a fork."""

import ast
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import PROJECT, Clone

WORKFLOW = PROJECT / ".github/workflows/pipeline.yml"


@pytest.mark.parametrize(
    "command",
    [
        "ruff check .",
        "ruff format --check .",
        pytest.param("mypy", marks=pytest.mark.slow),  # half a minute without its cache
        f"check-jsonschema --builtin-schema vendor.github-workflows {WORKFLOW}",
        f"zizmor --quiet --offline --strict-collection {WORKFLOW}",
    ],
)
def test_a_check_has_nothing_to_say(command: str) -> None:
    """Style, types, the workflow's shape and its security."""
    done = subprocess.run(command.split(), cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_functions_fit_a_screen() -> None:
    """No function outside the tests has more than 50 lines."""
    for path in sorted(of for folder in ("nets", "stages", "tools") for of in (PROJECT / folder).rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(function, ast.FunctionDef):
                assert function.end_lineno - function.lineno < 50, f"{path}: {function.name}"


def test_names_of_tests_can_be_read(request: pytest.FixtureRequest) -> None:
    """A test's id has no bytes in it, and fits a line: pytest -n 2 needs the same ids in both of its processes."""
    for item in request.session.items:
        assert item.name.isprintable() and "\\x" not in item.name and len(item.name) < 200, item.name


def step(name: str) -> tuple[str, ...]:
    """Return a step of the workflow as the command that GitHub makes of it."""
    workflow = YAML(typ="safe").load(WORKFLOW.read_text())
    (job,) = workflow["jobs"].values()
    (script,) = (step["run"] for step in job["steps"] if step.get("name") == name)
    shells = {"bash": ("bash", "--noprofile", "--norc", "-eo", "pipefail"), None: ("bash", "-e")}
    return (*shells[workflow.get("defaults", {}).get("run", {}).get("shell")], "-c", script)


@pytest.mark.slow
def test_the_workflows_steps(measured: Clone, tmp_path: Path) -> None:
    """A branch with its results is reproduced, and compared in the summary; one without them is refused.

    So is one that cannot be compared, although `tee`, the last command of that step, ends well.
    """
    work = measured.copy(tmp_path / "work")
    work.run("git", "switch", "--quiet", "--create", "quicker")
    work.replace("params.yaml", "recipe: fast", "recipe: quick")
    work.run("git", "commit", "--quiet", "--all", "--message", "quicker, its results forgotten")
    runner = work.clone(tmp_path / "runner")
    refused = runner.run(*step("Reproduce"), status=1)
    assert " M metrics/train.json" in refused.stdout
    assert refused.stdout.endswith("commit what dvc repro wrote\n")
    runner.run("git", "commit", "--quiet", "--all", "--message", "with its results")
    runner.run(*step("Reproduce"))
    assert "error: " in runner.run(*step("Compare"), status=255, BASE="no-such-branch").stderr.lower()
    summary = tmp_path / "summary.md"
    runner.run(*step("Compare"), GITHUB_STEP_SUMMARY=str(summary), BASE="origin/main")
    *_, verdict = lines = summary.read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert ["metrics/train.json", "parameters", "67978", "16786", "-51192"] in cells
    assert "origin/main is better than the workspace" in verdict

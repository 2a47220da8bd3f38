"""Runs side by side, from what git has: digits only one classifies correctly, params, tests, and verdicts in words."""

import csv
import dataclasses
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from stages.common.errors import StageError
from stages.report import comparison, runs
from tests.conftest import Clone, Shared
from tools.seeds import compare_seeds

# One worker builds the clone, and the other need not wait for it
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("compared")]
COMPARE = ("python", "-m", "tools.compare")
SEEDS = {"quick-1": ("quick", 1), "quick-2": ("quick", 2), "fast-1": ("fast", 1), "fast-2": ("fast", 2)}


@pytest.fixture(scope="session")
def compared(finished: Clone, shared: Shared) -> Clone:
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


def right(clone: Clone, revision: str) -> set[int]:
    """Return the rows of the test digits that the run of `revision` classifies correctly."""
    rows = csv.DictReader(clone.run("git", "show", f"{revision}:plots/predictions.csv").stdout.splitlines())
    return {place for place, row in enumerate(rows) if row["actual"] == row["predicted"]}


def compare(clone: Clone, *arguments: str) -> dict[str, Any]:
    """Return what a comparison prints as JSON."""
    found: dict[str, Any] = json.loads(clone.run(*COMPARE, *arguments, "--json").stdout)
    return found


def test_two_branches_on_a_clone_without_cache(compared: Clone, tmp_path: Path) -> None:
    """No data, no cache, no remote of DVC's: the digits that only one gets right are those of the tables in git."""
    clone = compared.clone(tmp_path / "clone")
    found = compare(clone, "main", "origin/quick")
    ours, theirs = right(clone, "main"), right(clone, "origin/quick")
    assert [run["name"] for run in found["runs"]] == ["main", "origin/quick"]
    assert [run["only_right"] for run in found["runs"]] == [sorted(ours - theirs), sorted(theirs - ours)]
    labels = [row["actual"] for row in csv.DictReader((clone.path / "plots/predictions.csv").open())]
    classes = Counter(labels[row] for row in ours - theirs)
    assert found["runs"][0]["only_right_by_class"] == classes
    assert found["runs"][0]["metrics"]["accuracy"] == len(ours) / 500
    assert found["params"] == {"train.recipe": ["fast", "quick"]}
    counts = f"{len(ours - theirs)} images are right only in main, {len(theirs - ours)} only in origin/quick"
    assert len(ours) > len(theirs)
    assert found["mcnemar_p"] < 0.05
    assert found["verdict"].startswith(f"{counts} (p = {found['mcnemar_p']:.2g}): main is better")
    assert "No param differs" not in found["verdict"]
    printed = clone.run(*COMPARE, "main", "origin/quick").stdout
    assert found["verdict"] in " ".join(printed.split())
    assert max(map(len, printed.splitlines())) <= 100
    assert f"{len(ours) / 500:.2%} (" in printed
    assert re.search(rf"^their classes +{classes.most_common(1)[0][0]} \({max(classes.values())}\), ", printed, re.M)
    markdown = clone.run(*COMPARE, "main", "origin/quick", "--md").stdout
    assert "| train.recipe " in markdown
    assert re.search(r"^\| their numbers in the test set +\| (\d+, ){20}… +\|", markdown, re.MULTILINE)


def test_the_workspace_and_experiments(compared: Clone) -> None:
    """B is the workspace unless it is named; A may be an experiment; what has the same weights is said to."""
    found = compare(compared, "quick-1")
    assert [run["name"] for run in found["runs"]] == ["quick-1", "the workspace"]
    assert found["params"] == {"train.recipe": ["quick", "fast"], "train.seed": [1, 0]}
    assert "main and the workspace have the same weights, bit for bit." in compared.run(*COMPARE, "main").stdout


def test_a_branch_called_workspace(compared: Clone, tmp_path: Path) -> None:
    """It is a branch like any other, and what is said of it is not said of the workspace."""
    clone = compared.copy(tmp_path / "clone")
    clone.run("git", "branch", "workspace", "quick")
    assert "the workspace is better than workspace." in compare(clone, "workspace")["verdict"]


def test_params_of_one_recipe_that_differ_are_named(compared: Clone, tmp_path: Path) -> None:
    """An edit of a value, of a layer, and a key that one file has alone, each by the name that `-S` takes."""
    clone = compared.copy(tmp_path / "clone")
    clone.replace("recipes/fast.yaml", "epochs: 2", "epochs: 3")
    clone.replace("recipes/fast.yaml", "- linear classes", "- linear classes bias=false")
    recipe = (clone.path / "recipes/fast.yaml").read_text()
    (clone.path / "recipes/fast.yaml").write_text(re.sub("shift: 1.*\n", "", recipe))
    clone.replace("params.yaml", "seed: 0 # random seed of the split", "seed: 7")
    assert compare(clone, "main")["params"] == {
        "split.seed": [0, 7],
        "recipes/fast.yaml:model.12": ["linear classes", "linear classes bias=false"],
        "recipes/fast.yaml:epochs": [2, 3],
        "recipes/fast.yaml:shift": [1, None],
    }


def commit(clone: Clone, name: str) -> str:
    """Return the commit that git has for `name`."""
    return clone.run("git", "rev-parse", f"{name}^{{commit}}").stdout.strip()


def experiment(clone: Clone, name: str) -> str:
    """Return the full name of the one experiment called `name`."""
    return clone.run("git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}").stdout.strip()


def test_a_name_of_several_commits_is_refused(compared: Clone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Branch, tag and experiment of one name: the candidates are named, and each can be written instead."""
    clone = compared.copy(tmp_path / "clone")
    quick_1, fast_1 = experiment(clone, "quick-1"), experiment(clone, "fast-1")
    elsewhere = f"refs/exps/00/{'0' * 38}/fast-1"  # an experiment that started from another commit
    main = quick_1.replace("quick-1", "main")
    quick, head = commit(clone, "quick"), commit(clone, "HEAD")
    refs = {main: quick_1, elsewhere: head, "refs/tags/quick": head, "refs/tags/HEAD": quick}
    for ref, target in {**refs, "refs/tags/twice": quick, "refs/heads/twice": quick}.items():
        clone.run("git", "update-ref", ref, target)
    monkeypatch.chdir(clone.path)
    for name, candidates in {
        "main": ["refs/heads/main", main],
        "quick": ["refs/heads/quick", "refs/tags/quick"],
        "HEAD": ["refs/tags/HEAD", head],
        "fast-1": [fast_1, elsewhere],
    }.items():
        with pytest.raises(StageError) as failure:
            runs.resolve(name)
        assert str(failure.value) == f"{name}: ambiguous; write one of {', '.join(sorted(candidates))}"
        for candidate in candidates:
            assert runs.resolve(candidate) == commit(clone, candidate)
    assert runs.resolve("twice") == quick  # two names of one commit
    assert f"main: ambiguous; write one of {main}, refs/heads/main" in refusal(clone, "main")


def test_a_name_is_git_s_own(compared: Clone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No pattern, but any revision that git takes; in a fresh clone, a branch of the remote's, as DVC has it."""
    monkeypatch.chdir(compared.path)
    for pattern in ("quick-?", "quick*", "[q]uick-1", "", "--all"):
        with pytest.raises(StageError, match=f"^{re.escape(pattern)}: no such revision"):
            runs.resolve(pattern)
    main = commit(compared, "main")
    for name in (main[:9], "@", "HEAD~0", "main@{0}", "@{0}", "refs/heads/main", "heads/main", "quick-1^", "quick~1"):
        assert runs.resolve(name) == main
    clone = compared.clone(tmp_path / "clone")
    monkeypatch.chdir(clone.path)
    theirs = json.loads(clone.run("dvc", "metrics", "diff", "quick", "--json").stdout)
    assert runs.load("quick").weights == theirs["metrics/train.json"]["weights_sha256"]["old"]
    clone.run("git", "branch", "ours/wider")
    with pytest.raises(StageError, match=r"^wider: no such revision"):  # `ours` is no remote
        runs.resolve("wider")


def test_seeds(compared: Clone) -> None:
    """Mean and spread of each group, on validation and on test, and the paired test of the seeds that both have."""
    found = compare(compared, "--seeds", "quick-1", "quick-2", "--against", "fast-1", "fast-2")
    assert [group["seeds"] for group in found["groups"]] == [[1, 2], [1, 2]]
    assert [group["params"] for group in found["groups"]] == [{"train.recipe": name} for name in ("quick", "fast")]
    for measure, file, key in (("validation", "train", "validation_accuracy"), ("test", "evaluate", "accuracy")):
        quick, fast = (
            [
                json.loads(compared.run("git", "show", f"{experiment(compared, name)}:metrics/{file}.json").stdout)[key]
                for name in group["runs"]
            ]
            for group in found["groups"]
        )
        for group, accuracies in zip(found["groups"], (quick, fast), strict=True):
            assert group[measure]["mean"] == pytest.approx(mean(accuracies))
            assert group[measure]["deviation"] == pytest.approx(stdev(accuracies))
        assert found[measure]["test"] == "paired t-test of the seeds 1, 2"
        assert found[measure]["difference"] == pytest.approx(mean(quick) - mean(fast))
    printed = compared.run(*COMPARE, "--seeds", "quick-1", "quick-2", "--against", "fast-1", "fast-2").stdout
    assert f"test: {found['test']['verdict']}" in " ".join(printed.split())
    assert max(map(len, printed.splitlines())) <= 100
    assert max(map(len, printed.split("\n\n")[0].splitlines())) <= 100


def test_all_experiments_of_the_baseline(compared: Clone) -> None:
    """With no names: each configuration in a group of its own, with the params that set it apart."""
    groups = compare(compared, "--seeds")["groups"]
    found = {group["params"]["train.recipe"]: dict(zip(group["seeds"], group["runs"], strict=True)) for group in groups}
    assert len(groups) == 2
    assert found["fast"] == {1: "fast-1", 2: "fast-2"}
    assert {1: "quick-1", 2: "quick-2"}.items() <= found["quick"].items()
    printed = compared.run(*COMPARE, "--seeds").stdout
    assert "train.recipe=quick" in printed
    assert max(map(len, printed.splitlines())) <= 100


def grouped(*named: list[str]) -> list[list[str]]:
    """Return the names of the runs of each group."""
    return [group["runs"] for group in compare_seeds([list(map(runs.load, names)) for names in named])["groups"]]


def test_a_group_of_seeds_is_what_it_says(compared: Clone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run counts once, however often it is named; what differs in more than the seed is shown apart or refused."""
    clone = compared.copy(tmp_path / "clone")
    monkeypatch.chdir(clone.path)
    assert grouped(["quick-2", "quick-1", "quick-2", "quick-2"]) == [["quick-1", "quick-2"]]
    assert grouped(["quick-1", "fast-1", "quick-2"]) == [["quick-1", "quick-2"], ["fast-1"]]
    with pytest.raises(StageError, match=r"quick-1, fast-2 differ in train.recipe; in a group, train.seed alone may"):
        grouped(["quick-1", "fast-2"], ["fast-1", "fast-2"])
    pair = ["quick-1", "quick-2"]
    for alone, *others in ((["quick-1"],), (["main", "HEAD"],), (["quick-1", "fast-2"],), (["fast-1"], pair)):
        with pytest.raises(StageError, match=f"^{alone[0]}: one run alone has no spread; name two or more"):
            grouped(*others, alone)
    first, second = ([runs.load(name) for name in of] for of in (pair, ["fast-1", "fast-2"]))
    with pytest.raises(StageError, match="compare runs on one data set"):
        compare_seeds([first, [dataclasses.replace(run, dataset="mnist") for run in second]])
    clone.run("git", "switch", "--quiet", "--detach", experiment(clone, "quick-2"))
    clone.replace("params.yaml", "seed: 2", "seed: 3")
    clone.run("git", "commit", "--quiet", "--all", "--message", "another seed, not run")
    with pytest.raises(StageError, match=r"^quick-2 and HEAD: the same weights, other seeds: params were edited"):
        grouped(["quick-2", "HEAD"])
    with pytest.raises(StageError, match="has no experiments"):
        runs.experiments()
    clone.replace("params.yaml", "seed: 3", "seed: 2")
    trained = (clone.path / "metrics/train.json").read_text()
    (clone.path / "metrics/train.json").write_text(re.sub('sha256": "....', 'sha256": "0000', trained))
    clone.run("git", "commit", "--quiet", "--all", "--message", "another net")
    with pytest.raises(
        StageError, match=r"^quick-2 and HEAD: the same params, other weights: their code, data or device"
    ):
        grouped(["quick-2", "HEAD"])


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
    assert "mnist, the workspace has 500 of digits; compare runs on one data set" in refusal(compared, "main~1")
    assert "quick-1: one run alone has no spread; name two or more" in refusal(compared, "--seeds", "quick-1")
    assert " differ in train.recipe; in a group" in refusal(compared, "--seeds", "--against", "fast-1", "fast-2")
    clone = compared.copy(tmp_path / "clone")
    drawn_anew = clone.path / "datasets/digits/test.txt"  # as that of a data set of pictures
    drawn_anew.write_text("0/1.png\n")
    said = "HEAD has 500 of digits, the workspace has 500 of digits; compare runs on one data set, with one `test.txt`"
    assert said in refusal(clone, "HEAD")
    drawn_anew.unlink()
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
    assert "HEAD: has no plots/predictions.csv; another version of the pipeline" in refusal(clone, "HEAD", "older")
    assert "plots/predictions.csv: not found; run `dvc repro`" in refusal(clone, "quick")


def test_a_table_shows_what_the_files_say(finished: Clone, tmp_path: Path) -> None:
    """Also `False`, which tabulate would make True, and in few columns; Markdown in a name is escaped in Markdown."""
    clone = finished.copy(tmp_path / "clone")
    clone.run("git", "branch", "a|b<i>")
    clone.run("git", "branch", "False")
    with (clone.path / "recipes/fast.yaml").open("a") as recipe:
        recipe.write("flip: false\nmade: 2026-11-29\n")
    printed = clone.run(*COMPARE, "main").stdout
    added = ("recipes/fast.yaml:flip +false", 'recipes/fast.yaml:made +"2026-11-29"')
    for row in (*added, "download.dataset +digits +digits", "train.recipe +fast +fast"):
        assert re.search(f"^{row}$", printed, re.MULTILINE)
    narrow = clone.run(*COMPARE, "False", COLUMNS="60").stdout.splitlines()
    assert narrow[0].split() == ["False", "the", "workspace"]
    assert max(map(len, narrow)) <= 60
    printed = clone.run(*COMPARE, "a|b<i>", "--md").stdout
    assert re.search(r"^\| +\| a\\\|b\\<i> +\| the workspace +\|$", printed, re.MULTILINE)


def test_metrics_of_another_model_are_refused(finished: Clone, tmp_path: Path) -> None:
    """Where DVC ran train and not evaluate, the test accuracy is the old net's: in the workspace, in an experiment."""
    clone = finished.copy(tmp_path / "clone")
    clone.run("dvc", "exp", "run", "--name", "half", "-S", "train.seed=5", "train")
    said = "metrics/evaluate.json is of another model than metrics/train.json; another version of the pipeline"
    assert f"error: the workspace: {said}" in refusal(clone, "main")
    clone.run("dvc", "repro", "evaluate")
    assert " only in the workspace (p = " in clone.run(*COMPARE, "main").stdout
    assert f"error: half: {said}" in refusal(clone, "--seeds", "main", "half")
    assert f"error: half: {said} wrote it, or none: `dvc exp apply half` and `dvc repro`" in refusal(clone, "half")


MERGE = "<<<<<<< HEAD\n{0}=======\n{0}>>>>>>> quick\n"
DAMAGES: list[tuple[str, Callable[[str], str], str]] = [
    ("metrics/evaluate.json", MERGE.format, "has the marks of a merge; see docs/branches.md"),
    ("plots/predictions.csv", MERGE.format, "has the marks of a merge; see docs/branches.md"),
    ("metrics/train.json", lambda text: text[:-3], "is damaged (Expecting"),
    ("metrics/train.json", lambda text: "[1, 2]\n", "is damaged ("),
    ("metrics/train.json", lambda text: re.sub('(n_accuracy": ).*', "\\1null,", text), "null as validation_accuracy"),
    ("metrics/evaluate.json", lambda text: re.sub('(loss": ).*', '\\1"low",', text), '"low" as loss, expected a '),
    ("plots/per_class.csv", lambda text: text.replace(".", "x"), "is damaged (could not convert string to float"),
    ("plots/per_class.csv", lambda text: text.replace("\n3,", "\nthree,"), "is damaged (there is no class three"),
    ("plots/training.csv", lambda text: text.rsplit(",", 2)[0], "is damaged (a row has "),
    ("plots/classes.csv", lambda text: "", "is damaged ("),
    ("plots/training.csv", lambda text: text.splitlines()[0], "is damaged ("),
    ("plots/classes.csv", lambda text: text + '"' + 70_000 * "0,\n", "is damaged (field larger than field limit"),
    ("plots/reliability.csv", lambda text: text.replace("upper", "Upper"), "has no upper"),
    ("metrics/evaluate.json", lambda text: text.replace('"errors": ', '"errors": 1'), "errors, plots/predictions.csv "),
]


@pytest.mark.parametrize(("file", "damage", "message"), DAMAGES)
def test_a_damaged_file_is_named(
    finished: Clone,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    file: str,
    damage: Callable[[str], str],
    message: str,
) -> None:
    """The marks of a merge, half a file, another format: one message that names the file, and says what to do."""
    shutil.copytree(finished.path, tmp_path / "copy", ignore=shutil.ignore_patterns(".git", ".dvc", "data", "models"))
    monkeypatch.chdir(tmp_path / "copy")
    Path(file).write_text(damage(Path(file).read_text()))
    with pytest.raises(StageError) as failure:
        runs.load(None)
    said = str(failure.value)
    assert said.startswith(f"the workspace: {file} ")
    assert message in said
    assert said.endswith(("`dvc repro`", "see docs/branches.md"))


def test_git_s_own_words(compared: Clone, tmp_path: Path) -> None:
    """A repository of another user's, and a folder that is none, are called what git calls them."""
    foreign = compared.run(*COMPARE, "main", status=1, GIT_TEST_ASSUME_DIFFERENT_OWNER="1").stderr
    assert "dubious ownership" in foreign
    assert "safe.directory" in foreign
    copy = tmp_path / "copy"
    shutil.copytree(compared.path, copy, ignore=shutil.ignore_patterns(".git", ".dvc"))
    assert "fatal: not a git repository" in refusal(Clone(copy, tmp_path), "main")


def test_an_output_that_takes_ascii_alone(compared: Clone) -> None:
    """What it cannot print is escaped, and the comparison goes on."""
    assert "\\u2026" in compared.run(*COMPARE, "main", "quick", PYTHONIOENCODING="ascii").stdout


def test_a_project_in_a_folder_of_a_repository(finished: Clone, common: Path, tmp_path: Path) -> None:
    """compare and the report's --against find the run of a revision there."""
    project = tmp_path / "repository/some/project"
    shutil.copytree(finished.path, project, ignore=shutil.ignore_patterns(".git", ".dvc"))
    clone = Clone(project, common / "cache")
    clone.run("git", "init", "--quiet", str(tmp_path / "repository"))
    clone.run("git", "add", "--all")
    clone.run("git", "commit", "--quiet", "--message", "a project of several")
    assert "HEAD and the workspace have the same weights" in clone.run(*COMPARE, "HEAD").stdout
    assert "have the same weights" in clone.run("python", "-m", "stages.report", "--against", "HEAD").stdout
    root = clone.run("python", "-c", "from tools import job; print(job.root())").stdout
    assert root == f"{tmp_path / 'repository'}\n"  # where a job pushes to


def test_other_data_are_told(finished: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where dvc.lock has another digest of data/raw, the verdict says that the test images may be others."""
    clone = finished.copy(tmp_path / "clone")
    monkeypatch.chdir(clone.path)
    lock = (clone.path / "dvc.lock").read_text()
    digest = re.search("- path: data/raw\n +hash: md5\n +md5: (.*)", lock)
    assert digest is not None
    first, same = runs.load("HEAD"), dataclasses.replace(runs.load(None), weights="0")
    with pytest.raises(StageError, match="has 500 of mnist; compare runs on one data set"):
        comparison.compare(first, dataclasses.replace(same, dataset="mnist"))
    assert comparison.compare(first, same)["verdict"] == "HEAD and the workspace err on the same images."
    said = "no evidence of a difference. No param differs: the code does, or the data, or the device."
    assert comparison.verdict(first, same, 3, 1, 0.5).endswith(said)
    (clone.path / "dvc.lock").unlink()  # as where DVC did not run it
    assert comparison.verdict(first, same, 3, 1, 0.5).endswith(said)
    (clone.path / "dvc.lock").write_text(lock.replace(digest[1], f"{'0' * 32}.dir"))
    assert comparison.verdict(first, same, 1, 3, 0.5).startswith(f"1 image is right only in {first.name}, 3 only in")
    said = comparison.verdict(first, same, 3, 1, 0.5)
    assert said.endswith("The data in data/raw differ: if the test images do, too, this comparison says nothing.")


def test_usage(compared: Clone) -> None:
    """Neither a revision nor seeds, or both, is refused; so are two forms at once."""
    for arguments in ((), ("main", "--seeds", "quick-1"), ("--against", "quick-1"), ("main", "--against", "quick-1")):
        assert "expected A or A B, or --seeds" in refusal(compared, *arguments)
    assert "usage: python -m tools.compare" in compared.run(*COMPARE, "main", "--md", "--json", status=2).stderr
    assert "McNemar" in compared.run(*COMPARE, "--help").stdout

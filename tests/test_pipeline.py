"""The whole pipeline as its users run it: the real `dvc` in real clones."""

import csv
import json
import platform
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.common import command
from tests.conftest import Clone

STAGES = ["download", "split", "train", "evaluate", "report"]


@pytest.mark.slow
def test_digits_need_no_network(origin: Clone, tmp_path: Path) -> None:
    """The README's first command, on a fresh clone, reads at least 97 % of the digits' test part."""
    clone = origin.clone(tmp_path / "clone")
    (line,) = (
        line for line in (clone.path / "README.md").read_text().splitlines() if "download.dataset=digits" in line
    )
    assert line == "dvc exp run -S download.dataset=digits"
    clone.run(*line.split())
    metrics = json.loads((clone.path / "metrics/evaluate.json").read_text())
    assert metrics["accuracy"] >= 0.97
    assert metrics["errors"] == round((1 - metrics["accuracy"]) * 500)
    assert set(metrics["per_class"]) == set("0123456789")
    assert clone.repro() == []


def test_the_tables_agree_with_the_metrics(finished: Clone) -> None:
    """A row of predictions.csv for each test image; the curve starts at the untrained net and ends at the metrics."""
    metrics = json.loads((finished.path / "metrics/evaluate.json").read_text())
    rows = list(csv.DictReader((finished.path / "plots/predictions.csv").open()))
    assert sum(row["actual"] != row["predicted"] for row in rows) == metrics["errors"]
    per_class = list(csv.DictReader((finished.path / "plots/per_class.csv").open()))
    assert sum(int(row["errors"]) for row in per_class) == metrics["errors"]
    assert sum(int(row["count"]) for row in per_class) == len(rows) == 500
    data = json.loads((finished.path / "metrics/data.json").read_text())
    classes = list(csv.DictReader((finished.path / "plots/classes.csv").open()))
    assert {part: sum(int(row[part]) for row in classes) for part in data["images"]} == data["images"]
    rows = list(csv.DictReader((finished.path / "plots/training.csv").open()))
    curve = [row for row in rows if row["epoch"]]
    assert [int(row["epoch"]) for row in curve] == list(range(len(curve)))
    assert float(curve[0]["validation_accuracy"]) < 0.3
    train = json.loads((finished.path / "metrics/train.json").read_text())
    for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
        assert float(curve[-1][name]) == train[name]


@pytest.mark.slow
def test_two_clones_end_with_the_same_bytes(finished: Clone, tmp_path: Path) -> None:
    """Two threads, blanks in the path, another hash seed, zone, language and umask: all comes out as committed."""
    clone = finished.clone(tmp_path / "a folder with blanks")
    elsewhere = {"PYTHONHASHSEED": "4711", "TZ": "Asia/Kathmandu", "LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8"}
    done = clone.run("sh", "-c", "umask 077; exec dvc repro", OMP_NUM_THREADS="2", **elsewhere)
    assert "report/index.html: accuracy " in done.stdout
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert (clone.path / "models/model.pt").read_bytes() == (finished.path / "models/model.pt").read_bytes()
    assert clone.repro() == []


@pytest.mark.slow
def test_stages_run_without_dvc(finished: Clone, tmp_path: Path) -> None:
    """`python -m stages.NAME`, one after the other, writes what `dvc repro` writes, and ends with what it found."""
    clone = finished.clone(tmp_path / "clone")
    done = {stage: clone.run("python", "-m", f"stages.{stage}") for stage in STAGES}
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert {stage: of.stderr for stage, of in done.items()} == dict.fromkeys(STAGES, "")
    metrics = json.loads((clone.path / "metrics/evaluate.json").read_text())
    train = json.loads((clone.path / "metrics/train.json").read_text())
    said = f"accuracy {metrics['accuracy']:.2%}, {metrics['errors']} errors"
    *epochs, versions, trained = done["train"].stdout.splitlines()
    assert [line.split(":")[0] for line in epochs] == ["epoch 0/2", "epoch 1/2", "epoch 2/2"]  # and no progress bar
    assert {stage: of.stdout for stage, of in done.items()} == {
        "download": "data/raw/MNIST/raw: digits, 1,297 training and 500 test images\n",
        "split": "data/split: 1,167 train, 130 validation, 500 test images, 0 duplicates\n",
        "train": done["train"].stdout,
        "evaluate": f"metrics/evaluate.json: {said} in 500 test images\n",
        "report": f"report/index.html: {said}\n",
    }
    accuracy, weights = train["validation_accuracy"], train["weights_sha256"]
    pytorch = torch.__version__.partition("+")[0]
    assert versions == f"trained with Python {platform.python_version()}, PyTorch {pytorch}, NumPy {np.__version__}"
    assert trained == f"models/model.pt: validation accuracy {accuracy:.2%}, weights {weights}"


def test_train_imports_what_it_uses(finished: Clone, tmp_path: Path) -> None:
    """A run imports neither what only other stages use nor PyTorch's compiler: each would take seconds."""
    clone = finished.copy(tmp_path / "clone")
    lines = clone.run("python", "-X", "importtime", "-m", "stages.train").stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines}
    assert "torch.optim.adam" in imported
    assert not imported & {"torch._dynamo", "scipy", "matplotlib", "sklearn", "dvc", "jinja2", "onnx"}


TOOLS = ["compare", "dataset", "export", "job", "predict", "repro", "study"]


@pytest.mark.parametrize("module", [*(f"stages.{of}" for of in STAGES), *(f"tools.{of}" for of in TOOLS)])
def test_help(finished: Clone, module: str) -> None:
    """`--help` says what the command does and how it is called, at once: it imports nothing that takes time."""
    done = finished.run("python", "-X", "importtime", "-m", module, "--help")
    assert f"usage: python -m {module}" in done.stdout
    assert f" -m {module}" in done.stdout.partition("\n\n")[2]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"torch", "numpy", "scipy", "matplotlib", "PIL", "dvc", "pydantic", "ruamel", "tqdm"}


@pytest.mark.slow
def test_branches_are_compared_without_a_cache(finished: Clone, tmp_path: Path) -> None:
    """On a clone with no data and no cache, all that git keeps of two branches is compared; with one, every picture."""
    work = finished.copy(tmp_path / "work")
    work.run("git", "switch", "--quiet", "--create", "short")
    work.run("dvc", "exp", "run", "-S", "recipes/fast.yaml:epochs=1")
    work.run("git", "commit", "--quiet", "--all", "--message", "one epoch")
    work.run("git", "switch", "--quiet", "main")
    clone = work.clone(tmp_path / "clone")
    clone.run("git", "fetch", "--quiet", "origin", "short:short")
    difference = json.loads(clone.run("dvc", "metrics", "diff", "main", "short", "--json").stdout)
    change = difference["metrics/evaluate.json"]["accuracy"]
    assert change["diff"] == pytest.approx(change["new"] - change["old"]) != 0
    assert "per_class.8" in difference["metrics/evaluate.json"]
    params = json.loads(clone.run("dvc", "params", "diff", "main", "short", "--json").stdout)
    assert params == {"recipes/fast.yaml": {"epochs": {"old": 2, "new": 1, "diff": -1}}}
    for there in (work, clone):
        shown = there.run("dvc", "plots", "diff", "main", "short", "--json", "--out", "shown")
        assert shown.stderr == ""
        plots = json.loads(shown.stdout)
        assert "errors" not in plots
        assert sorted(plots["data"]) == sorted(PLOTS)
        for name in PLOTS:
            assert {revision for view in plots["data"][name] for revision in view["revisions"]} == {"main", "short"}


TABLES = [f"plots/{name}.csv" for name in ("classes", "per_class", "predictions", "reliability", "training")]
PLOTS = [*TABLES, *(f"report/{name}.png" for name in ("confusion", "errors", "training"))]


def test_every_plot_is_shown(finished: Clone) -> None:
    """`dvc plots show --json` has each plot, no error, and each row of its file."""
    shown = finished.run("dvc", "plots", "show", "--json", "--out", "dvc_plots")
    assert shown.stderr == ""
    plots = json.loads(shown.stdout)
    assert "errors" not in plots
    assert sorted(plots["data"]) == sorted(PLOTS)
    for name in TABLES:
        (view,) = plots["data"][name]
        content = json.loads(view["content"]) if isinstance(view["content"], str) else view["content"]
        assert content["data"]["values"], name


@pytest.mark.parametrize(("arguments", "status"), [((), 130), (("by a library, with a text",), 130), ((143,), 143)])
def test_an_interrupt_is_an_exit_status(arguments: tuple[int | str, ...], status: int) -> None:
    """That of SIGINT, whoever raises it; of SIGTERM, its own."""

    def interrupted() -> None:
        raise KeyboardInterrupt(*arguments)

    assert command.exit_status(interrupted) == status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_stage_leaves_nothing_half_written(finished: Clone, tmp_path: Path, number: int) -> None:
    """Ctrl-C or SIGTERM in the middle of training: non-zero exit, no model, whole rows in the curve."""
    clone = finished.copy(tmp_path / "clone")
    clone.replace("recipes/fast.yaml", "epochs: 2 #", "epochs: 1000 #")
    for file in ("models/model.pt", "metrics/train.json", "plots/training.csv"):
        (clone.path / file).unlink()
    stage = subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        cwd=clone.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert stage.stdout is not None
    while "epoch 3/" not in stage.stdout.readline():
        assert stage.poll() is None
    stage.send_signal(number)
    _, errors = stage.communicate(timeout=60)
    assert stage.returncode == 128 + number
    assert "Traceback" not in errors
    assert not (clone.path / "models/model.pt").exists()
    assert not (clone.path / "metrics/train.json").exists()
    assert not list(clone.path.rglob("*.tmp"))
    text = (clone.path / "plots/training.csv").read_text()
    assert text.endswith("\n")
    assert {line.count(",") for line in text.splitlines()} == {6}
    clone.run("git", "checkout", "recipes")
    clone.run("dvc", "repro")
    assert clone.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_mnist_from_nothing_to_evaluated(on_mnist: Clone) -> None:
    """A fresh clone, no cache, the real MNIST: all that git tracks comes out as committed."""
    assert on_mnist.run("git", "status", "--porcelain").stdout == ""
    assert json.loads((on_mnist.path / "metrics/evaluate.json").read_text())["accuracy"] >= 0.99
    for picture in ("confusion", "errors", "training"):  # those that git keeps
        assert (on_mnist.path / f"report/{picture}.png").stat().st_size < 60_000


@pytest.mark.slow
def test_another_data_set_runs_every_stage(on_mnist: Clone, tmp_path: Path) -> None:
    """From `mnist` to `digits`."""
    clone = on_mnist.copy(tmp_path / "clone")
    clone.replace("params.yaml", "dataset: mnist", "dataset: digits")
    assert clone.repro() == STAGES

"""Every param is checked before any work; a message names the key, the value and what is expected."""

from pathlib import Path

import pytest

from stages.common import settings
from stages.common.errors import StageError
from stages.download import Download
from stages.evaluate import Evaluate
from stages.split import Split
from stages.train import Recipe, Train
from tests.conftest import PROJECT, Clone

GOOD = (PROJECT / "params.yaml").read_text()
KINDS = {"download": Download, "split": Split, "train": Train, "evaluate": Evaluate, "recipes.fast": Recipe}


def edit(tmp_path: Path, old: str, new: str) -> Path:
    """Return the path of the committed params with their first `old` replaced."""
    assert old in GOOD, old
    path = tmp_path / "params.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    return path


@pytest.mark.parametrize("section", KINDS)
def test_the_committed_params_are_good(section: str) -> None:
    """Each section of the committed file is accepted."""
    settings.load(section, KINDS[section], PROJECT / "params.yaml")


BAD = [
    ("download", "dataset: mnist", "dataset: mnits", r"download\.dataset: got 'mnits', expected 'mnist' or 'digits'"),
    ("download", "dataset: mnist", "datasets: mnist", r"download\.datasets: unknown key; expected one of dataset"),
    ("download", "dataset: mnist", "{}", r"download\.dataset: missing"),
    ("download", "  dataset: mnist", "  - mnist", r"download: got \['mnist'\], expected a section"),
    ("download", "download:", "downlaod:", r"download: missing; expected `download` at the top level, got downlaod"),
    ("download", "dataset: mnist", "dataset: [mnist", r"params\.yaml: not YAML: .*line"),
    ("split", "validation_fraction: 0.1", "validation_fraction: 1.5", r"got 1\.5, expected less than 1"),
    ("split", "validation_fraction: 0.1", "validation_fraction: 0", r"got 0, expected greater than 0"),
    ("split", "validation_fraction: 0.1", "validation_fraction: .nan", r"got nan, expected a finite number"),
    ("split", "validation_fraction: 0.1", "validation_fraction: '0.1'", r"got '0\.1', expected a valid number"),
    ("split", "seed: 0", "seed: -1", r"split\.seed: got -1, expected greater than or equal to 0"),
    ("split", "seed: 0", "seed: 0.5", r"split\.seed: got 0\.5, expected a valid integer"),
    ("split", "seed: 0", "seed: yes", r"split\.seed: got 'yes', expected a valid integer"),
    ("train", "device: auto", "device: gpu", r"train\.device: got 'gpu', expected 'auto', 'cpu' or 'cuda'"),
    ("train", "recipe: fast", "recipe: 3", r"train\.recipe: got 3, expected a valid string"),
    (
        "evaluate",
        "batch_size: 500",
        "batch_size: 0",
        r"evaluate\.batch_size: got 0, expected greater than or equal to 1",
    ),
    ("recipes.fast", "epochs: 2", "epochs: 2.0", r"recipes\.fast\.epochs: got 2\.0, expected a valid integer"),
    (
        "recipes.fast",
        "epochs: 2",
        "epoch: 2",
        r"recipes\.fast\.epochs: missing(.|\n)*recipes\.fast\.epoch: unknown key",
    ),
    ("recipes.fast", "learning_rate: 0.02", "learning_rate: abc", r"got 'abc', expected a valid number"),
    ("recipes.fast", "optimizer: adamw", "optimizer: lion", r"got 'lion', expected 'adamw', 'adam' or 'sgd'"),
    ("recipes.fast", "optimizer: adamw", "optimizer: sgd", r"expected no `betas` with the optimizer sgd"),
    ("recipes.fast", "shards: 4", "shards: 999", r"expected shards \(999\) no greater than batch_size"),
    ("recipes.fast", "- max_pool", "- max_pol", r"recipes\.fast\.model: .*expected one of the layers .*`max_pol`"),
    ("recipes.fast", "conv 80 5 bias=false", "conv 80", r"`conv CHANNELS KERNEL \[stride=1\].*`conv 80`.*'kernel'"),
    ("recipes.fast", "conv 80 5 bias=false", "conv 80 50", r"layer 6 is `conv 80 50` \(.*[Kk]ernel size"),
    ("recipes.fast", "conv 80 5 bias=false", "conv 80 5 bias=no", r"layer 6 is `conv 80 5 bias=no`"),
    ("recipes.fast", "- linear 10", "- linear 9", r"expected `linear 10` as the last layer; .*\(9, 1, 1\)"),
]


@pytest.mark.parametrize(("section", "old", "new", "message"), BAD)
def test_a_bad_param_is_refused_by_name(tmp_path: Path, section: str, old: str, new: str, message: str) -> None:
    """One message names the file, the key, the value and what is expected."""
    with pytest.raises(StageError, match=r"params\.yaml") as error:
        settings.load(section, KINDS[section], edit(tmp_path, old, new))
    error.match(message)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Where there is no params.yaml, the message says what to do."""
    with pytest.raises(StageError, match=r"params\.yaml: not found; run from the project's root"):
        settings.load("split", Split, tmp_path / "params.yaml")


@pytest.mark.parametrize("written", ["1e-05", "1e-5", "0.00001", "1.0e-05", "1E-05"])
def test_numbers_mean_what_they_mean_to_dvc(tmp_path: Path, written: str) -> None:
    """`-S recipes.fast.learning_rate=0.00001` makes DVC write `1e-05`, which is a number here, too."""
    path = edit(tmp_path, "learning_rate: 0.02", f"learning_rate: {written}")
    assert settings.load("recipes.fast", Recipe, path).learning_rate == 1e-05


@pytest.mark.parametrize(
    ("stage", "param", "message", "unwritten"),
    [
        ("download", "download.dataset=cifar", "download.dataset: got 'cifar'", "data/raw"),
        ("split", "split.seed=abc", "split.seed: got 'abc'", "data/split"),
        ("train", "recipes.fast.learning_rate=abc", "recipes.fast.learning_rate: got 'abc'", "models"),
        ("train", "recipes.fast.batch_size=5000", "batch_size: got 5000, expected at most 1167", "models"),
        ("evaluate", "evaluate.batch_size=-1", "evaluate.batch_size: got -1", "metrics/evaluate.json"),
    ],
)
def test_a_stage_with_a_bad_param_writes_nothing(
    finished: Clone, tmp_path: Path, stage: str, param: str, message: str, unwritten: str
) -> None:
    """`dvc exp run -S` fails with the stage's one message, without a traceback, and the stage has written nothing."""
    clone = finished.copy(tmp_path / "clone")
    lock = (clone.path / "dvc.lock").read_bytes()
    failed = clone.run("dvc", "exp", "run", "-S", param, status=None)
    assert failed.returncode != 0
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
    assert f"failed to reproduce '{stage}'" in failed.stderr
    assert not (clone.path / unwritten).exists()
    assert (clone.path / "dvc.lock").read_bytes() == lock

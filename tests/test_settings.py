"""Every param is checked before any work; a message names the key, the value and what is expected."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from stages.common import settings
from stages.common.errors import StageError
from stages.download.entry import Entry
from stages.download.main import Download
from stages.split.main import Split
from stages.train import main as train
from stages.train.recipe import Recipe
from tests.conftest import PROJECT, Clone
from tests.steps import made_up

KINDS: dict[str, type[settings.Settings]] = {"download": Download, "split": Split, "train": train.Train}
RECIPES = sorted(path.stem for path in PROJECT.glob("recipes/*.yaml"))


def edit(tmp_path: Path, file: str, old: str, new: str) -> Path:
    """Return the path of a committed file with its first `old` replaced."""
    good = (PROJECT / file).read_text()
    assert old in good, old
    path = tmp_path / Path(file).name
    path.write_text(good.replace(old, new, 1))
    return path


@pytest.mark.parametrize("section", KINDS)
def test_the_committed_params_are_good(section: str) -> None:
    """Each section of the committed file is accepted."""
    settings.load(KINDS[section], section, PROJECT / "params.yaml")


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_committed_recipes_are_good(recipe: str) -> None:
    """Each recipe is accepted, says how long it trains on a small data set, and no more than it does on MNIST."""
    chosen = settings.load(Recipe, path=PROJECT / f"recipes/{recipe}.yaml")
    steps = 54_001 // chosen.batch_size
    assert 0 < chosen.min_steps <= chosen.epochs * steps


BAD = [
    ("download", "dataset: mnist #", "dataset: 1 #", r"download\.dataset: got 1, expected a valid string"),
    ("download", "dataset: mnist #", "datasets: mnist #", r"download\.datasets: unknown key; expected one of dataset"),
    ("download", "dataset: mnist #", "{} #", r"download\.dataset: missing"),
    ("download", "  dataset: mnist #", "  - mnist #", r"download: got \['mnist'\], expected a section"),
    ("download", "download:", "downlaod:", r"download: missing; expected `download` at the top level, got downlaod"),
    ("download", "dataset: mnist #", "dataset: [mnist", r"params\.yaml: not YAML: .*line"),
    ("download", "dataset: mnist #", "dataset: 2024-13-45 #", r"params\.yaml: not YAML: month must be in 1\.\.12"),
    ("split", "validation_fraction: 0.1", "validation_fraction: 1.5", r"got 1\.5, expected less than 1"),
    ("split", "validation_fraction: 0.1", "validation_fraction: 0", r"got 0, expected greater than 0"),
    ("split", "validation_fraction: 0.1", "validation_fraction: .nan", r"got nan, expected a finite number"),
    ("split", "validation_fraction: 0.1", "validation_fraction: '0.1'", r"got '0\.1', expected a valid number"),
    ("split", "seed: 0", "seed: -1", r"split\.seed: got -1, expected greater than or equal to 0"),
    ("split", "seed: 0", "seed: 4294967296", r"split\.seed: got 4294967296, expected less than 4294967296"),
    ("split", "seed: 0", "seed: 0.5", r"split\.seed: got 0\.5, expected a valid integer"),
    ("split", "seed: 0", "seed: yes", r"split\.seed: got 'yes', expected a valid integer"),
    ("train", "device: cpu", "device: auto", r"train\.device: got 'auto', expected 'cpu' or 'cuda'"),
    ("train", "recipe: fast", "recipe: 3", r"train\.recipe: got 3, expected a valid string"),
    ("fast", "epochs: 2", "epochs: 2.0", r"epochs: got 2\.0, expected a valid integer"),
    (
        "fast",
        "epochs: 2",
        "epoch: 2",
        r"epochs: missing(.|\n)*epoch: unknown key",
    ),
    ("fast", "learning_rate: 0.02", "learning_rate: abc", r"got 'abc', expected a valid number"),
    ("fast", "optimizer: adamw", "optimizer: lion", r"got 'lion', expected 'adamw', 'adam' or 'sgd'"),
    ("fast", "optimizer: adamw", "optimizer: sgd", r"\n  expected no `betas` with the optimizer sgd"),
    ("fast", "shards: 4", "shards: 999", r"expected shards \(999\) no greater than batch_size"),
    ("fast", "- max_pool", "- max_pol", r"model: .*expected one of the layers .*`max_pol`"),
    (
        "fast",
        "conv 40 5 bias=false",
        "conv 40",
        r"`conv CHANNELS KERNEL \[stride=1\].*`conv 40` \(kernel: missing required argument\)",
    ),
    ("fast", "conv 40 5 bias=false", "conv 40 50", r"layer 6 is `conv 40 50` \(.*at least 50 x 50 pixels"),
    ("fast", "conv 40 5 bias=false", "conv 40 5 bias=no", r"layer 6 is `conv 40 5 bias=no`"),
    ("fast", "- linear classes", "- linear 9", r"expected `linear classes` as the last layer, for 10 classes; .*\(9,"),
]


@pytest.mark.parametrize(("section", "old", "new", "message"), BAD)
def test_a_bad_param_is_refused_by_name(tmp_path: Path, section: str, old: str, new: str, message: str) -> None:
    """One message names the file, the key, the value and what is expected."""
    recipe = section == "fast"
    path = edit(tmp_path, "recipes/fast.yaml" if recipe else "params.yaml", old, new)
    with pytest.raises(StageError, match=path.name) as error:
        if recipe:
            train.fitted(settings.load(Recipe, path=path), path, made_up(20, training=10))
        else:
            settings.load(KINDS[section], section, path)
    error.match(message)


@pytest.mark.parametrize(
    ("key", "accepted", "refused"),
    [
        ("learning_rate", [1e-9], [0, -1, float("inf")]),
        ("weight_decay", [0], [-0.1]),
        ("momentum", [0, 0.99], [-0.1, 1]),
        ("betas", [[0, 0.01], [0.9999, 0.9999]], [[-0.1, 0.9], [0.9, 0.0099], [0.9, 1], [0.9], [0.9, 0.9, 0.9]]),
        ("batch_size", [1], [0]),
        ("shards", [1, 8], [0, 9]),
        ("epochs", [1], [0]),
        ("min_steps", [0], [-1]),
        ("shift", [0, 8], [-1, 9]),
        ("rotate", [0, 180], [-1, 181]),
        ("scale", [0, 0.5], [-0.1, 0.6]),
        ("elastic", [0, 8], [-1, 9]),
        ("label_smoothing", [0, 0.99], [-0.1, 1]),
    ],
)
def test_the_numbers_of_a_recipe_have_limits(key: str, accepted: list[Any], refused: list[Any]) -> None:
    """What is just inside is accepted, what is outside is refused by its key; momentum is of sgd alone."""
    optimizer = "adam" if key == "betas" else "sgd"
    good = {"model": ["linear classes"], "optimizer": optimizer, "learning_rate": 0.1, "schedule": "constant"}
    good |= {"batch_size": 1 if key == "batch_size" else 8, "shards": 1, "epochs": 1}
    for value in accepted:
        Recipe(**good | {key: value})
    for value in refused:
        with pytest.raises(ValidationError, match=key):
            Recipe(**good | {key: value})
    with pytest.raises(ValidationError, match="no `momentum` with the optimizer adam"):
        Recipe(**good | {"optimizer": "adam", "momentum": 0})


MORE = ", ".join(f"c{place}" for place in range(91))
BAD_ENTRIES = [
    ("kmnist", "[1, 28, 28]", "[2, 28, 28]", r"expected `shape` .* with 1 or 3 channels, got \[2, 28, 28\]"),
    ("kmnist", "[1, 28, 28]", "[1, 28, 65]", r"shape\.2: got 65, expected less than or equal to 64"),
    ("kmnist", "[1, 28, 28]", "[3, 28, 28]", "expected `drawing: none` for pictures in colour"),
    ("digits", "[1, 28, 28]", "[1, 28, 27]", "expected `drawing: centred` for images of 28 x 28 pixels alone"),
    ("kmnist", "[o, ki,", "[o, o,", "expected `classes` with different names"),
    ("kmnist", "[o, ki,", '["o\\n", ki,', "expected `classes` with .* without line breaks"),
    pytest.param("kmnist", "[o, ki,", f"[{MORE}, o, ki,", r"classes: .* at most 100 items", id="101 classes"),
    ("digits", "package: scikit-learn", "", "expected one of `files`, `package` and `pictures`"),
    ("kmnist", "noun:", "package: scikit-learn\nnoun:", "expected one of `files`, `package` and `pictures`"),
    ("kmnist", "  t10k-labels:", "  train-groups:", "expected `files` with t10k-labels, too"),
    ("kmnist", "https://codh", "http://codh", r"files\.train-images\.mirrors\.0: got 'http://codh.*\^https://"),
    ("kmnist", "packed_sha256: 5", "packed_sha256: ", r"files\.train-images\.packed_sha256: got '1467.*\{64\}"),
    ("kmnist", "name: train-images", "name: ../train-images", r"files\.train-images\.name: got '\.\./train-images"),
]


@pytest.mark.parametrize(("dataset", "old", "new", "message"), BAD_ENTRIES)
def test_a_bad_entry_of_a_data_set_is_refused(tmp_path: Path, dataset: str, old: str, new: str, message: str) -> None:
    """What a data set cannot be, and what could be neither downloaded nor checked."""
    with pytest.raises(StageError, match=message):
        settings.load(Entry, path=edit(tmp_path, f"datasets/{dataset}/dataset.yaml", old, new))


def test_a_missing_file_and_an_empty_one_are_named(tmp_path: Path) -> None:
    """Where there is no params.yaml, the message says what to do; so it does where a section, or the file, is empty."""
    path = tmp_path / "params.yaml"
    with pytest.raises(StageError, match=r"params\.yaml: not found; run from the project's root.* has no such files$"):
        settings.load(Split, "split", path)
    path.write_text("split:\n")
    with pytest.raises(StageError, match=r"split\.seed: missing; expected `seed` at split, got no section$"):
        settings.value("split.seed", path)
    path.write_text("")
    with pytest.raises(StageError, match=r"params\.yaml: got None, expected a section of keys"):
        settings.load(Split, path=path)


def test_a_recipe_that_is_not_there_is_answered_with_those_that_are() -> None:
    """A mistyped name is answered with the list of recipes."""
    with pytest.raises(
        StageError, match=r"fsat\.yaml: not found; .*; .*recipes has accurate\.yaml, .*, residual\.yaml$"
    ):
        settings.load(Recipe, path=PROJECT / "recipes/fsat.yaml")


@pytest.mark.parametrize("written", ["1e-05", "1e-5", "0.00001", "1.0e-05", "1E-05"])
def test_numbers_mean_what_they_mean_to_dvc(tmp_path: Path, written: str) -> None:
    """`-S recipes/fast.yaml:learning_rate=0.00001` makes DVC write `1e-05`, which is a number here, too."""
    path = edit(tmp_path, "recipes/fast.yaml", "learning_rate: 0.02", f"learning_rate: {written}")
    assert settings.load(Recipe, path=path).learning_rate == 1e-05


@pytest.mark.parametrize(
    ("stage", "param", "message", "unwritten"),
    [
        ("split", "split.seed=abc", "split.seed: got 'abc'", "data/split"),
        ("train", "recipes/fast.yaml:learning_rate=abc", "learning_rate: got 'abc'", "models"),
        ("train", "recipes/fast.yaml:batch_size=5000", "batch_size: got 5000, expected at most 1167", "models"),
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

"""The exported file in ONNX Runtime: digits and logits as the stage evaluate has them, from bytes."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from stages.common import idx, settings
from stages.net import description, exact, inference, model
from stages.net.workers import Workers
from stages.train.recipe import Recipe
from tests.conftest import PROJECT, Clone
from tools import export

pytestmark = pytest.mark.xdist_group("exported")  # one worker exports
EXPORT = (sys.executable, "-m", "tools.export")


@pytest.fixture(scope="module")
def exported(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A finished clone with model.onnx: not to be changed."""
    clone = finished.copy(tmp_path_factory.mktemp("exported") / "clone")
    clone.run(*EXPORT)
    return clone


def check_against_evaluate(clone: Clone, batch_size: int) -> int:
    """Check model.onnx against the digits and the logits of evaluate, and return how many images it read."""
    images = idx.read(clone.path / "data/raw/MNIST/raw/t10k-images-idx3-ubyte")
    session = onnxruntime.InferenceSession(clone.path / "model.onnx")
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    logits = np.concatenate([session.run(["logits"], {"images": batch})[0] for batch in batches])
    with (clone.path / "plots/predictions.csv").open() as table:
        assert [int(row["predicted"]) for row in csv.DictReader(table)] == logits.argmax(1).tolist()
    net = model.trained(torch.load(clone.path / "models/model.pt", weights_only=True))
    with Workers(1) as workers:
        expected = inference.predict(net, torch.from_numpy(images.copy()), workers).numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    return len(logits)


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_batches_of_any_size_are_read_as_by_evaluate(exported: Clone, batch_size: int) -> None:
    """One file for images one by one, by seven (the last three alone) and all at once."""
    assert check_against_evaluate(exported, batch_size) == 500


@pytest.mark.slow
def test_all_of_mnist_is_read_as_by_evaluate(on_mnist: Clone, tmp_path: Path) -> None:
    """The same digit for each of the 10,000 test images, logits within 1e-4."""
    clone = on_mnist.copy(tmp_path / "clone")
    clone.run(*EXPORT)
    assert check_against_evaluate(clone, 1000) == 10_000


def test_the_file_says_what_it_is(exported: Clone) -> None:
    """Input, output and their types; the recipe and the digest of the weights."""
    session = onnxruntime.InferenceSession(exported.path / "model.onnx")
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", 28, 28])
    assert (logits.name, logits.type, logits.shape) == ("logits", "tensor(float)", ["batch", 10])
    digest = json.loads((exported.path / "metrics/train.json").read_text())["weights_sha256"]
    known = session.get_modelmeta().custom_metadata_map
    assert known["recipe"] == "fast"
    assert known["weights_sha256"][:12] == digest
    assert json.loads(known["classes"]) == list("0123456789")
    assert len(known["weights_sha256"]) == 64


@pytest.mark.slow
def test_the_same_bytes_from_anywhere(exported: Clone, finished: Clone, tmp_path: Path) -> None:
    """Another folder, name and hash seed: the same bytes, with no path in them; git ignores model.onnx."""
    elsewhere = finished.copy(tmp_path / "a folder with blanks")
    elsewhere.run(*EXPORT, "handed/on.onnx", PYTHONHASHSEED="4711")
    content = (elsewhere.path / "handed/on.onnx").read_bytes()
    assert content == (exported.path / "model.onnx").read_bytes()
    graph = onnx.load_from_string(content)
    graph.graph.ClearField("initializer")  # the weights
    assert "/" not in str(graph)
    assert exported.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_what_it_prints_can_be_run(finished: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size, and a line of Python that reads images; nothing of the exporter's on standard error."""
    clone = finished.copy(tmp_path / "clone")
    done = clone.run(*EXPORT)
    assert done.stderr == ""
    said, line = done.stdout.splitlines()
    assert said.startswith(f"model.onnx: {(clone.path / 'model.onnx').stat().st_size:,} bytes.")
    assert said.endswith(" (batch, 28, 28), paper 0 and ink 255, run")
    monkeypatch.chdir(clone.path)
    images = np.zeros((3, 28, 28), dtype=np.uint8)
    logits = eval(line.strip(), {"onnxruntime": onnxruntime, "images": images})  # noqa: S307 - a line of ours
    assert logits.shape == (3, 10)


@pytest.mark.parametrize("name", sorted(path.stem for path in PROJECT.glob("recipes/*.yaml")))
@pytest.mark.slow
def test_every_recipe_can_be_exported(name: str) -> None:
    """Untrained, on images of noise: ONNX Runtime says what the net does; dropout does nothing."""
    chosen = settings.load(Recipe, path=PROJECT / f"recipes/{name}.yaml")
    net = description.build(chosen.model, chosen.options, (1, 28, 28), 10)
    description.draw_weights(net, exact.generator(0, "weights"))
    model = {"recipe": name, "model": chosen.model, "options": chosen.options, "weights": net.state_dict()}
    content = export.as_onnx(
        model
        | {"weights_sha256": "", "data": {"shape": [1, 28, 28], "classes": list("0123456789"), "drawing": "centred"}}
    )
    images = torch.randint(256, (5, 28, 28), dtype=torch.uint8, generator=exact.generator(0, "images"))
    (logits,) = onnxruntime.InferenceSession(content).run(["logits"], {"images": images.numpy()})
    with Workers(1) as workers:
        expected = inference.predict(net, images, workers).numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.01


def test_only_an_onnx_file_is_written(exported: Clone) -> None:
    """Another name, such as that of the model, is refused."""
    model = (exported.path / "models/model.pt").read_bytes()
    failed = exported.run(*EXPORT, "models/model.pt", status=1)
    assert failed.stderr == "error: models/model.pt: expected a name that ends with .onnx\n"
    assert (exported.path / "models/model.pt").read_bytes() == model


def test_no_model_is_said(origin: Clone) -> None:
    """Without a model there is one message that says how to get it, and no file."""
    failed = origin.run(*EXPORT, status=1)
    assert failed.stderr == "error: models/model.pt: not found; run `dvc repro` or `dvc pull` first\n"
    assert not (origin.path / "model.onnx").exists()


SEARCH = (sys.executable, "-m", "tools.study", "--name", "lr", "--search", "2")


@pytest.mark.parametrize(("package", "extra"), [("onnx", "onnx"), ("onnxscript", "onnx"), ("optuna", "search")])
def test_a_missing_extra_is_said(finished: Clone, tmp_path: Path, package: str, extra: str) -> None:
    """Where a package of an extra cannot be imported: one message with the command that installs it, and no file."""
    missing = f"raise ModuleNotFoundError(\"No module named '{package}'\", name='{package}')"
    (tmp_path / f"{package}.py").write_text(missing)
    failed = finished.run(*(SEARCH if extra == "search" else EXPORT), status=1, PYTHONPATH=str(tmp_path))
    assert failed.stderr == (
        f"error: No module named '{package}'; the extra `{extra}` is needed: "
        f"run `uv pip install -r pyproject.toml --extra {extra} -c requirements-dev.lock`\n"
    )
    assert not (finished.path / "model.onnx").exists()

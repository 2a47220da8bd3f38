"""The contract: the same bits for any number of threads and processes, after any kill, and on CPUs of other makers."""

import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from stages.train.checkpoint import DIGEST_SIZE, decode
from tests import arm, steps
from tests.conftest import SECONDS, Clone, line_with

# What each process runs, by docs/exact.md: the first is `dvc repro`, the others help its train stage
TOGETHER = "tools.repro"


def weights(clone: Clone) -> str:
    """Return the digest of the weights that the last training gave."""
    digest: str = json.loads((clone.path / "metrics/train.json").read_text())["weights_sha256"]
    return digest


@pytest.mark.parametrize(
    "processes", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(4, marks=pytest.mark.slow)]
)
def test_processes_change_no_bit(finished: Clone, tmp_path: Path, processes: int) -> None:
    """Under torchrun, four shards a batch: all four in one process, two each, one each."""
    clone = finished.copy(tmp_path / "clone")
    (clone.path / "metrics/train.json").unlink()
    clone.run("torchrun", "--nproc-per-node", str(processes), "-m", "stages.train")
    assert weights(clone) == weights(finished)
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert not list(clone.path.glob(".checkpoints/*"))


@pytest.mark.slow
def test_several_processes_under_dvc(measured: Clone, tmp_path: Path) -> None:
    """The line of docs/exact.md: the first process is `dvc repro`, the others help its train stage; the same lock."""
    clone = measured.clone(tmp_path / "clone")
    clone.run("dvc", "repro", "split")
    assert f"torchrun --nproc-per-node 2 -m {TOGETHER}\n" in (clone.path / "docs/exact.md").read_text()
    clone.run("torchrun", "--nproc-per-node", "2", "-m", TOGETHER)
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert (clone.path / "models/model.pt").is_file()


@pytest.fixture
def machines() -> Iterator[tuple[list[str], list[str]]]:
    """What to put before a command to run it on one or the other of two machines, 10.203.0.1 and 10.203.0.2.

    They are network namespaces of Linux, each with a loopback of its own, and the cable between them.
    """
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("needs root and `ip`, to make network namespaces")
    names = [f"machine{number}-{os.getpid()}" for number in (1, 2)]
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
        cable = ["type", "veth", "peer", "name", "cable", "netns", names[1]]
        subprocess.run(["ip", "-n", names[0], "link", "add", "cable", *cable], check=True)
        for number, name in enumerate(names, start=1):
            subprocess.run(["ip", "-n", name, "address", "add", f"10.203.0.{number}/30", "dev", "cable"], check=True)
            for device in ("lo", "cable"):
                subprocess.run(["ip", "-n", name, "link", "set", device, "up"], check=True)
        first, second = (["ip", "netns", "exec", name] for name in names)
        yield first, second
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


@pytest.mark.slow
def test_machines_change_no_bit(measured: Clone, tmp_path: Path, machines: tuple[list[str], list[str]]) -> None:
    """A clone on each of two machines, two processes a machine: the first's `dvc repro` ends as committed."""
    clones = [measured.clone(tmp_path / f"clone{rank}") for rank in (0, 1)]
    running = []
    try:
        for rank, (clone, machine) in enumerate(zip(clones, machines, strict=True)):
            clone.run("dvc", "repro", "split")
            nodes = ["--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "2"]
            first = ["--master-addr", "10.203.0.1", "--master-port", "29500"]
            command = [*machine, "env", "GLOO_SOCKET_IFNAME=cable", "torchrun", *nodes, *first]
            running.append(clone.start(*command, "-m", TOGETHER))
        for process in running:
            output, errors = process.communicate(timeout=300)
            assert process.returncode == 0, output + errors
    finally:
        for process in running:
            process.kill()
    assert clones[0].run("git", "status", "--porcelain").stdout == ""
    assert (clones[0].path / "models/model.pt").read_bytes() == (measured.path / "models/model.pt").read_bytes()
    assert not (clones[1].path / "models").exists()


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bits(finished: Clone, tmp_path: Path) -> None:
    """SIGKILL to `dvc repro` and its stage, at many random moments; the last run ends as if it were the only one."""
    through, killed = finished.copy(tmp_path / "through"), finished.copy(tmp_path / "killed")
    for clone in (through, killed):
        clone.replace("recipes/fast.yaml", "epochs: 2 #", "epochs: 24 #")
    through.run("dvc", "repro")
    moments = random.Random(0)  # noqa: S311 - nothing secret
    curve = killed.path / "plots/training.csv"
    saved_at_kills: list[int] = []  # the last epoch in the checkpoint: the curve may be ahead of it
    for _ in range(4):
        curve.unlink(missing_ok=True)  # as DVC does before it runs the stage: wait for the rows of this run
        process = killed.start("dvc", "repro")
        rows = moments.randrange(2 + 3 * len(saved_at_kills), 6 + 3 * len(saved_at_kills))
        while process.poll() is None and not (curve.exists() and len(curve.read_text().splitlines()) > rows):
            time.sleep(0.01)
        time.sleep(moments.random() / 4)  # somewhere within an epoch, or in a write
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        (saved,) = killed.path.glob(".checkpoints/*.pt")
        *_, epochs = decode(saved.read_bytes()[DIGEST_SIZE:])
        saved_at_kills.append(epochs[-1][0])
        lock = killed.path / ".dvc/tmp/rwlock"
        if lock.exists() and not lock.read_text():
            lock.unlink()  # DVC's own file, left empty by the kill: see docs/exact.md
    assert saved_at_kills == sorted(saved_at_kills)
    again = killed.run("dvc", "repro").stdout
    assert "epoch 1/24" not in again, "it began from the beginning"
    assert weights(killed) == weights(through)
    assert killed.run("git", "diff").stdout == through.run("git", "diff").stdout
    assert not list(killed.path.glob(".checkpoints/*"))


@pytest.mark.slow
def test_a_damaged_checkpoint_changes_no_bit(finished: Clone, tmp_path: Path) -> None:
    """After a kill, a bit flipped in a tensor: the next run names the file, replaces it and ends with the right bits.

    It removes what a kill in the middle of a write has left, too.
    """
    through, killed = finished.copy(tmp_path / "through"), finished.copy(tmp_path / "killed")
    for clone in (through, killed):
        clone.replace("recipes/fast.yaml", "epochs: 2 #", "epochs: 12 #")
    through.run("python", "-m", "stages.train")
    process = killed.start(sys.executable, "-m", "stages.train")
    assert process.stdout is not None
    line_with(process, "epoch 2/")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (saved,) = killed.path.glob(".checkpoints/*.pt")
    content = saved.read_bytes()
    saved.write_bytes(content[:100_000] + bytes([content[100_000] ^ 1]) + content[100_001:])
    left = saved.with_name(f"{'0' * 64}.pt.{platform.node()}.{process.pid}.tmp")
    left.touch()
    again = killed.run("python", "-m", "stages.train")
    assert f"warning: .checkpoints/{saved.name}: damaged; the training begins anew" in again.stderr
    assert "epoch 0/12" in again.stdout
    assert killed.run("git", "diff").stdout == through.run("git", "diff").stdout
    assert weights(killed) == weights(through)
    assert not list(killed.path.glob(".checkpoints/*"))


@pytest.mark.slow
def test_damaged_rows_are_named(finished: Clone, tmp_path: Path) -> None:
    """Cut short, the file is named in one line, with what to do; which does help."""
    clone = finished.copy(tmp_path / "clone")
    for part in ("validation", "train"):
        rows = clone.path / f"data/split/{part}.npy"
        content = rows.read_bytes()
        rows.unlink()  # it may be a link to DVC's cache
        rows.write_bytes(content[:500])
        failed = clone.run("python", "-m", "stages.train", status=1)
        assert re.fullmatch(
            rf"error: data/split/{part}\.npy: damaged \(.+\); delete it and run `dvc repro`\n", failed.stderr
        )
        rows.unlink()
    clone.run("dvc", "repro", "train")
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert rows.read_bytes() == content


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "rate", "step"),
    [("fast", "1e30", "the loss of step 2, in epoch 1"), ("lenet5_linear", "10", "the loss of step 5, in epoch 1")],
)
def test_a_run_that_diverges_is_no_result(finished: Clone, tmp_path: Path, recipe: str, rate: str, step: str) -> None:
    """`dvc exp run` fails with step, epoch and learning rate, and writes no model; what was there can be put back."""
    clone = finished.copy(tmp_path / "clone")
    values = (f"train.recipe={recipe}", f"recipes/{recipe}.yaml:learning_rate={rate}")
    failed = clone.run("dvc", "exp", "run", *(word for value in values for word in ("-S", value)), status=255)
    expected = (
        f"error: the training diverged: {step}, is nan; the recipe's learning_rate is {float(rate)}: take a smaller"
    )
    assert expected in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (clone.path / "models").exists()
    clone.run("git", "restore", ".")
    clone.run("dvc", "checkout")
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert clone.repro() == []
    assert (clone.path / "models/model.pt").read_bytes() == (finished.path / "models/model.pt").read_bytes()


def test_a_checkpoint_belongs_to_one_configuration(finished: Clone, tmp_path: Path) -> None:
    """After a kill, a run with another seed begins at the beginning and leaves the checkpoint for the first one."""
    clone = finished.copy(tmp_path / "clone")
    clone.replace("recipes/fast.yaml", "epochs: 2 #", "epochs: 1000 #")
    process = clone.start(sys.executable, "-m", "stages.train")
    while not list(clone.path.glob(".checkpoints/*.pt")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    clone.run("git", "checkout", "recipes")
    clone.run("python", "-m", "stages.train")
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert len(list(clone.path.glob(".checkpoints/*.pt"))) == 1


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stages/net/layers.py", '"""PyTorch', '"""All of PyTorch'),
        pytest.param("recipes/fast.yaml", "learning_rate: 0.02", "learning_rate: 0.03", marks=pytest.mark.slow),
        pytest.param("requirements.lock", "torch==", "torch==", marks=pytest.mark.slow),
    ],
)
def test_an_edit_while_a_stage_runs_is_not_recorded(
    finished: Clone, tmp_path: Path, file: str, old: str, new: str
) -> None:
    """What train declares changes after it began: it fails, names it, and DVC records nothing."""
    clone = finished.copy(tmp_path / "clone")
    clone.replace("recipes/fast.yaml", "epochs: 2 #", "epochs: 15 #")
    lock = (clone.path / "dvc.lock").read_bytes()
    process = clone.start("dvc", "repro")
    assert process.stdout is not None
    line_with(process, "epoch 0/")
    path = clone.path / file
    path.write_text(path.read_text().replace(old, new, 1) + "\n# an edit\n" * (old == new))
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode != 0
    assert f"changed while the stage train ran: {file}; run `dvc repro` again" in errors
    assert (clone.path / "dvc.lock").read_bytes() == lock


def emulated(finished: Clone, command: list[str], *names: str, **variables: str) -> dict[str, str]:
    """Return the digests of some steps that Python gives on an emulated CPU, which `command` starts."""
    there = finished.run(*command, "-m", "tests.steps", *names, seconds=3600, **variables).stdout
    digests: dict[str, str] = json.loads(there)
    return digests


def of_x86(cpu: str) -> list[str]:
    """Return the command that starts this Python on an emulated x86-64 CPU. Skips the test if there is no QEMU."""
    qemu = shutil.which("qemu-x86_64")
    if qemu is None or platform.machine() != "x86_64":
        pytest.skip("needs an x86-64 CPU, and Debian's qemu-user")
    return [qemu, "-cpu", cpu, os.path.realpath(sys.executable)]


def of_arm(cpu: str) -> list[str]:
    """Return the command that starts Python on an emulated ARM CPU. Skips the test if there is no folder for it."""
    if "TEST_ARM" not in os.environ:
        pytest.skip("takes minutes: TEST_ARM names the folder that `python -m tests.arm` has made")
    root = Path(os.environ["TEST_ARM"])
    return ["qemu-aarch64", "-cpu", cpu, "-L", str(root / cpu), str(root / arm.PYTHON)]


@pytest.mark.slow
def test_a_cpu_without_fma_gives_the_same_bits(finished: Clone) -> None:
    """Two steps on an emulated CPU of 2008, whose vectors have four numbers: the committed digest."""
    path = os.pathsep.join(filter(None, sys.path))
    assert emulated(finished, of_x86("Nehalem"), "cnn_10_20", PYTHONPATH=path) == {
        "cnn_10_20": steps.known()["cnn_10_20"]
    }


@pytest.mark.qemu
@pytest.mark.parametrize("cpu", ["Nehalem", "Haswell", "EPYC"])
def test_cpus_of_other_makers_give_the_same_bits(cpu: str, finished: Clone) -> None:
    """Steps of each recipe, and of shards of 1 to 64 images, on CPUs of Intel and AMD: the committed digests."""
    if "TEST_QEMU" not in os.environ:
        pytest.skip("takes minutes: set TEST_QEMU=1")
    assert emulated(finished, of_x86(cpu), PYTHONPATH=os.pathsep.join(filter(None, sys.path))) == steps.known()


@pytest.mark.qemu
@pytest.mark.parametrize("cpu", arm.CPUS)
def test_arm_gives_the_same_bits(cpu: str, finished: Clone) -> None:
    """Steps of each recipe, and of shards of 1 to 64 images, on ARM CPUs, one with SVE: the committed digests."""
    assert emulated(finished, of_arm(cpu)) == steps.known()


@pytest.mark.qemu
@pytest.mark.parametrize("cpu", arm.CPUS)
def test_the_whole_pipeline_on_arm(cpu: str, finished: Clone, tmp_path: Path) -> None:
    """On scikit-learn's digits: data, model, metrics, tables, pictures and report, byte for byte."""
    command, clone = of_arm(cpu), finished.copy(tmp_path / "clone")
    before = outputs(clone)
    for path in before:
        (clone.path / path).unlink()
    for stage in ("download", "split", "train", "evaluate", "report"):
        clone.run(*command, "-m", f"stages.{stage}", seconds=3600)
    assert outputs(clone) == before


def outputs(clone: Clone) -> dict[Path, bytes]:
    """Return the files that the stages of `clone` have written."""
    found = [path for of in ("data", "models", "metrics", "plots", "report") for path in (clone.path / of).rglob("*")]
    return {path.relative_to(clone.path): path.read_bytes() for path in found if path.is_file()}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_bits_from_run_to_run(finished: Clone, tmp_path: Path) -> None:
    """Two trainings on one GPU end with the same weights, which read as many digits as the CPU's, within 2 %."""
    on_cpu = json.loads((finished.path / "metrics/evaluate.json").read_text())["accuracy"]
    digests = []
    for run in ("first", "second"):
        clone = finished.copy(tmp_path / run)
        clone.run("dvc", "exp", "run", "-S", "train.device=cuda", "evaluate")
        digests.append(weights(clone))
        accuracy = json.loads((clone.path / "metrics/evaluate.json").read_text())["accuracy"]
        assert accuracy == pytest.approx(on_cpu, abs=0.02)
    assert digests[0] == digests[1]

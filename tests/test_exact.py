"""The contract: the same bits for any number of threads and processes, after any kill, and on CPUs of other makers."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.conftest import Clone

# What each process does, by docs/exact.md: the first is `dvc repro`, the others help its train stage
HELP = '[ "$RANK" = 0 ] && exec dvc repro || exec python -m stages.train'


def weights(clone: Clone) -> str:
    """Return the digest of the weights that the last training gave."""
    digest: str = json.loads((clone.path / "metrics/train.json").read_text())["weights_sha256"]
    return digest


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_change_no_bit(finished: Clone, tmp_path: Path, processes: int) -> None:
    """Under torchrun, four shards a batch: all four in one process, two each, one each."""
    clone = finished.copy(tmp_path / "clone")
    (clone.path / "metrics/train.json").unlink()
    clone.run("torchrun", "--nproc-per-node", str(processes), "-m", "stages.train")
    assert weights(clone) == weights(finished)
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert not list(clone.path.glob(".checkpoints/*"))


@pytest.mark.slow
def test_several_processes_under_dvc(finished: Clone, tmp_path: Path) -> None:
    """The line of docs/exact.md: the first process is `dvc repro`, the others help its train stage; the same lock."""
    clone = finished.clone(tmp_path / "clone")
    clone.run("dvc", "repro", "split")
    assert HELP in (clone.path / "docs/exact.md").read_text()
    clone.run("torchrun", "--nproc-per-node", "2", "--no-python", "sh", "-c", HELP)
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
def test_machines_change_no_bit(finished: Clone, tmp_path: Path, machines: tuple[list[str], list[str]]) -> None:
    """A clone on each of two machines, two processes a machine: the first's `dvc repro` ends as committed."""
    clones = [finished.clone(tmp_path / f"clone{rank}") for rank in (0, 1)]
    running = []
    try:
        for rank, (clone, machine) in enumerate(zip(clones, machines, strict=True)):
            clone.run("dvc", "repro", "split")
            nodes = ["--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "2"]
            first = ["--master-addr", "10.203.0.1", "--master-port", "29500"]
            command = [*machine, "env", "GLOO_SOCKET_IFNAME=cable", "torchrun", *nodes, *first, "--no-python"]
            running.append(clone.start(*command, "sh", "-c", HELP))
        for process in running:
            output, errors = process.communicate(timeout=300)
            assert process.returncode == 0, output + errors
    finally:
        for process in running:
            process.kill()
    assert clones[0].run("git", "status", "--porcelain").stdout == ""
    assert (clones[0].path / "models/model.pt").read_bytes() == (finished.path / "models/model.pt").read_bytes()
    assert not (clones[1].path / "models").exists()


def test_processes_with_other_params_are_refused(finished: Clone, tmp_path: Path) -> None:
    """Two processes whose params differ train nothing, and say so."""
    first, second = finished.copy(tmp_path / "first"), finished.copy(tmp_path / "second")
    second.replace("recipes/fast.yaml", "epochs: 2 #", "epochs: 5 #")
    line = f'[ "$RANK" = 0 ] || cd "{second.path}"; exec python -m stages.train'
    failed = first.run("torchrun", "--nproc-per-node", "2", "--no-python", "sh", "-c", line, status=None)
    assert failed.returncode != 0
    assert "has other params, data, code or versions than" in failed.stderr


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bits(finished: Clone, tmp_path: Path) -> None:
    """SIGKILL to `dvc repro` and its stage, at many random moments; the last run ends as if it were the only one."""
    through, killed = finished.copy(tmp_path / "through"), finished.copy(tmp_path / "killed")
    for clone in (through, killed):
        clone.replace("recipes/fast.yaml", "epochs: 2 #", "epochs: 24 #")
    through.run("dvc", "repro")
    moments = random.Random(0)  # noqa: S311 - nothing secret
    curve = killed.path / "plots/training.csv"
    rows_at_kills = []
    for _ in range(4):
        process = killed.start("dvc", "repro")
        rows = moments.randrange(2 + 3 * len(rows_at_kills), 6 + 3 * len(rows_at_kills))
        while process.poll() is None and not (curve.exists() and len(curve.read_text().splitlines()) > rows):
            time.sleep(0.01)
        time.sleep(moments.random() / 4)  # somewhere within an epoch, or in a write
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        rows_at_kills.append(len(curve.read_text().splitlines()))
        lock = killed.path / ".dvc/tmp/rwlock"
        if lock.exists() and not lock.read_text():
            lock.unlink()  # DVC's own file, left empty by the kill: see docs/exact.md
    assert rows_at_kills == sorted(rows_at_kills)
    again = killed.run("dvc", "repro").stdout
    assert "epoch 1/24" not in again, "it began from the beginning"
    assert weights(killed) == weights(through)
    assert killed.run("git", "diff").stdout == through.run("git", "diff").stdout
    assert not list(killed.path.glob(".checkpoints/*"))


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
        ("stages/net/layers.py", '"""Nets', '"""The nets'),
        ("recipes/fast.yaml", "learning_rate: 0.02", "learning_rate: 0.03"),
        ("requirements.lock", "torch==", "torch=="),
    ],
)
def test_an_edit_while_a_stage_runs_is_not_recorded(
    finished: Clone, tmp_path: Path, file: str, old: str, new: str
) -> None:
    """What train declares changes after it began: it fails, names it, and DVC records nothing."""
    clone = finished.copy(tmp_path / "clone")
    clone.replace("recipes/fast.yaml", "epochs: 2 #", "epochs: 10 #")
    lock = (clone.path / "dvc.lock").read_bytes()
    process = clone.start("dvc", "repro")
    assert process.stdout is not None
    while "epoch 0/" not in process.stdout.readline():
        assert process.poll() is None
    path = clone.path / file
    path.write_text(path.read_text().replace(old, new, 1) + "\n# an edit\n" * (old == new))
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert f"changed while the stage train ran: {file}; run `dvc repro` again" in errors
    assert (clone.path / "dvc.lock").read_bytes() == lock


FEW_STEPS = """
import sys, types, torch
from pathlib import Path
from stages.common import settings
from stages.net import exact
from stages.net.workers import Workers
from stages.train import fit
from stages.train.processes import Processes
exact.pin()
recipe = settings.load(fit.Recipe, path=Path("recipes/fast.yaml")).model_copy(update={"epochs": 1})
random = torch.Generator().manual_seed(0)
images = torch.randint(256, (600, 28, 28), dtype=torch.uint8, generator=random)
labels = torch.randint(10, (600,), generator=random)
data = fit.Data(images, labels, torch.arange(2 * recipe.batch_size), torch.arange(500, 600))
device = torch.device("cpu")
unsaved = types.SimpleNamespace(read=lambda: b"", save=lambda state: None)
fit.write_curve = fit.print_epoch = lambda *_: None
with Processes(device) as processes, Workers(2) as workers:
    net, curve = fit.fit(recipe, 0, data, workers, processes, unsaved)
print(exact.digest(net.state_dict()), curve)
"""


@pytest.mark.qemu
@pytest.mark.parametrize("cpu", ["Haswell", "EPYC"])
def test_cpus_of_other_makers_give_the_same_bits(cpu: str, finished: Clone) -> None:
    """Two steps of `fast` on emulated CPUs of Intel and of AMD: the digest and the curve of this CPU."""
    qemu = shutil.which("qemu-x86_64")
    if "TEST_QEMU" not in os.environ or qemu is None:
        pytest.skip("takes minutes: set TEST_QEMU=1, and install Debian's qemu-user")
    here = finished.run(sys.executable, "-c", FEW_STEPS).stdout
    there = finished.run(qemu, "-cpu", cpu, os.path.realpath(sys.executable), "-c", FEW_STEPS,
                         PYTHONPATH=os.pathsep.join(filter(None, sys.path))).stdout  # fmt: skip
    assert here.split()[0] == there.split()[0]
    assert here == there


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_bits_from_run_to_run(finished: Clone, tmp_path: Path) -> None:
    """Two trainings on one GPU end with the same weights, which read as many digits as the CPU's."""
    digests = []
    for run in ("first", "second"):
        clone = finished.copy(tmp_path / run)
        clone.run("dvc", "exp", "run", "-S", "train.device=cuda", "evaluate")
        digests.append(weights(clone))
        assert json.loads((clone.path / "metrics/evaluate.json").read_text())["accuracy"] >= 0.95
    assert digests[0] == digests[1]


RUN_AND_TELL = """
import atexit, runpy, sys, torch
atexit.register(lambda: print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()))
sys.argv = sys.argv[1:]
runpy.run_module(f"stages.{sys.argv[0]}", run_name="__main__")
"""


@pytest.mark.parametrize("stage", ["train", "evaluate", "report"])
def test_pinning_takes_hold(finished: Clone, tmp_path: Path, stage: str) -> None:
    """A stage that computes does so with AVX2, PyTorch and oneDNN alike, whatever the CPU has besides."""
    clone = finished.copy(tmp_path / "clone")
    beside = {"ONEDNN_VERBOSE": "1", "ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "ALL"}
    output = clone.run(sys.executable, "-c", RUN_AND_TELL, stage, PYTHONPATH=str(clone.path), **beside).stdout
    assert output.splitlines()[-1] == "AVX2 1"
    assert "cpu,isa:Intel AVX2\n" in output


def test_pinning_too_late_is_refused() -> None:
    """Once PyTorch has chosen what else the CPU has, `pin` raises: no silent other bits."""
    code = (
        "import torch; late = 'AVX512' in torch.backends.cpu.get_cpu_capability()\n"
        "from stages.net import exact\n"
        "try: exact.pin()\n"
        "except RuntimeError: assert late\n"
        "else: assert not late"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=True)

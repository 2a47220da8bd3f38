"""The kernels: known bits, the same for each kind of processor; and the cache of their machine code."""

import hashlib
import math
import platform
import shlex
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
import torch

from stages.net import inference
from stages.net.kernels import compiler
from tests import steps
from tests.conftest import PROJECT

SMALL = {"relu": compiler.KERNELS["relu"]}


def exponential(x: float) -> Fraction:
    """Return e^x, closer than float64 can, by the series of e^(x / 1024)."""
    r, term, total = Fraction(x) / 1024, Fraction(1), Fraction(1)
    for n in range(1, 20):
        term *= r / n
        total += term
    return total**1024


def test_the_exponential_is_known() -> None:
    """Softmax of two classes is right to 14 digits, and its bits are these on every CPU."""
    distances = np.linspace(0, 80, 401, dtype=np.float32)
    logits = torch.from_numpy(np.stack([np.zeros_like(distances), -distances], axis=1))
    probabilities = inference.probabilities(logits).numpy()
    for distance, (_, less) in list(zip(distances, probabilities, strict=True))[::40]:
        share = exponential(-float(distance))
        assert less == pytest.approx(float(share / (1 + share)), rel=1e-14)
    digest = hashlib.sha256(probabilities.astype("<f8").tobytes()).hexdigest()
    assert digest == "f11aa37ef4ee320ede123a7150b96bdf0451de9b0d1dc43defa1d4442740df83"


def test_the_loss_of_known_logits() -> None:
    """Equal logits of four classes: log(4) nats, whatever the label; a sure and right net has none."""
    loss, accuracy = inference.loss_and_accuracy(torch.zeros(3, 4), torch.tensor([0, 1, 2]))
    assert (loss, accuracy) == (pytest.approx(math.log(4), rel=1e-15), pytest.approx(1 / 3))
    assert inference.loss_and_accuracy(torch.tensor([[0.0, 800.0]]), torch.tensor([1])) == (0.0, 1.0)


FEATURES = [
    {},
    {"avx": True, "avx2": True, "fma": True},
    {"avx512f": True, "avx512vl": True, "fma": True, "avx2": True},
]


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the features are of x86-64")
@pytest.mark.parametrize("features", FEATURES, ids=["SSE2", "AVX2", "AVX-512"])
def test_every_kind_of_processor_gives_the_same_bits(
    features: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of four nets by vectors of 4, 8 and 16 numbers, with and without fused multiply-add in hardware."""
    there = llvm.get_host_cpu_features()
    if not all(there.get(name) for name in features):
        pytest.skip("this processor has no such vectors")
    target = compiler.target_of("x86-64", features)
    used = compiler.Kernels(target, compiler.compiled(target))
    monkeypatch.setattr("stages.net.calls.compiled_kernels", lambda: used)
    known = steps.known()
    names = ["cnn_10_20_dropout", "lenet5_relu", "quick", "fast, shards of 3"]
    assert [steps.digest(name) for name in names] == [known[name] for name in names]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> compiler.Target:
    """This machine's processor; there is one kernel, as all take seconds."""
    monkeypatch.setattr(compiler, "KERNELS", SMALL)
    return compiler.host()


def works(of: compiler.Kernels) -> bool:
    """Return whether the kernel does what it is to do."""
    x, y = torch.tensor([-1.0, 2.0, -3.0]), torch.empty(3)
    arguments = torch.tensor([x.data_ptr(), y.data_ptr(), 3])
    command = torch.tensor([of.addresses["relu"], arguments.data_ptr()])
    of.run(command.data_ptr(), 1)
    return y.tolist() == [0, 2, 0]


def test_kernels_are_compiled_once(small: compiler.Target, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The first load says that it compiles; the next finds the file, in a folder with blanks in its name."""
    folder = tmp_path / "a cache"
    assert works(compiler.load(small, folder))
    assert capfd.readouterr().err == "compiling the kernels for this processor, once\n"
    (file,) = folder.iterdir()
    before = file.stat().st_mtime_ns
    assert works(compiler.load(small, folder))
    assert capfd.readouterr().err == ""
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["a bit", "cut", "empty"])
def test_damaged_machine_code_is_not_run(
    small: compiler.Target, tmp_path: Path, capfd: pytest.CaptureFixture[str], damage: str
) -> None:
    """It is compiled again."""
    compiler.load(small, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    flipped = whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
    file.write_bytes({"a bit": flipped, "cut": whole[:-1], "empty": b""}[damage])
    capfd.readouterr()
    assert works(compiler.load(small, tmp_path))
    assert "compiling" in capfd.readouterr().err
    assert file.read_bytes() == whole


def test_another_processor_has_another_file(small: compiler.Target, tmp_path: Path) -> None:
    """So has another version of the kernels, or of llvmlite."""
    compiler.load(small, tmp_path)
    compiler.load(compiler.target_of("generic", {}), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_done_without(
    small: compiler.Target, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file stands where the folder would be: the kernels work, and a line says why there is no cache."""
    (tmp_path / "cache").write_text("")
    assert works(compiler.load(small, tmp_path / "cache" / "kernels"))
    assert "going on without the cache of kernels: " in capfd.readouterr().err


LOAD = """
import sys
from pathlib import Path
from stages.net.kernels import compiler
from tests.test_kernels import SMALL, works

compiler.KERNELS = SMALL
assert works(compiler.load(compiler.host(), Path(sys.argv[1])))
"""


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ("mount -t tmpfs -o size=4k none $0; head -c 4096 /dev/zero > $0/filler", "No space left on device"),
        ("mount --bind $0 $0; mount -o remount,bind,ro $0", "Read-only file system"),
    ],
    ids=["full", "read-only"],
)
def test_a_full_disk_is_no_obstacle(tmp_path: Path, mount: str, message: str) -> None:
    """Nor is one that cannot be written: the kernels work, and a line says why there is no cache. No file is left."""
    alone = ["unshare", "--map-root-user", "--mount", "sh", "-ec"]
    if subprocess.run([*alone, mount, tmp_path], capture_output=True).returncode:
        pytest.skip("needs user namespaces, to mount a disk")
    load = f'{mount}; {shlex.quote(sys.executable)} -c "$1" $0; ls $0'
    done = subprocess.run([*alone, load, tmp_path, LOAD], cwd=PROJECT, capture_output=True, text=True, check=True)
    first, second = done.stderr.splitlines()
    assert first == "compiling the kernels for this processor, once"
    assert second.startswith(f"going on without the cache of kernels: {tmp_path}/")
    assert second.endswith(f".o: {message}")
    assert done.stdout.split() == ["filler"] * ("filler" in mount)


def test_processes_compile_at_the_same_time(tmp_path: Path) -> None:
    """Four processes with one empty cache: all work, and one whole file is left."""
    command = [sys.executable, "-c", LOAD, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=PROJECT) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".o"

"""What makes the same bits everywhere, besides the kernels: random draws, versions; and a digest to compare."""

import hashlib
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import torch
from packaging.requirements import Requirement
from torch import Tensor

LOCK = Path("requirements.lock")


def pin() -> None:
    """Set one thread for each operation, and deterministic algorithms on a GPU, for this process."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # PyTorch asks for it where CUDA is to be deterministic
    torch.set_num_threads(1)  # Workers share the work out
    # use_deterministic_algorithms(True) does the same, and imports the compiler, which takes two seconds
    torch.set_deterministic_debug_mode("error")
    # Memory that is written before it is read need not be filled first.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def environment(device: torch.device) -> dict[str, str]:
    """Return what no params file says of a training on `device`: its name and the versions."""
    return {
        "device": "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device),
        "python": platform.python_version(),
        **{package: metadata.version(package).partition("+")[0] for package in ("torch", "numpy")},
    }


def warn_of_other_versions(*packages: str) -> None:
    """Say on stderr which of `packages` are installed in another version than requirements.lock has."""
    others = []
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if line.split("==")[0] in packages:
            locked = Requirement(line.rstrip("\\ "))
            installed = metadata.version(locked.name)
            if (not locked.marker or locked.marker.evaluate()) and installed not in locked.specifier:
                others.append(f"{locked.name} {installed} (expected {locked.specifier})")
    if others:
        print(f"{LOCK}: other versions are installed, the bits may differ: {', '.join(others)}", file=sys.stderr)


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a generator for one purpose, such as `generator(seed, "order", epoch)`.

    Each purpose has a stream of its own that follows from the seed alone: what is drawn elsewhere, or a pause between
    two epochs, changes nothing. It draws on the CPU: CUDA's draws depend on the model of the GPU.
    """
    name = "/".join(map(str, (seed, *purpose)))
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]))


def digest(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and bytes of `tensors`, in the order of their names."""
    sha256 = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha256.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha256.hexdigest()

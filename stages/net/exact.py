"""What makes the same bits everywhere: the instruction set, the random draws, and a digest to compare."""

import hashlib
import os

import torch
from torch import Tensor


def pin() -> None:
    """Set AVX2, one thread for each operation, and deterministic algorithms for this process.

    Call it before the first operation: PyTorch and oneDNN read these variables once. Other instruction sets, and
    another number of threads inside an operation, add numbers up in another order. Raises RuntimeError if it is
    too late.
    """
    os.environ["ATEN_CPU_CAPABILITY"] = "avx2"
    os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # PyTorch asks for it where CUDA is to be deterministic
    if "AVX512" in torch.backends.cpu.get_cpu_capability():
        raise RuntimeError("pin was called after PyTorch had chosen its instruction set; call it first")
    torch.set_num_threads(1)
    # use_deterministic_algorithms(True) does the same, and imports the compiler, which takes two seconds
    torch.set_deterministic_debug_mode("error")
    # Memory that is written before it is read need not be filled first.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


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

"""Calls of the kernels: at once, or kept as a program that runs again and again without Python in between."""

import ctypes
import struct
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stages.net.kernels import elements, product  # noqa: F401 - they register the kernels
from stages.net.kernels.compiler import KERNELS, compiled_kernels

# Of the arrays that kernels take
DTYPES = {"u8*": torch.uint8, "i64*": torch.int64, "f32*": torch.float32, "f64*": torch.float64}
Argument = Tensor | int | float  # a tensor stands for its memory


def packed(kernel: str, arguments: tuple[Argument, ...]) -> Any:
    """Return the arguments of `kernel` as it takes them, 64 bits each.

    Raises RuntimeError for a tensor of another type than it expects, with gaps in memory, or on a GPU.
    """
    content = b""
    for kind, argument in zip(KERNELS[kernel][0], arguments, strict=True):
        if isinstance(argument, Tensor):
            if not argument.is_cpu:
                raise RuntimeError(f"Expected all tensors to be on the same device, got cpu and {argument.device}")
            if argument.dtype != DTYPES[kind]:
                raise RuntimeError(f"got a tensor of {argument.dtype}, expected {DTYPES[kind]}")
            dense = argument.is_contiguous() or argument.is_contiguous(memory_format=torch.channels_last)
            if kernel != "copy" and not dense:
                raise RuntimeError(f"got a tensor with gaps in memory, of strides {argument.stride()}")
            argument = argument.data_ptr()
        content += struct.pack("d" if kind in ("f32", "f64") else "q", argument)
    return (ctypes.c_int64 * len(arguments)).from_buffer_copy(content)


class Now:
    """Runs each call at once, and forgets it."""

    def __call__(self, kernel: str, *arguments: Argument) -> None:
        """Run the `kernel` of this name."""
        numbers, kernels = packed(kernel, arguments), compiled_kernels()
        command = (ctypes.c_int64 * 2)(kernels.addresses[kernel], ctypes.addressof(numbers))
        kernels.run(ctypes.addressof(command), 1)

    def python(self, function: Callable[[], object]) -> None:
        """Call `function`."""
        function()


now = Now()


class Program:
    """Runs each call at once, and keeps it: `again` calls all functions, then runs all kernels, on the same memory."""

    def __init__(self) -> None:
        self._kept: list[Any] = []  # tensors and arguments, whose memory the kernels use
        self._commands: list[int] = []
        self._functions: list[Callable[[], object]] = []

    def __call__(self, kernel: str, *arguments: Argument) -> None:
        """Run the `kernel` of this name, and keep the call."""
        numbers = packed(kernel, arguments)
        self._kept += [arguments, numbers]
        self._commands += [compiled_kernels().addresses[kernel], ctypes.addressof(numbers)]
        now(kernel, *arguments)

    def python(self, function: Callable[[], object]) -> None:
        """Call `function`, which reads nothing that a kernel writes, and keep it."""
        self._functions.append(function)
        function()

    def again(self) -> None:
        """Run all calls: the functions in their order, then the kernels in theirs."""
        for function in self._functions:
            function()
        commands = (ctypes.c_int64 * len(self._commands))(*self._commands)
        compiled_kernels().run(ctypes.addressof(commands), len(commands) // 2)


Run = Now | Program  # what an operation is handed

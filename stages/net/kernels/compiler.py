"""The kernels as machine code: compiled for a processor once, kept in the user's cache, and loaded."""

import ctypes
import hashlib
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import platformdirs
from llvmlite import ir

from stages.common import files
from stages.net.kernels.code import I64, Code, Pointer, Target

Emitter = Callable[..., None]
KERNELS: dict[str, tuple[list[str], Emitter]] = {}  # the types of the parameters, and what writes the kernel
OF_KERNEL = ir.FunctionType(ir.VoidType(), [ir.PointerType()])
# Runs `count` kernels, one after the other: for each, `commands` has its address and that of its arguments.
RUN = """
define void @run(ptr %commands, i64 %count) {
entry:
  br label %next
next:
  %done = phi i64 [ 0, %entry ], [ %more, %body ]
  %ended = icmp uge i64 %done, %count
  br i1 %ended, label %end, label %body
body:
  %command = getelementptr [2 x ptr], ptr %commands, i64 %done
  %kernel = load ptr, ptr %command
  %second = getelementptr ptr, ptr %command, i64 1
  %arguments = load ptr, ptr %second
  call void %kernel(ptr %arguments)
  %more = add i64 %done, 1
  br label %next
end:
  ret void
}
"""
LOCK = threading.Lock()  # two threads would load the kernels twice, and the first ones would be freed while they run
DIGEST_SIZE = hashlib.sha256().digest_size  # bytes at the beginning of a file in the cache, of the SHA-256 of the rest


def target_of(cpu: str, features: dict[str, bool]) -> Target:
    """Return the processor `cpu` that has `features`, by LLVM's names."""
    text = ",".join(f"{'+' if there else '-'}{name}" for name, there in sorted(features.items()))
    if features.get("avx512f"):
        return Target(cpu, text, lanes=16, registers=32)
    if features.get("avx"):
        return Target(cpu, text, lanes=8, registers=16)
    of_arm = llvm.get_process_triple().startswith(("aarch64", "arm64"))  # the second is what macOS calls it
    return Target(cpu, text, lanes=4, registers=32 if of_arm else 16)


def host() -> Target:
    """Return this machine's processor."""
    return target_of(llvm.get_host_cpu_name(), dict(llvm.get_host_cpu_features()))


def kernel(parameters: str) -> Callable[[Emitter], Emitter]:
    """Make a function a kernel; `parameters` are its names, each with a type as in C: "f32* x, i64 count"."""

    def register(emit: Emitter) -> Emitter:
        KERNELS[emit.__name__] = ([parameter.split()[0] for parameter in parameters.split(",")], emit)
        return emit

    return register


class Kernels:
    """All kernels, compiled for `target`.

    A kernel takes the address of its arguments: 64 bits each, addresses and whole numbers as int64, others as float64.
    It checks nothing: who calls it knows the sizes of the arrays. While it runs, other Python threads run, too.
    """

    def __init__(self, target: Target, machine_code: bytes):
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(target))
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(machine_code))
        self._engine.finalize_object()
        self.addresses: dict[str, int] = {name: self._engine.get_function_address(name) for name in KERNELS}
        run = self._engine.get_function_address("run")
        self.run = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(run)


def compiled(target: Target) -> bytes:
    """Return the machine code of all kernels for `target`: an object file."""
    module = ir.Module()
    module.triple = llvm.get_process_triple()
    for name, (kinds, emit) in KERNELS.items():
        code = Code(ir.Function(module, OF_KERNEL, name), target)
        slots = Pointer(code, code.function.args[0], I64)
        emit(code, *(code.argument(slots + place, kind) for place, kind in enumerate(kinds)))
        code.builder.ret_void()
    parsed = llvm.parse_assembly(f"{module}\n{RUN}")
    machine = _machine(target)
    # Vectors and tiles are written as such. LLVM's standard passes take five times as long, mostly to unroll loops, and
    # what they make is slower
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()  # variables become registers
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.run(parsed, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    return bytes(machine.emit_object(parsed))


def load(target: Target, folder: Path) -> Kernels:
    """Return the kernels for `target` from `folder`, a cache. What is not there, or damaged, is compiled and put there.

    Another version of the kernels, of llvmlite or of the processor has a file of its own.
    """
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    key = hashlib.sha256(repr((sources, llvmlite.__version__, llvm.get_process_triple(), target)).encode())
    path = folder / f"{key.hexdigest()}.o"
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    digest, machine_code = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
    if hashlib.sha256(machine_code).digest() != digest:
        print("compiling the kernels for this processor, once", file=sys.stderr, flush=True)
        machine_code = compiled(target)
        try:
            files.write_whole(path, hashlib.sha256(machine_code).digest() + machine_code)
        except OSError as error:
            print(f"going on without the cache of kernels: {path}: {error.strerror or error}", file=sys.stderr)
    return Kernels(target, machine_code)


def compiled_kernels() -> Kernels:
    """Return the kernels for this machine."""
    with LOCK:
        return _loaded()


@cache
def _loaded() -> Kernels:
    return load(host(), platformdirs.user_cache_path("mnist-pipeline") / "kernels")


def _machine(target: Target) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    native = llvm.Target.from_triple(llvm.get_process_triple())
    return native.create_target_machine(target.cpu, target.features, opt=3, codemodel="jitdefault", jit=True)

"""Build a folder in which modules of this project run on emulated ARM CPUs, from nothing.

    python -m tests.arm ROOT

puts Debian's Python for arm64 and the packages of requirements.lock into the new folder ROOT (5 GB), and prints the
command that runs a module on each of CPUS; any other CPU of `qemu-aarch64 -cpu help` can be added. Needs Debian 12, its
package qemu-user, uv, and a network, but no rights.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parent.parent
CPUS = ("cortex-a72", "neoverse-n1", "max")  # of 2016, of 2019, and all that QEMU can do: SVE
PYTHON = "usr/bin/python3.11"
PACKAGES = "usr/local/lib/python3.11/dist-packages"
DEBIAN = (
    "libbz2-1.0 libc6 libcrypt1 libexpat1 libffi8 libgcc-s1 libgomp1 liblzma5 libpython3.11-minimal "
    "libpython3.11-stdlib libsqlite3-0 libssl3 libstdc++6 libuuid1 python3.11-minimal zlib1g"
)
# What PyTorch can be imported without, 1.3 GB. It loads most of CUDA at once, even where there is no GPU.
UNUSED = "nvidia-cusolver nvidia-nvjitlink triton"
# How Linux calls the bits of AT_HWCAP and of AT_HWCAP2, from the lowest one on.
FEATURES = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 "
    "sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg",
    "dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 i8mm bf16 "
    "dgh rng bti mte ecv afp rpres mte3 sme smei16i64 smef64f64 smei8i32 smef16f32 smeb16f32 smef32f32 smefa64",
)
# Prints AT_HWCAP, AT_HWCAP2 and the register that names the CPU.
ASK = """
import ctypes, mmap
ask = ctypes.CDLL(None).getauxval
ask.restype = ctypes.c_ulong
code = mmap.mmap(-1, 8, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("000038d5 c0035fd6"))  # mrs x0, midr_el1; ret
midr = ctypes.CFUNCTYPE(ctypes.c_ulong)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
print(ask(16), ask(26), midr())
"""


def run(*command: str | Path, cwd: Path = PROJECT) -> str:
    """Run `command` in the folder `cwd`, and return what it prints; raises CalledProcessError if it fails."""
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


def unpack_debian(root: Path) -> None:
    """Unpack DEBIAN for arm64 into `root`. The sources and their keys are those of this machine."""
    apt = root / "apt"
    (apt / "lists/partial").mkdir(parents=True)
    (apt / "status").touch()
    own = {"State": apt, "State::status": apt / "status", "Cache": apt}
    options = [f"-oDir::{key}={path}" for key, path in own.items()]
    options += ["-oAPT::Architecture=arm64", "-oAPT::Architectures=arm64", "-oAPT::Sandbox::User="]
    run("apt-get", "-qq", *options, "update")
    run("apt-get", "-qq", *options, "download", *DEBIAN.split(), cwd=apt)
    for package in apt.glob("*.deb"):
        run("dpkg", "-x", package, root)
    shutil.rmtree(apt)


def install(root: Path) -> None:
    """Install the packages of requirements.lock for arm64, less UNUSED, into `root`.

    What has no wheel is built here: it is Python alone.
    """
    unused = root / "unused.txt"
    unused.write_text(UNUSED.replace(" ", "\n"))
    into = ("--target", root / PACKAGES, "--python-platform", "aarch64-unknown-linux-gnu", "--python-version", "3.11")
    packages = ("--require-hashes", "--no-deps", "--excludes", unused, "-r", "requirements.lock")
    run("uv", "pip", "install", "-q", "--compile-bytecode", "--python", sys.executable, *into, *packages)
    unused.unlink()


def make_cpu(root: Path, cpu: str) -> None:
    """Make the folder ROOT/CPU: the system in `root`, and what Linux says in files of a machine of such CPUs.

    Otherwise a program is shown the files of this machine, and PyTorch crashes.
    """
    folder = root / cpu
    folder.mkdir()
    for name in ("etc", "lib", "usr"):
        (folder / name).symlink_to(f"../{name}")
    *words, midr = map(int, run("qemu-aarch64", "-cpu", cpu, "-L", folder, root / PYTHON, "-c", ASK).split())
    features = [
        name
        for word, names in zip(words, FEATURES, strict=True)
        for bit, name in enumerate(names.split())
        if word >> bit & 1
    ]
    count = os.cpu_count() or 1
    of_each = f"""Features\t: {" ".join(features)}
CPU implementer\t: {midr >> 24:#04x}
CPU architecture: 8
CPU variant\t: {midr >> 20 & 0xF:#x}
CPU part\t: {midr >> 4 & 0xFFF:#05x}
CPU revision\t: {midr & 0xF}

"""
    files = {"proc/cpuinfo": "".join(f"processor\t: {number}\n{of_each}" for number in range(count))}
    of_cpus = "sys/devices/system/cpu"
    files |= {f"{of_cpus}/{name}": f"0-{count - 1}\n" for name in ("online", "possible", "present")}
    files |= {f"{of_cpus}/cpu{number}/regs/identification/midr_el1": f"{midr:#018x}\n" for number in range(count)}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


if __name__ == "__main__":
    root = Path(sys.argv[1]).resolve()
    root.mkdir(parents=True)
    unpack_debian(root)
    install(root)
    for cpu in CPUS:
        make_cpu(root, cpu)
        print(f"qemu-aarch64 -cpu {cpu} -L {root / cpu} {root / PYTHON} -m tests.steps")

"""What machine and software a number was measured on, and what the process has used of it.

A number without its machine cannot be compared. Nothing here names the computer, its user or a path. What the machine
does not tell is None, never a guess.
"""

import ctypes
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

__all__ = ["EnergyCounter", "energy_joules_counter", "environment", "peak_memory_bytes"]

POWERCAP = Path("/sys/class/powercap")


def environment() -> dict[str, Any]:
    """The machine and the software, as values that JSON can hold.

    - `onceforall`, `python`, `numpy`, `torch`: versions; None for what is not installed.
    - `os`: system, release and processor family; `cpu`: the model's name.
    - `cores`: logical cores of the machine; `usable_cores`: those this process may run on.
    - `memory_bytes`: physical memory of the machine (a container's limit may be lower).
    - `gpus`: names of the accelerators that torch sees, a list, empty without torch.
    - `torch_threads`: intra-operation threads; `cpu_capability`: the vector instructions torch uses ("AVX512", ...).
    """
    facts: dict[str, Any] = {
        "onceforall": version("onceforall"),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "torch": version("torch"),
        "os": platform.platform(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_bytes": memory_bytes(),
        "gpus": [],
        "torch_threads": None,
        "cpu_capability": None,
    }
    try:
        import torch
    except ImportError:
        return facts
    facts["torch"] = str(torch.__version__)  # with the build, as "+cpu"
    facts["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        facts["gpus"].append("Apple GPU (mps)")
    facts["torch_threads"] = torch.get_num_threads()
    facts["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    return facts


def version(package: str) -> str | None:
    """The installed version of `package`, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The processor's name as its maker writes it, or the family where only that is known."""
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model") and value.strip():  # "Model": ARM boards
                return value.strip()
    except (OSError, subprocess.SubprocessError):
        pass
    return platform.processor() or platform.machine() or None


def memory_bytes() -> int | None:
    """Physical memory of the machine, in bytes; None on Windows."""
    if sys.platform == "win32":
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_memory_bytes() -> int | None:
    """The most memory this process has held at once since it started (resident set), in bytes; None on Windows.

    It never falls. On Linux a program started by a larger one begins with what that one held. Memory of an accelerator
    and of child processes is not in it.
    """
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kibibytes


@dataclass(slots=True)
@final
class Register:
    """One energy register of the hardware, read as energy since it was made, across its overflows."""

    name: str
    read: Callable[[], int]  # in units, growing; starts at 0 again after `wraps_at` units
    joules_per_unit: float
    wraps_at: int | None  # None: never
    last: int = 0
    units: int = 0

    def __post_init__(self) -> None:
        self.last = self.read()

    def joules(self) -> float:
        """Joules since this object was made; it must be asked at least once per overflow."""
        now = self.read()
        if now < self.last and self.wraps_at is not None:
            self.units += self.wraps_at
        self.units += now - self.last
        self.last = now
        return self.units * self.joules_per_unit


@final
class EnergyCounter:
    """Call it for the joules that the machine's counted parts (`sources`) have used since the counter was made."""

    def __init__(self, registers: list[Register]) -> None:
        self.registers = registers
        self.sources: tuple[str, ...] = tuple(register.name for register in registers)

    def __call__(self) -> float:
        """Joules since this counter was made."""
        return sum(register.joules() for register in self.registers)


def energy_joules_counter(powercap: Path = POWERCAP) -> EnergyCounter | None:
    """A counter of energy, in joules from now on, or None where the machine does not tell.

    Counted are processor packages and memory (RAPL, Intel and AMD under Linux; most systems let only root read it) and
    the NVIDIA GPUs that torch sees (NVML). It is the energy of these parts whoever used them: other programs are in
    it, the rest of the computer is not. `counter.sources` says what was found. RAPL registers overflow, large
    processors' within minutes: call the counter at least once a minute.
    """
    registers = rapl_registers(powercap) + nvml_registers()
    return EnergyCounter(registers) if registers else None


def rapl_registers(powercap: Path) -> list[Register]:
    """The readable RAPL registers below `powercap`.

    Packages, and memory where it is separate. Cores and uncore are parts of their package, and "psys" holds the
    packages: those would count twice.
    """
    registers: list[Register] = []
    for folder in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (folder / "name").read_text().strip()
            if name.startswith("package") or name == "dram":
                wraps_at = int((folder / "max_energy_range_uj").read_text())
                registers.append(
                    Register(
                        f"{name} ({folder.name})",
                        lambda file=folder / "energy_uj": int(file.read_text()),
                        1e-6,
                        wraps_at,
                    )
                )
        except (OSError, ValueError):
            continue  # not ours to read
    return registers


def nvml_registers() -> list[Register]:
    """The energy registers of the NVIDIA GPUs that torch sees; none without torch, driver or support by the GPU."""
    try:
        import torch

        nvml = ctypes.CDLL("libnvidia-ml.so.1")  # part of the driver
    except (ImportError, OSError):
        return []
    if nvml.nvmlInit_v2() != 0:
        return []
    registers: list[Register] = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        handle = ctypes.c_void_p()
        # by identity: torch's numbering follows CUDA_VISIBLE_DEVICES, that of NVML does not
        if nvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}".encode(), ctypes.byref(handle)) != 0:
            continue
        try:
            registers.append(Register(properties.name, lambda handle=handle: gpu_millijoules(nvml, handle), 1e-3, None))
        except OSError:
            continue  # older than Volta: has no such register
    return registers


def gpu_millijoules(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> int:
    """Energy of one GPU since its driver was loaded; `OSError` where it does not tell."""
    energy = ctypes.c_ulonglong()
    status = nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(energy))
    if status != 0:
        raise OSError(f"NVML reads no energy (status {status}).")
    return energy.value

"""The cores, memory and processor of this machine. Nothing here imports torch."""

import contextlib
import os
import platform
import re
import resource
import subprocess
import sys
from pathlib import Path


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_memory_mb() -> int:
    """The memory of this machine in MiB, or the limit of this process's container if that is less."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            memory = min(memory, int(Path(file).read_text()))
    return memory // 2**20


def peak_host_memory_mb() -> float:
    """The peak resident memory of this process in MiB, including pages of mapped files."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def processor_name() -> str:
    """The full name of this machine's processor."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def short_device_name(name: str) -> str:
    """The short name of a processor or GPU for the table.

    Examples: `NVIDIA A100-SXM4-40GB` becomes `A100`, `AMD EPYC 9B14 96-Core Processor` becomes `AMD EPYC`.

    Args:
        name: the full name, from `processor_name` or torch. If it is empty, the short name is `CPU`.
    """
    name = re.sub(r"\((R|TM|C)\)|\bCPU\b|@.*|Processor|with Radeon.*|\d+th Gen", " ", name, flags=re.IGNORECASE)
    words = name.split()
    if words and words[0] in ("NVIDIA", "Tesla"):
        words = [word for word in words if word not in ("NVIDIA", "GeForce", "Tesla", "Quadro")]
        family = words[0].split("-")[0] if words else "GPU"
        return " ".join([family, *words[1:2]]) if family in ("RTX", "GTX", "Titan", "TITAN") else family
    if words[:1] == ["AMD"] or words[:1] == ["Intel"]:
        return " ".join(words[: 3 if words[1:2] in (["Ryzen"], ["Core"]) else 2])
    return " ".join(words[:3]) or "CPU"

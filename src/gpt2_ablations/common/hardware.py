"""The cores, memory and processor of this machine. Nothing here imports torch."""

import contextlib
import math
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Files of the kernel: the cgroups of this process, and where they are mounted.
PROCESS = Path("/proc/self")


def usable_cores() -> int:
    """The number of cores that this process may use: those that it is bound to, or the time that its cgroups allow."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _cgroups("cpu"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # without a quota, it is `max` or -1
            file = folder / "cpu.max"
            files = [file] if file.is_file() else [folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"]
            quota, period = (int(number) for file in files for number in file.read_text().split())
            cores = min(cores, math.ceil(quota / period)) if quota > 0 else cores
    return cores


def machine_memory_mb() -> int:
    """The memory of this machine in MiB, or the limit of one of this process's cgroups if that is less."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for folder in _cgroups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                memory = min(memory, int((folder / name).read_text()))
    return memory // 2**20


def _cgroups(controller: str) -> Iterator[Path]:
    """The folders of this process's cgroup and of all around it, in version 1 and in version 2 of cgroups.

    The limit of each holds: a batch system's is that of the job, and the process is in a cgroup below it.
    https://docs.kernel.org/admin-guide/cgroup-v2.html, https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    """
    try:
        own = [line.split(":", 2)[1:] for line in (PROCESS / "cgroup").read_text().splitlines()]
        mounts = (PROCESS / "mountinfo").read_text().splitlines()
    except OSError:  # not Linux
        return
    for mount in mounts:
        about_mount, _, about_system = mount.partition(" - ")
        root, mount_point = about_mount.split()[3:5]
        kind, _, options = about_system.split()[:3]
        for controllers, path in own:
            is_version_2 = kind == "cgroup2" and not controllers
            if is_version_2 or (
                kind == "cgroup" and controller in controllers.split(",") and controller in options.split(",")
            ):
                # A container may see its own cgroup as the root of the mount.
                below = Path(os.path.relpath(path, root))
                below = Path() if ".." in below.parts else below
                yield from (Path(mount_point, folder) for folder in (below, *below.parents))


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

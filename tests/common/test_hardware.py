"""Cores and memory in containers and batch systems: written trees of the kernel's files stand in for them."""

import os
from pathlib import Path

import pytest

from gpt2_ablations.common import hardware

MIB = 2**20


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A function that writes this process's cgroups, their mounts and the files of limits."""
    monkeypatch.setattr(hardware, "PROCESS", tmp_path / "self")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))

    def write(cgroups: str, mounts: list[tuple[str, str, str, str]], files: dict[str, str]) -> None:
        lines = [
            f"{31 + i} 23 0:28 {root} {tmp_path / point} rw,nosuid shared:9 - {kind} none rw,{options}"
            for i, (root, point, kind, options) in enumerate([("/", "", "ext4", "discard"), *mounts])
        ]
        for name, text in ({"self/cgroup": cgroups, "self/mountinfo": "\n".join(lines)} | files).items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text and text + "\n")

    return write


VERSION_2 = [("/", "fs", "cgroup2", "nsdelegate")]
VERSION_1 = [("/", "fs/cpu,cpuacct", "cgroup", "cpu,cpuacct"), ("/", "fs/memory", "cgroup", "memory")]
IN_JOB_1 = "11:memory:/slurm/job_7/step_0\n4:cpu,cpuacct:/slurm/job_7/step_0\n1:name=systemd:/"


@pytest.mark.parametrize(
    ("cgroups", "mounts", "files", "cores"),
    [
        ("0::/", VERSION_2, {"fs/cpu.max": "300000 100000"}, 3),
        ("0::/", VERSION_2, {"fs/cpu.max": "max 100000"}, 64),
        ("0::/", VERSION_2, {"fs/cpu.max": "150000 100000"}, 2),
        ("0::/", VERSION_2, {"fs/cpu.max": "5000 100000"}, 1),
        ("0::/", VERSION_2, {}, 64),
        ("0::/job/step", VERSION_2, {"fs/job/cpu.max": "800000 100000", "fs/job/step/cpu.max": "max 100000"}, 8),
        ("0::/job/step", VERSION_2, {"fs/cpu.max": "400000 100000", "fs/job/cpu.max": "800000 100000"}, 4),
        (
            IN_JOB_1,
            VERSION_1,
            {
                "fs/cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us": "600000",
                "fs/cpu,cpuacct/slurm/job_7/cpu.cfs_period_us": "100000",
                "fs/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "fs/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            6,
        ),
        ("", [], {}, 64),
    ],
    ids=[
        "v2",
        "v2 without",
        "a part of a core",
        "less than a core",
        "no file",
        "job",
        "around job",
        "v1",
        "no cgroups",
    ],
)
def test_a_quota_of_processor_time_at_any_level_limits_the_cores(kernel, cgroups, mounts, files, cores):
    kernel(cgroups, mounts, files)
    assert hardware.usable_cores() == cores


@pytest.mark.parametrize(
    ("cgroups", "mounts", "files", "expected"),
    [
        ("0::/job/step", VERSION_2, {"fs/job/memory.max": f"{32 * MIB}", "fs/job/step/memory.max": "max"}, 32),
        ("0::/job/step", VERSION_2, {"fs/memory.max": f"{16 * MIB}", "fs/job/memory.max": f"{32 * MIB}"}, 16),
        (IN_JOB_1, VERSION_1, {"fs/memory/slurm/job_7/memory.limit_in_bytes": f"{32 * MIB}"}, 32),
        # A container: the mount shows its own cgroup as the root, and the process is in one below it, or is not shown.
        ("0::/docker/a/job", [("/docker/a", *VERSION_2[0][1:])], {"fs/job/memory.max": f"{8 * MIB}"}, 8),
        ("0::/docker/a", [("/docker/a", *VERSION_2[0][1:])], {"fs/memory.max": f"{8 * MIB}"}, 8),
        ("0::/../b", VERSION_2, {"fs/memory.max": f"{8 * MIB}"}, 8),
        # Both versions: the controller is in one of them.
        (f"{IN_JOB_1}\n0::/x", [*VERSION_1, *VERSION_2], {"fs/memory/slurm/memory.limit_in_bytes": f"{4 * MIB}"}, 4),
    ],
    ids=["v2", "v2 around", "v1", "in a container", "the container's", "outside the namespace", "both versions"],
)
def test_a_memory_limit_at_any_level_is_the_memory_of_the_machine(kernel, cgroups, mounts, files, expected):
    kernel(cgroups, mounts, files)
    assert hardware.machine_memory_mb() == expected


@pytest.mark.parametrize("limit", ["max", str(2**63 - 4096), "not a number"])
def test_without_a_limit_the_memory_is_the_machine_s(kernel, limit):
    kernel("0::/", VERSION_2, {"fs/memory.max": limit})
    assert hardware.machine_memory_mb() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB


def test_this_machine_has_cores_and_memory():
    assert hardware.usable_cores() >= 1 and hardware.machine_memory_mb() > 100
    assert Path("/proc/self/cgroup") == hardware.PROCESS / "cgroup"

"""Faults in a workshop (tests/workflow/conftest.py): a process is killed or a disk fills, and the workflow resumes."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.disk import Disk
from tests.faults.runs import numbers
from tests.workflow.conftest import finished, finished_workshop, untrained, workshop

__all__ = ["finished", "finished_workshop", "untrained", "workshop"]


@pytest.fixture(scope="session")
def expected(finished_workshop) -> dict[str, object]:
    """The numbers of an undisturbed invocation."""
    return numbers(finished_workshop.results)


@pytest.fixture
def disk() -> Iterator[Callable[..., Disk]]:
    """A function that mounts a disk, unmounted at the end. The test is skipped if mounting is not permitted."""
    disks: list[Disk] = []

    def mount(folder: Path, size: int = 2**25) -> Disk:
        disks.append(Disk(folder, size))
        return disks[-1]

    yield mount
    for mounted in disks:
        subprocess.run(["umount", "--lazy", str(mounted.folder)], check=True)


@pytest.fixture(autouse=True)
def _end_processes(tmp_path: Path) -> Iterator[None]:
    """End every process that a test started in its folder."""
    yield
    for process in psutil.process_iter(["cmdline"]):
        if {"snakemake", "gpt2_ablations"} & set((process.info["cmdline"] or [])[1:4]):
            try:
                if Path(process.cwd()).is_relative_to(tmp_path.resolve()):
                    process.kill()
            except psutil.Error:  # it has ended
                continue

"""A SLURM lab for the tests of this folder, and workshops whose jobs run in it."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.slurm.lab import NODES, Lab, kill, lacking, wait_until
from tests.workflow.conftest import Workshop, make_workshop

# What the user of a cluster edits in the profile, and settings that shorten the waiting here.
LAB_ARGUMENTS = (
    *("--workflow-profile", "workflow/profiles/slurm", "--jobs", "4", "--latency-wait", "10"),
    *("--default-resources", "slurm_account=lab", "slurm_partition=cpu", "mem_mb=1500", "runtime=10"),
    # The lab has no accounting database.
    *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder only."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slurm)


class Cluster(Workshop):
    """A workshop that runs its jobs in the lab."""

    configfile = "override.yaml"

    def command_line(self, *arguments: str) -> list[str]:
        """Snakemake with the SLURM profile and the lab's partitions; `arguments` override them."""
        snakemake = [sys.executable, "-m", "snakemake"]
        return [*snakemake, *LAB_ARGUMENTS, *arguments, "--configfile", self.configfile]

    def snakemake(self, *arguments: str, timeout: float = 900) -> subprocess.CompletedProcess:
        """Run Snakemake here, with jobs in SLURM, and wait for it."""
        with self.started(*arguments) as running:
            try:
                stdout, stderr = running.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                running.kill()
                raise AssertionError("snakemake did not end in time:\n" + running.communicate()[1][-5000:]) from None
        return subprocess.CompletedProcess(running.args, running.returncode, stdout, stderr)

    @contextlib.contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen]:
        """Snakemake running here, with jobs in SLURM; killed at the end if it still runs."""
        running = subprocess.Popen(
            self.command_line(*arguments),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield running
        finally:
            if running.poll() is None:
                process = psutil.Process(running.pid)
                kill([*process.children(recursive=True), process])
                running.communicate()

    def training(self, row: str) -> list[psutil.Process]:
        """The processes that train a row in this folder, the oldest first."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                command = process.cmdline()
                if command[1:4] != ["-m", "gpt2_ablations", "train"] or process.cwd() != str(self.folder):
                    continue
                if f"--row={row}" in command:
                    found.append(process)
        return sorted(found, key=psutil.Process.create_time)

    def wait_for_training(self, row: str, count: int = 1, seconds: float = 120) -> list[psutil.Process]:
        """Wait until `count` processes train a row at the same time; returns them, the oldest first."""

        def found() -> list[psutil.Process] | None:
            processes = self.training(row)
            return processes if len(processes) >= count else None

        return wait_until(found, seconds, f"{count} processes train row {row}")


@pytest.fixture(scope="session")
def _lab() -> Iterator[Lab]:
    if reason := lacking():
        pytest.skip(reason)
    lab = Lab()
    # Without this handler, a terminated pytest would leave the daemons running.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated"))
    try:
        lab.start()
        yield lab
    finally:
        lab.stop()


@pytest.fixture
def lab(_lab: Lab) -> Iterator[Lab]:
    """A SLURM of two idle nodes."""
    yield _lab
    subprocess.run(["scancel", "--user=root"], timeout=30, check=True)
    _lab.wait_for_quiet()
    for node in NODES:
        assert _lab.node_states()[node] == "idle"


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A fresh workshop in which nothing has run."""
    return make_workshop(tmp_path / "workshop")


@pytest.fixture
def cluster(lab: Lab, workshop: Workshop) -> Cluster:
    """A fresh workshop in which nothing has run, with jobs in SLURM."""
    return Cluster(workshop.folder)

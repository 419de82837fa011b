"""Invocations that a test can kill, and the files that they leave."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.conftest import CHECKOUT
from tests.workflow.conftest import Workshop

LONGEST_WAIT = 300  # seconds; only a failing test waits so long


@dataclass
class Outcome:
    """The exit code of a command (negative: the signal that ended it) and all that it printed."""

    code: int
    output: str

    @property
    def errors(self) -> list[str]:
        """The error lines of the jobs and of the workflow itself."""
        return [line for line in self.output.splitlines() if line.startswith("error: ")]


class Started:
    """A running Snakemake, in a process group of its own as if a terminal had started it."""

    def __init__(self, folder: Path, *arguments: str):
        self.folder = folder
        self.printed = folder / f"printed-{time.monotonic_ns()}"
        with open(self.printed, "w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
                cwd=folder,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def job(self, command: str) -> psutil.Process:
        """Wait until a job runs `python3 -m gpt2_ablations COMMAND`; returns its process."""
        found: list[psutil.Process] = []

        def running() -> bool:
            assert self.process.poll() is None, f"ended before {command}: {self.printed.read_text()[-3000:]}"
            found[:] = jobs_in(self.folder, command)
            return bool(found)

        wait_until(running, f"{command} runs")
        return found[0]

    def signal_group(self, number: int) -> None:
        """Send a signal to Snakemake and its jobs, as a terminal does."""
        os.killpg(self.process.pid, number)

    def kill_snakemake(self) -> None:
        """kill -9 Snakemake alone: its jobs continue."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> Outcome:
        """Wait until Snakemake ends."""
        code = self.process.wait(timeout=LONGEST_WAIT)
        return Outcome(code, self.printed.read_text())


def jobs_in(folder: Path, command: str = "") -> list[psutil.Process]:
    """The processes in a folder that run a command of the package, named as its rule; any command by default."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if line[1:3] == ["-m", "gpt2_ablations"] and command in ("", line[3].replace("-", "_")):
            try:
                if process.cwd() == str(folder.resolve()) and process.info["status"] != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:  # it has ended
                continue
    return found


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition is true; fail after `LONGEST_WAIT`."""
    deadline = time.monotonic() + LONGEST_WAIT
    while not condition():
        assert time.monotonic() < deadline, f"not within {LONGEST_WAIT} s: {what}"
        time.sleep(0.02)


def start(workshop: Workshop, *arguments: str) -> Started:
    """Start `snakemake --cores 2 ARGUMENTS --configfile override.yaml` in a workshop."""
    return Started(workshop.folder, *arguments, "--configfile", "override.yaml")


def run(workshop: Workshop, *arguments: str) -> Outcome:
    """As `start`, for an invocation that no test interrupts, and wait for its end."""
    done = workshop.snakemake(*arguments)
    return Outcome(done.returncode, done.stdout + done.stderr)


def make_resume(folder: Path, configuration: str = "override.yaml") -> Outcome:
    """Run `make resume CONFIG=…` of this checkout's Makefile in a folder, with the interpreter of the tests."""
    environment = Path(sys.executable).parent.parent
    finished = subprocess.run(
        [
            *("make", "--file", str(CHECKOUT / "Makefile"), f"--assume-old={environment}/.installed", "resume"),
            *(f"VENV={environment}", "CORES=2", f"CONFIG={configuration}"),
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )
    return Outcome(finished.returncode, finished.stdout)


def contents(folder: Path, skip: tuple[str, ...] = ()) -> dict[str, bytes]:
    """All files below a folder by relative path, except those whose path starts with one of some names."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.relative_to(folder).parts[0].startswith(skip)
    }


def numbers(results: Path) -> dict[str, object]:
    """The results of an invocation, times aside: the table's lines, and each run's history and predictions."""
    with open(results / "table.csv", newline="") as file:
        lines = [{key: value for key, value in line.items() if key != "seconds"} for line in csv.DictReader(file)]
    cells = [line.split("|") for line in (results / "table.md").read_text().splitlines()]
    times = cells[0].index(next(cell for cell in cells[0] if cell.strip() == "Training time"))
    table = [line[:times] + line[times + 1 :] for line in cells]
    rows = {
        str(file.relative_to(results)): file.read_bytes()
        for name in ("history.csv", "predictions.csv")
        for file in sorted((results / "rows").glob(f"*/*/{name}"))
    }
    return {"table.csv": lines, "table.md": table} | rows


def unfinished(folder: Path) -> list[str]:
    """The unfinished files below a folder."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob(".*.part"))

"""A results folder admits one invocation of Snakemake at a time; another one is told what to do."""

import contextlib
import fcntl
import os
import platform
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from ..common.errors import InputError, printable
from ..common.files import cannot_be_written
from ..common.progress import is_running, read_report

LOCK_FILE = ".run.lock"
SNAKEMAKE_LOCKS = Path(".snakemake", "locks")
# For a lock that names no process: it was taken a moment ago, or on a full disk.
UNKNOWN = "another process"


def lock_results(folder: Path, targets: Sequence[str] = ()) -> int:
    """Lock a results folder against other invocations until this process ends, however it ends.

    Snakemake's own lock covers the files that two invocations share. An invocation with other settings would also
    change the configuration that this one's jobs read.

    Args:
        targets: of the command line; the file keeps them.

    Returns: the open lock file; closing it ends the lock.

    Raises:
        InputError: another invocation is running there, or the folder cannot be written.
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise cannot_be_written(path, error) from None
    for last in (False, True):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if last:
                holder = os.read(lock, 200).decode(errors="replace").partition("\n")[0] or UNKNOWN
                os.close(lock)
                raise InputError(
                    f"{folder}: another invocation is running there ({holder}); wait for it, or stop it"
                ) from None
            time.sleep(0.1)  # `running_invocation` of another process holds the lock for a moment
        except OSError:  # a file system without locks
            return lock
    with contextlib.suppress(OSError):  # a full disk: the lock holds, and names no process
        os.ftruncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {platform.node()}\n{' '.join(targets)}".encode())
    return lock


def running_invocation(folder: Path) -> str | None:
    """The invocation that holds a results folder, as `process 123 on HOST`; None without one."""
    with contextlib.suppress(OSError), open(folder / LOCK_FILE, encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read(200).partition("\n")[0] or UNKNOWN
    return None


def last_targets(folder: Path) -> list[str]:
    """The targets of the last invocation in a results folder."""
    with contextlib.suppress(OSError):
        return printable((folder / LOCK_FILE).read_text(encoding="utf-8", errors="replace").partition("\n")[2]).split()
    return []


def has_stale_lock(folder: Path) -> bool:
    """Whether Snakemake's locks name files of a results folder. Without a running invocation, one was killed."""
    for file in SNAKEMAKE_LOCKS.glob("*.output.lock"):
        with contextlib.suppress(OSError):
            locked = file.read_text(encoding="utf-8", errors="replace").splitlines()
            if any(Path(path).is_relative_to(folder) for path in locked):
                return True
    return False


def how_to_resume(configfiles: Sequence[str | Path], targets: Sequence[str], settings: Sequence[str]) -> str:
    """What to do after an invocation was killed. Snakemake refuses to start, and with `--quiet` does not say why.

    Args:
        configfiles: as Snakemake lists them, the Snakefile's own one last.
        targets: of the killed invocation.
        settings: of the command line. `make resume` takes none.
    """
    given = {"CONFIG": map(os.path.relpath, configfiles[:-1]), "TARGETS": targets}
    values = {name: " ".join(words) for name, words in given.items()}
    make = " ".join(["make resume", *(f"{name}={shlex.quote(value)}" for name, value in values.items() if value)])
    run = "" if settings else f"run `{make}`, or "
    return f"an earlier invocation was killed; {run}repeat this command with --unlock and then with --rerun-incomplete"


def surviving_jobs(progress: Path) -> list[str]:
    """The jobs that still run, as `train, row 4 (process 123 on HOST)`; after a kill they outlive their invocation.

    Args:
        progress: the folder of the progress files.
    """
    reports = [(read_report(file), file) for file in sorted(progress.glob("*.json"))]
    running = [report for report, file in reports if report and is_running(report, file)]
    return [
        printable(f"{report.get('job')}{_row_of(report)} (process {report.get('process')} on {report.get('host')})")
        for report in running
        if report.get("state") == "running"
    ]


def _row_of(report: dict) -> str:
    return f", row {report['row']}" if "row" in report else ""

"""The progress of a job: a small JSON file below `results/progress`, which `status` reads.

The file is removed when the job is done. It is no output of a rule, and no result depends on it. A job continues if its
progress file cannot be written.

The file is written at most once a second, atomically but without a flush to the disk. Between two reports a thread
updates its date, so that `status` on another machine, which cannot see the process, can tell that the job is alive.
"""

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError, Superseded
from .logs import stop_if_superseded
from .unfinished_files import is_alive, process_namespace, remove_abandoned, unfinished_path

SECONDS_BETWEEN_WRITES = 1.0
SECONDS_BETWEEN_TOUCHES = 20.0
# A job of another machine, whose process cannot be seen from here, counts as interrupted after this time. It allows for
# clocks that differ by a minute or two.
STALE_SECONDS = 300

Details = Callable[[], dict]


class JobProgress:
    """The progress file of one job.

    Args:
        path: of the progress file.
        about: identifies the job, by `job`, `row` and `seed` for example; part of every report.
    """

    def __init__(self, path: Path, about: dict):
        self.path = path
        self._about = about | {
            "host": platform.node(),
            "namespace": process_namespace(),
            "process": os.getpid(),
            "started": time.time(),
        }
        self._phase: str | None = None
        self._phase_began, self._done_before = 0.0, 0.0
        self._last_write = -SECONDS_BETWEEN_WRITES
        self._ended = threading.Event()

    def begin(self) -> None:
        """Write the first report and start the thread that updates the file's date."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self.path.parent)
        self._write({"state": "running"})
        threading.Thread(target=self._keep_touching, daemon=True).start()

    def report(self, phase: str, done: float, total: float | None, details: Details = dict) -> None:
        """Report how much of a phase is done. Reports within a second of the last written one are left out.

        The first report of a phase and the one that completes it are always written.

        Args:
            phase: such as `download`, `features` or `training`.
            done: amount of work done, in any unit.
            total: amount of work of the phase, in the same unit; None if it is unknown.
            details: returns further entries of the file; called only if the report is written.
        """
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._phase_began, self._done_before = phase, now, done
            self._last_write = now - SECONDS_BETWEEN_WRITES
        whole = total is not None and done >= total
        if now - self._last_write < SECONDS_BETWEEN_WRITES and not whole:
            return
        self._last_write = now
        left = seconds_left(now - self._phase_began, done - self._done_before, total and total - done)
        self._write(
            {"state": "running", "phase": phase, "done": done, "total": total, "seconds_left": left} | details()
        )

    def fail(self, error: BaseException) -> None:
        """Report that the job has failed: with the message of an `InputError`, or the class of another exception."""
        self._ended.set()
        self._write({"state": "failed", "error": str(error) if isinstance(error, InputError) else type(error).__name__})

    def remove(self) -> None:
        """Remove the file of a job that is done."""
        self._ended.set()
        with suppress(OSError, Superseded):
            stop_if_superseded()
            self.path.unlink(missing_ok=True)

    def leave(self) -> None:
        """Stop writing, because the job has ended or another job owns the file."""
        self._ended.set()

    def _write(self, state: dict) -> None:
        partial = unfinished_path(self.path)
        try:
            stop_if_superseded()
            partial.write_text(json.dumps(self._about | state), encoding="utf-8")
            os.replace(partial, self.path)
        except (OSError, Superseded):
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _keep_touching(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_TOUCHES):
            with suppress(OSError, Superseded):
                stop_if_superseded()
                os.utime(self.path)


# A process runs one job.
_current: JobProgress | None = None


@contextmanager
def job_progress(path: Path, **about: str | int) -> Iterator[None]:
    """Keep a progress file while the block runs; `report` writes to it.

    The file is removed when the block ends. If an exception ends the block, the file remains and reports the failure.
    If a signal ends the process, the file remains unchanged.

    Args:
        path: of the progress file.
        about: as for `JobProgress`.
    """
    global _current
    _current = job = JobProgress(path, about)
    job.begin()
    try:
        yield
        job.remove()
    except (Superseded, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the panics of libraries in Rust are no `Exception`
        job.fail(error)
        raise
    finally:
        job.leave()
        _current = None


def report(phase: str, done: float, total: float | None, details: Details = dict) -> None:
    """As `JobProgress.report`, for the job of this process. Does nothing if the process has no progress file."""
    if _current is not None:
        _current.report(phase, done, total, details)


def seconds_left(elapsed: float, done: float, left: float | None) -> float | None:
    """Estimate the remaining time in seconds from the average speed so far.

    Args:
        elapsed: seconds that `done` took.
        done: amount of work done.
        left: amount of work that remains; None if it is unknown.

    Returns: seconds, rounded to tenths; 0 if nothing remains; None if nothing is done yet or `left` is unknown.
    """
    if left is None or done <= 0:
        return 0.0 if left == 0 else None
    return round(elapsed / done * left, 1)


def read_report(file: Path) -> dict | None:
    """The content of a progress file; None if it is missing or damaged."""
    with suppress(OSError, ValueError):
        report = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(report, dict) and report.get("state") in ("running", "failed"):
            return report
    return None


def is_running(report: dict, file: Path) -> bool:
    """Whether the job that wrote a report is still running."""
    if (
        report.get("namespace") == process_namespace()
        and isinstance(process := report.get("process"), int)
        and not is_alive(process)
    ):
        return False
    try:
        return time.time() - file.stat().st_mtime < STALE_SECONDS
    except OSError:
        return False

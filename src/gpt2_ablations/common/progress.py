"""How far a job is: a small file below `results/progress` that `status` reads, and that is gone when the job is done.

The file is for looking only: it is no output of a rule, nothing is computed from it, and one that cannot be written is
no reason to stop. It is written at most once a second, renamed into place and not flushed to the disk, and touched by a
thread of its own between two reports: whoever cannot ask for the process, on another machine, sees that it lives.
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
from .partials import partial_path, process_namespace, remove_abandoned

SECONDS_BETWEEN_WRITES = 1.0
SECONDS_BETWEEN_TOUCHES = 20.0

Figures = Callable[[], dict]


class JobProgress:
    """The progress file of one job.

    Args:
        about: what the job is, such as `job`, `row` and `seed`; part of every report.
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
        """Write the first report and begin to touch the file."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self.path.parent)
        self._write({"state": "running"})
        threading.Thread(target=self._keep_touching, daemon=True).start()

    def report(self, phase: str, done: float, total: float | None, figures: Figures = dict) -> None:
        """Tell how much of a phase is done; written unless that was done a moment ago.

        Args:
            figures: asked for what else to write, if it is written.
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
            {"state": "running", "phase": phase, "done": done, "total": total, "seconds_left": left} | figures()
        )

    def fail(self, error: Exception) -> None:
        """Leave word that the job has failed, and why as far as the user can fix it."""
        self._ended.set()
        self._write({"state": "failed", "error": str(error) if isinstance(error, InputError) else type(error).__name__})

    def remove(self) -> None:
        """Remove the file: the job is done, and its results say so."""
        self._ended.set()
        with suppress(OSError, Superseded):
            stop_if_superseded()
            self.path.unlink(missing_ok=True)

    def leave(self) -> None:
        """Write nothing more; the file is a newer job's."""
        self._ended.set()

    def _write(self, state: dict) -> None:
        partial = partial_path(self.path)
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


# A process does one job.
_current: JobProgress | None = None


@contextmanager
def job_progress(path: Path, **about: str | int) -> Iterator[None]:
    """Keep a progress file while the block runs; `report` writes to it.

    It is removed when the block ends, and tells of a failure if an exception ends it. After a signal it stays as it is:
    that its process is gone says enough.
    """
    global _current
    _current = job = JobProgress(path, about)
    job.begin()
    try:
        yield
        job.remove()
    except Superseded:
        raise
    except Exception as error:
        job.fail(error)
        raise
    finally:
        job.leave()
        _current = None


def report(phase: str, done: float, total: float | None, figures: Figures = dict) -> None:
    """As `JobProgress.report`, for the job of this process; nothing if it keeps no progress file."""
    if _current is not None:
        _current.report(phase, done, total, figures)


def seconds_left(elapsed: float, done: float, left: float | None) -> float | None:
    """Seconds that the rest takes at the pace so far; None while there is none.

    Args:
        elapsed: seconds in which `done` was done.
        left: what is still to be done.
    """
    if left is None or done <= 0:
        return 0.0 if left == 0 else None
    return round(elapsed / done * left, 1)

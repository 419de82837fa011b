"""A job's log: what it writes to standard error goes to a file, its last word also to the console.

The log also tells whose turn it is. Each job begins a new file under the log's name, so a job that outlived its run,
and whose place a newer one has taken, finds another file there and stops instead of writing its results.
"""

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from .errors import Superseded
from .partials import partial_path, remove_abandoned

_own_log: Path | None = None
_console: TextIO | None = None


class _Log(io.FileIO):
    """A full disk costs lines of the log, not the job."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def log_to(path: str | Path) -> TextIO:
    """Send standard error, that of C libraries too, to a new file of this name.

    Returns: the console that standard error was.
    """
    global _own_log, _console
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    _console = console = os.fdopen(os.dup(2), "w", buffering=1)
    # Renamed, not truncated: an older job goes on writing to the file that it has, and its number is not used again.
    partial = partial_path(path)
    log = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    os.replace(partial, path)
    sys.stderr.flush()
    os.dup2(log, 2)
    os.close(log)
    sys.stderr = io.TextIOWrapper(_Log(2, "w", closefd=False), errors="backslashreplace", write_through=True)
    _own_log = path.absolute()
    return console


def stop_if_superseded() -> None:
    """Stop a job whose place another one has taken.

    Raises:
        Superseded: the file under the log's name is another job's.
    """
    if _own_log is None:
        return
    with suppress(OSError):  # a log that was deleted says nothing
        if not os.path.samestat(os.stat(_own_log), os.fstat(2)):
            raise Superseded(f"{_own_log}: a newer job has taken this one's place; nothing of this one is kept")


def progress_stream() -> TextIO:
    """Where progress bars belong: to the console, also of a job whose standard error goes to its log."""
    return _console or sys.stderr

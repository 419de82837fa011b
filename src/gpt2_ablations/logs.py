"""A job's log: what it writes to standard error goes to a file, its last word also to the console."""

import os
import sys
from pathlib import Path
from typing import TextIO

_console: TextIO | None = None


def log_to(path: str | Path) -> TextIO:
    """Send standard error, that of C libraries too, to a file.

    Returns: the console that standard error was.
    """
    global _console
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    _console = console = os.fdopen(os.dup(2), "w", buffering=1)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    sys.stderr.flush()
    os.dup2(log, 2)
    os.close(log)
    return console


def progress_stream() -> TextIO:
    """Where progress bars belong: to the console, also of a job whose standard error goes to its log."""
    return _console or sys.stderr

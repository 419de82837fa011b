"""Messages, and a job's log: standard error goes to a file; the console remains for progress bars and the final line.

In a log, each message has a time and a level. What libraries print, also those in C, is there as they print it.

The log also shows which job owns the outputs. Each job creates a new file under the log's name. A job that is still
alive after its invocation was killed, and whose outputs a newer job now writes, finds another file under that name. It
then stops before it writes a result.
"""

import io
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from .errors import Superseded, without_secrets
from .unfinished_files import remove_abandoned, unfinished_path

logger = logging.getLogger("gpt2_ablations")


class _Formatter(logging.Formatter):
    """Messages without the passwords and tokens of addresses."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


class _Console(_Formatter):
    """Messages for a person: `error: MESSAGE`, `warning: MESSAGE`, or the message alone."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return level + super().format(record)


class _StandardError(logging.StreamHandler):
    """Writes to what is standard error at the time."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: object) -> None:
        pass


_handler = _StandardError()
_handler.setFormatter(_Console())
logger.addHandler(_handler)
logger.setLevel(logging.INFO)
logger.propagate = False
logging.raiseExceptions = False  # a closed terminal does not stop a job

_own_log: Path | None = None
_console: TextIO | None = None


class _Log(io.FileIO):
    """A log that cannot be written, on a full disk for example, loses lines but does not stop the job."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def log_to(path: str | Path) -> TextIO:
    """Redirect standard error, including that of C libraries, to a new file in UTF-8.

    Returns: the console, which was standard error before.
    """
    global _own_log, _console
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    encoding = getattr(sys.stderr, "encoding", None)
    _console = console = os.fdopen(os.dup(2), "w", buffering=1, encoding=encoding, errors="backslashreplace")
    # A new file, not a truncated one: an older job keeps its own file open, so the two have different inode numbers.
    partial = unfinished_path(path)
    log = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    os.replace(partial, path)
    sys.stderr.flush()
    os.dup2(log, 2)
    os.close(log)
    raw = _Log(2, "w", closefd=False)
    sys.stderr = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)
    _handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    _own_log = path.absolute()
    return console


def print_any_text() -> None:
    """Let the console show what its encoding lacks as an escape, such as `\\u2026`, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def stop_if_superseded() -> None:
    """Stop a job whose outputs another job owns now. Does nothing in a process without a log.

    Raises:
        Superseded: the file under the log's name is another job's.
    """
    if _own_log is None:
        return
    with suppress(OSError):  # the log was deleted
        if not os.path.samestat(os.stat(_own_log), os.fstat(2)):
            raise Superseded(f"{_own_log}: another job owns these outputs now; this job writes nothing")


def progress_stream() -> TextIO:
    """The stream for progress bars: the console, also for a job whose standard error is its log."""
    return _console or sys.stderr

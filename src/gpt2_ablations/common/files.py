"""Files appear under their final name only when they are whole, and only if the job that writes them is the newest."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError
from .logs import stop_if_superseded
from .partials import partial_path, remove_abandoned

FULL = (errno.ENOSPC, errno.EDQUOT)
_unfinished: set[Path] = set()


@contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it at the end, or removed if the block fails.

    Its name keeps two processes that write the same file apart.

    Raises:
        InputError: it cannot be written, or a newer job writes it by now.
    """
    path = Path(path)
    partial = partial_path(path)
    _unfinished.add(partial)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent)
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        stop_if_superseded()
        os.replace(partial, path)
    except OSError as error:
        # What is written has no name in its error, or the second one; a source that cannot be read has the first.
        written = {str(error.filename), str(error.filename2)} & {str(file) for file in (partial, *path.parents)}
        if error.filename is None or written or error.errno in FULL:
            raise cannot_be_written(path, error) from None
        raise
    finally:
        with suppress(OSError):  # of a read-only disk
            partial.unlink(missing_ok=True)
        _unfinished.discard(partial)


def write_text_whole(path: str | Path, text: str) -> None:
    """Write a text file so that it is never seen half written."""
    with write_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def existing_part(path: Path) -> Path:
    """A path itself if it exists, or the nearest folder above it that does."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def cannot_be_written(path: Path, error: OSError) -> InputError:
    """What to tell the user when a file cannot be written."""
    if error.errno in FULL:
        return InputError(f"{path}: cannot be written: the disk is full; free space, then run the same command again")
    reason = error.strerror or error
    return InputError(f"{path}: cannot be written ({reason}); make its folder writable, then run again")


def remove_unfinished() -> None:
    """Remove what this process has begun to write, before a signal ends it."""
    for partial in _unfinished:
        with suppress(OSError):
            partial.unlink(missing_ok=True)

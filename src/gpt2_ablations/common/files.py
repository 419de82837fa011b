"""Atomic writing: a file gets its final name when it is complete, and only from the newest job that writes it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError
from .logs import stop_if_superseded
from .unfinished_files import remove_abandoned, unfinished_path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# The unfinished files of this process.
_unfinished: set[Path] = set()


@contextmanager
def explained(name: str | Path, if_missing: str = "check the path") -> Iterator[None]:
    """Explain in one line why a user's text file cannot be read in the block.

    Args:
        name: of the file, for the error message.
        if_missing: what to do if the file does not exist.

    Raises:
        InputError: the file is missing, cannot be read or is not UTF-8.
    """
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{name}: no such file; {if_missing}") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


@contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    """Write a file atomically.

    Yields:
        A temporary path in the same folder, different for each process. It is renamed to `path` when the block ends,
        and removed if the block fails.

    Raises:
        InputError: the file cannot be written.
        Superseded: another job owns the file now.
    """
    path = Path(path)
    partial = unfinished_path(path)
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
        # The block may also read files. An error that names one of those is raised as it is.
        written = {str(error.filename), str(error.filename2)} & {str(file) for file in (partial, *path.parents)}
        if error.filename is None or written or error.errno in DISK_FULL:
            raise cannot_be_written(path, error) from None
        raise
    finally:
        with suppress(OSError):  # a read-only disk
            partial.unlink(missing_ok=True)
        _unfinished.discard(partial)


def write_text_whole(path: str | Path, text: str, private: bool = False) -> None:
    """Write a text file atomically, in UTF-8. Raises as `write_whole`.

    Args:
        private: only its owner may read it.
    """
    with write_whole(path) as partial:
        if private:
            partial.touch(mode=0o600)
        partial.write_text(text, encoding="utf-8", newline="\n")


def existing_part(path: Path) -> Path:
    """The path itself if it exists, or else the nearest parent folder that exists."""
    return next(candidate for candidate in (path, *path.absolute().parents) if candidate.exists())


def cannot_be_written(path: Path, error: OSError) -> InputError:
    """The error to raise for a file that cannot be written."""
    if error.errno in DISK_FULL:
        return InputError(f"{path}: cannot be written: the disk is full; free space, then run the same command again")
    reason = error.strerror or error
    return InputError(f"{path}: cannot be written ({reason}); make its folder writable, then run again")


def remove_unfinished() -> None:
    """Remove the unfinished files of this process, before a signal ends it."""
    for partial in _unfinished:
        with suppress(OSError):
            partial.unlink(missing_ok=True)

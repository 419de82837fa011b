"""One run of the workflow at a time in a results folder, and what is said to another one."""

import contextlib
import fcntl
import os
import platform
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from ..common.errors import InputError
from ..common.files import cannot_be_written

LOCK_FILE = ".run.lock"
SNAKEMAKE_LOCKS = Path(".snakemake", "locks")


def hold_results(folder: Path) -> int:
    """Keep other runs out of a results folder until this process ends, however it ends.

    Snakemake's own lock is about files that two runs share; a run with other settings would change this one's too.

    Returns: the open lock file (whoever closes it lets others in).

    Raises:
        InputError: another run works there, or the folder cannot be written.
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
                holder = os.read(lock, 200).decode(errors="replace") or "another process"
                os.close(lock)
                raise InputError(f"{folder}: another run works there ({holder}); wait for it, or stop it") from None
            time.sleep(0.1)  # it may be another one's look, in `holder_of`
        except OSError:  # a disk without locks
            return lock
    with contextlib.suppress(OSError):  # a full disk: only the message is poorer
        os.ftruncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {platform.node()}".encode())
    return lock


def holder_of(folder: Path) -> str | None:
    """The run that holds a results folder, `process 123 on HOST`; None if there is none."""
    with contextlib.suppress(OSError), open(folder / LOCK_FILE, encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read(200) or "another process"
    return None


def was_killed_in(folder: Path) -> bool:
    """Whether Snakemake still holds files of a results folder for a run that has died, if none works there now."""
    for file in SNAKEMAKE_LOCKS.glob("*.output.lock"):
        with contextlib.suppress(OSError):
            held = file.read_text(encoding="utf-8", errors="replace").splitlines()
            if any(Path(path).is_relative_to(folder) for path in held):
                return True
    return False


def how_to_resume(configfiles: Sequence[str]) -> str:
    """What to do after a run was killed; Snakemake itself refuses to go on, and with `--quiet` does not even say so.

    Args:
        configfiles: as Snakemake lists them, the Snakefile's own one last.
    """
    given = " ".join(os.path.relpath(file) for file in configfiles[:-1])
    make = f"make resume{f' CONFIG={shlex.quote(given)}' if given else ''}"
    return f"an earlier run was killed; go on with `{make}`, or with this command and --unlock, then this command"

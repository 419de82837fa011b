"""Unfinished files, `.NAME.NAMESPACE.PID.part`: their names, and the removal of those that no process will finish."""

import functools
import hashlib
import os
import platform
import re
import time
from contextlib import suppress
from pathlib import Path

UNFINISHED = re.compile(r"\..+\.(?P<namespace>[0-9a-f]{12})\.(?P<process>\d+)\.part")
# Where a process cannot be asked for, on another machine, a file that nobody has touched for so long is given up.
GIVEN_UP_AFTER = 7 * 24 * 3600  # seconds


def partial_path(path: Path) -> Path:
    """The name under which this process writes `path`, in the same folder."""
    return path.with_name(f".{path.name}.{process_namespace()}.{os.getpid()}.part")


def remove_abandoned(folder: Path) -> None:
    """Remove the unfinished files in a folder whose process is dead; what cannot be removed stays."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = UNFINISHED.fullmatch(entry.name)
            if match and _is_abandoned(entry, match["namespace"], int(match["process"])):
                os.unlink(entry)


def _is_abandoned(entry: os.DirEntry, namespace: str, process: int) -> bool:
    if namespace == process_namespace():
        return not is_alive(process)
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > GIVEN_UP_AFTER


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


@functools.cache
def process_namespace() -> str:
    """Names the place in which this process's id means this process: a machine, since its start, and a container."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

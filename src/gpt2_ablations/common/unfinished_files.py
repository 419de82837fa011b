"""Names of unfinished files, `.NAME.NAMESPACE.PID.part`, and the removal of abandoned ones.

A process writes a file under such a name and renames it when it is complete. NAMESPACE and PID identify the process, so
that another process can tell whether the file is still being written.
"""

import functools
import hashlib
import os
import platform
import re
import time
from contextlib import suppress
from pathlib import Path

UNFINISHED = re.compile(r"\..+\.(?P<namespace>[0-9a-f]{12})\.(?P<process>\d+)\.part")
# Whether a process of another machine runs cannot be checked. Its file is abandoned if it has not changed for so long.
ABANDONED_AFTER = 7 * 24 * 3600  # seconds


def unfinished_path(path: Path) -> Path:
    """The name, in the same folder, under which this process writes `path` until it is complete."""
    return path.with_name(f".{path.name}.{process_namespace()}.{os.getpid()}.part")


def remove_abandoned(folder: Path) -> None:
    """Remove the unfinished files in a folder whose process no longer runs. A file that cannot be removed is kept."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = UNFINISHED.fullmatch(entry.name)
            if match and _is_abandoned(entry, match["namespace"], int(match["process"])):
                os.unlink(entry)


def _is_abandoned(entry: os.DirEntry, namespace: str, process: int) -> bool:
    if namespace == process_namespace():
        return not is_alive(process)
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED_AFTER


def is_alive(process: int) -> bool:
    """Whether a process with this id runs in this process namespace."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


@functools.cache
def process_namespace() -> str:
    """Identifies the system in which process ids are unique: this machine, since its last start, and this container.

    Returns: 12 hexadecimal digits.
    """
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

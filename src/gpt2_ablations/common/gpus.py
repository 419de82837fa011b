"""One job a GPU: which GPUs this machine shows, and which one a job gets. Nothing here imports torch.

A GPU is taken by a lock on a file that the operating system drops when the job ends, however it ends. The files lie in
one folder a user and machine, so that the jobs of all Snakemake runs share the GPUs.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import InputError

LOCK_FOLDER = "GPT2_ABLATIONS_LOCKS"
SHARE_GPUS = "GPT2_ABLATIONS_SHARE_GPUS"
PAUSE_SECONDS = 2.0
# Between two looks at the lock of a GPU that another job holds.
LOOK_SECONDS = 0.05
# CUDA itself takes some 500 MiB of a GPU for each process. A GPU of this memory has room for jobs that wait, too.
ROOMY_MB = 40_000


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a slice of one (MIG): nvidia-smi's number of the GPU, and its own UUID.

    slice_gb: a slice's memory in GB, as its profile's name says it.
    """

    index: int
    uuid: str
    slice_gb: int | None = None

    @property
    def is_slice(self) -> bool:
        return self.uuid.startswith("MIG-")

    @property
    def name(self) -> str:
        return f"GPU {self.index}" + (f", slice {self.uuid}" if self.is_slice else "")


def visible_gpus() -> list[Gpu]:
    """The GPUs a job may take: all, or those that CUDA_VISIBLE_DEVICES names by number, UUID or start of a UUID.

    Numbers are nvidia-smi's. As for CUDA, the first entry that names no GPU ends the list. A GPU that is cut into
    slices is its slices, except where it is named itself: then it is its first slice.
    """
    if not shutil.which("nvidia-smi"):
        return []
    gpus = _parse_list(_nvidia_smi("-L"))
    slices: dict[int, list[Gpu]] = {}
    for gpu in gpus:
        if gpu.is_slice:
            slices.setdefault(gpu.index, []).append(gpu)
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return [gpu for gpu in gpus if gpu.is_slice or gpu.index not in slices]
    found: list[Gpu] = []
    for entry in map(str.strip, chosen.split(",")):
        named = [gpu for gpu in gpus if _names(entry, gpu)]
        if len(named) != 1:
            break
        (gpu,) = named
        found.append(gpu if gpu.is_slice else slices.get(gpu.index, [gpu])[0])
    return list(dict.fromkeys(found))


def _names(entry: str, gpu: Gpu) -> bool:
    if entry.isdecimal():
        return int(entry) == gpu.index and not gpu.is_slice
    return entry.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(entry)


def _parse_list(listed: str) -> list[Gpu]:
    """The GPUs and slices of `nvidia-smi -L`: `GPU 0: NAME (UUID: GPU-…)`, `  MIG 1g.5gb Device 0: (UUID: MIG-…)`."""
    gpus, index = [], 0
    for line in listed.splitlines():
        if number := re.match(r"GPU (\d+):", line):
            index = int(number[1])
        if uuid := re.search(r"\(UUID: ((?:GPU|MIG)-[^)]+)\)", line):
            profile = re.search(r"MIG \S*\.(\d+)gb", line)
            gpus.append(Gpu(index, uuid[1], int(profile[1]) if profile else None))
    return gpus


def _nvidia_smi(*arguments: str) -> str:
    """What nvidia-smi prints; nothing where there is no driver."""
    done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def users() -> dict[str, list[str]]:
    """Who else computes on each GPU, by its UUID: `NAME (process PID)`. Slices do not say; they have nobody here.

    This user's own jobs are not among them: they take turns by the locks, and may be seen before and after theirs.
    """
    found: dict[str, list[str]] = {}
    listed = _nvidia_smi("--query-compute-apps=gpu_uuid,pid,process_name", "--format=csv,noheader")
    for line in csv.reader(listed.splitlines(), skipinitialspace=True):
        if len(line) == 3 and not _is_job(line[1]):
            found.setdefault(line[0], []).append(f"{line[2]} (process {line[1]})")
    return found


def _is_job(pid: str) -> bool:
    """Whether a process is a command of this program that this user started, as far as this system says."""
    process = Path("/proc") / pid
    try:
        return process.stat().st_uid == os.getuid() and b"gpt2_ablations" in (process / "cmdline").read_bytes()
    except OSError:
        return False


def lock_folder() -> Path:
    """Where the lock files lie; made if need be, for this user alone.

    Raises:
        InputError: the folder belongs to someone else or cannot be made.
    """
    folder = Path(os.environ.get(LOCK_FOLDER) or f"/tmp/gpt2-ablations-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise InputError(f"{folder}: cannot hold lock files ({error.strerror}); {LOCK_FOLDER} names a folder") from None
    if owner != os.getuid():
        raise InputError(f"{folder}: belongs to another user; {LOCK_FOLDER} names a folder of your own for lock files")
    return folder


@dataclass(frozen=True)
class Hold:
    """A GPU that this process holds. room: whether it is the only one, and others may hold memory there, too."""

    gpu: Gpu
    lock: FileLock
    room: bool


# A lock file object that is collected lets go.
_held: list[Hold] = []
# GPUs on which this process has computed: nvidia-smi may go on showing it there.
_used: set[str] = set()


def take_gpu(
    say: Callable[[str], None] | None = None,
    pause: float = PAUSE_SECONDS,
    start_up: Callable[[], None] = lambda: None,
) -> Gpu | None:
    """Wait for a GPU that no other job holds, take it until `release_gpu`, and let CUDA see it alone.

    A GPU on which others compute is passed over, unless CUDA_VISIBLE_DEVICES names that one GPU or
    GPT2_ABLATIONS_SHARE_GPUS is set. It must be called before anything else touches CUDA. Later calls in the same
    process give the same GPU.

    Args:
        say: told what the job waits for, when that changes; default: standard error.
        pause: seconds between two looks at who else computes on a GPU.
        start_up: starts CUDA; called while another job holds the only GPU, if that has room for both.

    Returns: the GPU; None if this machine shows none.
    """
    say = say or (lambda text: print(text, file=sys.stderr, flush=True))
    gpus = visible_gpus()
    if not gpus:
        return None
    if _held:
        return _held[-1].gpu
    told = len(gpus) == 1 and os.environ.get("CUDA_VISIBLE_DEVICES")
    shared = bool(told or os.environ.get(SHARE_GPUS))
    room = len(gpus) == 1 and min(_memory_mb(gpus), default=0) >= ROOMY_MB
    folder, said = lock_folder(), None
    while True:
        taken, waits_for, held_by_jobs = _try(gpus, folder, shared)
        if taken is not None:
            _held.append(Hold(*taken, room))
            _used.add(taken[0].uuid)
            os.environ["CUDA_VISIBLE_DEVICES"] = taken[0].uuid
            return taken[0]
        if waits_for != said:
            say(f"waiting for a GPU: {waits_for}")
            said = waits_for
        if held_by_jobs and room and gpus[0].uuid not in _used:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus[0].uuid
            start_up()
            # From here on nobody is asked for: it would be this process. A job holds the GPU: it is these jobs' own.
            _used.add(gpus[0].uuid)
        time.sleep(LOOK_SECONDS if held_by_jobs else pause)


def _try(gpus: list[Gpu], folder: Path, shared: bool) -> tuple[tuple[Gpu, FileLock] | None, str, bool]:
    """The first GPU that is free, and its lock; or none, what stands in the way, and whether that is jobs alone."""
    in_the_way, elsewhere, held_by_jobs = [], None, True
    for gpu in gpus:
        lock = FileLock(folder / f"{gpu.uuid}.lock", is_singleton=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            in_the_way.append(f"{gpu.name} is held by another job")
            continue
        if not shared and gpu.uuid not in _used:
            # Asked after the lock is held: who computes there now is no job of this program's, or a dying one.
            elsewhere = users() if elsewhere is None else elsewhere
            if others := elsewhere.get(gpu.uuid):
                lock.release()
                held_by_jobs = False
                in_the_way.append(f"{gpu.name} is used by {', '.join(others)}; {SHARE_GPUS}=1 shares it")
                continue
        return (gpu, lock), "", False
    return None, "; ".join(in_the_way), held_by_jobs


def release_gpu() -> None:
    """Let the next job have the GPU. It stays this process's until it ends if there are several, or without room."""
    if _held and _held[-1].room:
        _held.pop().lock.release()


def memory_mb() -> list[int]:
    """The memory in MiB of each GPU that a job may take; a slice's as its profile's name says it."""
    return _memory_mb(visible_gpus())


def _memory_mb(gpus: list[Gpu]) -> list[int]:
    listed = _nvidia_smi("--query-gpu=index,memory.total", "--format=csv,noheader,nounits") if gpus else ""
    lines = csv.reader(listed.splitlines(), skipinitialspace=True)
    whole = {int(line[0]): int(line[1]) for line in lines if len(line) == 2 and line[1].isdecimal()}
    sizes = [gpu.slice_gb * 10**9 // 2**20 if gpu.slice_gb else whole.get(gpu.index) for gpu in gpus]
    return [size for size in sizes if size is not None]

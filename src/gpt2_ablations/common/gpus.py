"""Which GPUs this machine has, and which one a job gets: one job per GPU. Nothing here imports torch.

A job takes a GPU by locking a file, and the operating system releases the lock when the job ends for any reason. The
lock files are in one folder for each user and machine, so that all invocations of a user share the GPUs.

Sizes are in MiB.
"""

import csv
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import InputError
from .logs import logger

# The kernel's description of AMD's GPUs, and the devices by which programs use them.
KFD_NODES, RENDER_DEVICES = Path("/sys/class/kfd/kfd/topology/nodes"), Path("/dev/dri")

# Names of environment variables.
LOCK_FOLDER_VARIABLE = "GPT2_ABLATIONS_LOCKS"
SHARE_GPUS_VARIABLE = "GPT2_ABLATIONS_SHARE_GPUS"
FORMER_SHARE_GPUS_VARIABLE = "GPT2_ABLATIONS_SHARE_CARDS"

# Seconds between two checks whether other programs still use the GPUs.
PROCESS_POLL_SECONDS = 2.0
# Seconds between two checks whether another job still holds a GPU.
LOCK_POLL_SECONDS = 0.05
# CUDA takes about 500 MiB of a GPU for each process. A GPU of this size has room for waiting jobs, too.
LARGE_GPU_MB = 40_000


def check_environment() -> None:
    """Refuse the former name of a variable, which would otherwise be ignored.

    Raises:
        InputError: GPT2_ABLATIONS_SHARE_CARDS is set.
    """
    if FORMER_SHARE_GPUS_VARIABLE in os.environ:
        raise InputError(
            f"environment: {FORMER_SHARE_GPUS_VARIABLE} is now called {SHARE_GPUS_VARIABLE};"
            f" unset {FORMER_SHARE_GPUS_VARIABLE}, and set {SHARE_GPUS_VARIABLE}=1 to share GPUs with other programs"
        )


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a slice of one (MIG).

    Attributes:
        index: nvidia-smi's number of the GPU.
        uuid: of the GPU, or of the slice.
        slice_gb: the memory of a slice in GB, from the name of its profile; None for a whole GPU.
        hip_index: HIP's number of a GPU of AMD; None for NVIDIA's.
    """

    index: int
    uuid: str
    slice_gb: int | None = None
    hip_index: int | None = None

    @property
    def is_slice(self) -> bool:
        return self.uuid.startswith("MIG-")

    @property
    def name(self) -> str:
        return f"GPU {self.index}" + (f", slice {self.uuid}" if self.is_slice else "")

    def make_visible(self) -> None:
        """Let this process and those that it starts see this GPU alone."""
        if self.hip_index is None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.uuid
        else:
            os.environ["HIP_VISIBLE_DEVICES"] = str(self.hip_index)


@cache
def torch_backend() -> str | None:
    """The GPUs for which the installed torch is built: `cuda` (NVIDIA's), `hip` (AMD's), or None.

    torch's package says so in a file. Importing torch takes seconds.
    """
    spec = find_spec("torch")
    return backend_in(Path(spec.origin).with_name("version.py")) if spec and spec.origin else None


def backend_in(version_file: Path) -> str | None:
    """As `torch_backend`, from the file version.py of torch's package."""
    try:
        found = re.search(r"^(cuda|hip)\b[^=\n]*= *['\"]", version_file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    except OSError:
        return None
    return found[1] if found else None


def usable_gpus() -> list[Gpu]:
    """The GPUs that a job may take and that the installed torch can use."""
    return visible_gpus() if torch_backend() else []


def visible_gpus() -> list[Gpu]:
    """The GPUs that a job may take: all of them, or those that CUDA_VISIBLE_DEVICES names.

    The variable lists numbers, as nvidia-smi shows them, and UUIDs or the first characters of UUIDs. As in CUDA, the
    first entry that names no GPU ends the list. A GPU with slices stands for all its slices if CUDA_VISIBLE_DEVICES is
    not set, and for its first slice if CUDA_VISIBLE_DEVICES names the GPU. With a torch for GPUs of AMD, see
    `_amd_gpus`.
    """
    if torch_backend() == "hip":
        return _amd_gpus()
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


def _amd_gpus() -> list[Gpu]:
    """The GPUs of AMD that this process may use, of those that HIP_VISIBLE_DEVICES or CUDA_VISIBLE_DEVICES numbers.

    ROCR_VISIBLE_DEVICES, which SLURM sets, numbers all GPUs, and the other two those that it leaves.
    """
    found: list[Gpu] = []
    for node in sorted(KFD_NODES.glob("[0-9]*"), key=lambda node: int(node.name)):
        with suppress(OSError, ValueError):  # a GPU of another container
            properties = dict(line.split() for line in (node / "properties").read_text().splitlines())
            device = RENDER_DEVICES / f"renderD{properties.get('drm_render_minor')}"
            if int(properties.get("simd_count", 0)) and os.access(device, os.R_OK | os.W_OK):
                found.append(Gpu(len(found), f"AMD-{properties.get('unique_id', node.name)}"))
    found = _numbered(found, os.environ.get("ROCR_VISIBLE_DEVICES"))
    found = [replace(gpu, hip_index=number) for number, gpu in enumerate(found)]
    return _numbered(found, os.environ.get("HIP_VISIBLE_DEVICES") or os.environ.get("CUDA_VISIBLE_DEVICES"))


def _numbered(gpus: list[Gpu], numbers: str | None) -> list[Gpu]:
    """The GPUs with these numbers, separated by commas; all if it is None. An entry that is no number is skipped."""
    if numbers is None:
        return gpus
    entries = [int(entry) for entry in map(str.strip, numbers.split(",")) if entry.isdecimal()]
    return [gpus[entry] for entry in dict.fromkeys(entries) if entry < len(gpus)]


def _names(entry: str, gpu: Gpu) -> bool:
    if entry.isdecimal():
        return int(entry) == gpu.index and not gpu.is_slice
    return entry.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(entry)


def _parse_list(listing: str) -> list[Gpu]:
    """The GPUs and slices of `nvidia-smi -L`: `GPU 0: NAME (UUID: GPU-…)`, `  MIG 1g.5gb Device 0: (UUID: MIG-…)`."""
    gpus, index = [], 0
    for line in listing.splitlines():
        if number := re.match(r"GPU (\d+):", line):
            index = int(number[1])
        if uuid := re.search(r"\(UUID: ((?:GPU|MIG)-[^)]+)\)", line):
            profile = re.search(r"MIG \S*\.(\d+)gb", line)
            gpus.append(Gpu(index, uuid[1], int(profile[1]) if profile else None))
    return gpus


def gpu_memory_mb() -> list[int]:
    """The memory in MiB of each GPU that a job may take. GPUs whose memory nvidia-smi does not report are left out."""
    return _memory_mb(visible_gpus())


def _memory_mb(gpus: list[Gpu]) -> list[int]:
    listing = _nvidia_smi("--query-gpu=index,memory.total", "--format=csv,noheader,nounits") if gpus else ""
    lines = csv.reader(listing.splitlines(), skipinitialspace=True)
    whole = {int(line[0]): int(line[1]) for line in lines if len(line) == 2 and line[1].isdecimal()}
    sizes = [gpu.slice_gb * 10**9 // 2**20 if gpu.slice_gb else whole.get(gpu.index) for gpu in gpus]
    return [size for size in sizes if size is not None]


def other_processes() -> dict[str, list[str]]:
    """Processes of other programs and other users that compute on GPUs.

    This user's jobs are left out: they take turns by the locks, and nvidia-smi may list one before it takes a GPU and
    after it releases it. nvidia-smi does not list processes by slice, so a slice has none.

    Returns: `NAME (process PID)` of each process, by the UUID of its GPU.
    """
    found: dict[str, list[str]] = {}
    listing = _nvidia_smi("--query-compute-apps=gpu_uuid,pid,process_name", "--format=csv,noheader")
    for line in csv.reader(listing.splitlines(), skipinitialspace=True):
        if len(line) == 3 and not _is_own_job(line[1]):
            found.setdefault(line[0], []).append(f"{line[2]} (process {line[1]})")
    return found


def _is_own_job(pid: str) -> bool:
    """Whether /proc shows that a process is a command of this program that this user started."""
    process = Path("/proc") / pid
    try:
        command = (process / "cmdline").read_bytes().replace(b"gpt2-ablations", b"gpt2_ablations")
        return process.stat().st_uid == os.getuid() and b"gpt2_ablations" in command
    except OSError:
        return False


def _nvidia_smi(*arguments: str) -> str:
    """The output of nvidia-smi; empty if there is none or it fails, for example without a driver."""
    if not shutil.which("nvidia-smi"):
        return ""
    done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def lock_folder() -> Path:
    """The folder of the lock files. It is created if it does not exist, readable by this user alone.

    Raises:
        InputError: the folder belongs to another user or cannot be created.
    """
    folder = Path(os.environ.get(LOCK_FOLDER_VARIABLE) or f"/tmp/gpt2-ablations-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be used for lock files ({error.strerror}); set {LOCK_FOLDER_VARIABLE} to another folder"
        ) from None
    if owner != os.getuid():
        raise InputError(
            f"{folder}: belongs to another user; set {LOCK_FOLDER_VARIABLE} to a folder of your own for lock files"
        )
    return folder


@dataclass(frozen=True)
class HeldGpu:
    """A GPU that this process holds.

    Attributes:
        gpu: the GPU.
        lock: its lock. The lock is released when this object is garbage collected.
        has_room: whether it is the only GPU and large enough for waiting jobs to start CUDA on it.
    """

    gpu: Gpu
    lock: FileLock
    has_room: bool


_held: list[HeldGpu] = []
# UUIDs of the GPUs on which this process has used CUDA: nvidia-smi may list this process there.
_used: set[str] = set()


def take_gpu(
    say: Callable[[str], None] | None = None,
    pause: float = PROCESS_POLL_SECONDS,
    start_cuda: Callable[[], None] = lambda: None,
) -> Gpu | None:
    """Wait for a GPU that no other job holds, take it until `release_gpu`, and set CUDA_VISIBLE_DEVICES to it alone.

    GPUs on which other programs compute are not taken, unless CUDA_VISIBLE_DEVICES names one GPU alone or
    GPT2_ABLATIONS_SHARE_GPUS is set. Call this before anything else uses CUDA. Later calls in the same process return
    the same GPU.

    Args:
        say: called with what the job waits for, when that changes; default: log it.
        pause: seconds between two checks whether other programs still use the GPUs.
        start_cuda: called while another job holds the only GPU, if that has room for both, so that CUDA has started
            when the GPU becomes free.

    Returns: the GPU; None if this machine has none.

    Raises:
        InputError: as `lock_folder`.
    """
    say = say or logger.info
    gpus = visible_gpus()
    if not gpus:
        return None
    if _held:
        return _held[-1].gpu
    named_alone = len(gpus) == 1 and os.environ.get("CUDA_VISIBLE_DEVICES")
    share = bool(named_alone or os.environ.get(SHARE_GPUS_VARIABLE))
    has_room = len(gpus) == 1 and min(_memory_mb(gpus), default=0) >= LARGE_GPU_MB
    folder, said = lock_folder(), None
    while True:
        taken, waits_for, held_by_jobs = _try_to_lock(gpus, folder, share)
        if taken is not None:
            _held.append(HeldGpu(*taken, has_room))
            _used.add(taken[0].uuid)
            taken[0].make_visible()
            return taken[0]
        if waits_for != said:
            say(f"waiting for a GPU: {waits_for}")
            said = waits_for
        if held_by_jobs and has_room and gpus[0].uuid not in _used:
            gpus[0].make_visible()
            start_cuda()
            # nvidia-smi may list this process from now on, so other processes are no longer looked for.
            _used.add(gpus[0].uuid)
        time.sleep(LOCK_POLL_SECONDS if held_by_jobs else pause)


def _try_to_lock(gpus: list[Gpu], folder: Path, share: bool) -> tuple[tuple[Gpu, FileLock] | None, str, bool]:
    """Lock the first free GPU.

    Returns:
        The GPU and its lock, or None.
        If None, what the job waits for.
        If None, whether the GPUs are held by jobs alone.
    """
    reasons, elsewhere, held_by_jobs = [], None, True
    for gpu in gpus:
        lock = FileLock(folder / f"{gpu.uuid}.lock", is_singleton=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            reasons.append(f"{gpu.name} is held by another job")
            continue
        if not share and gpu.uuid not in _used:
            # With the lock held, no other job computes there, except one that is just ending.
            elsewhere = other_processes() if elsewhere is None else elsewhere
            if others := elsewhere.get(gpu.uuid):
                lock.release()
                held_by_jobs = False
                reasons.append(f"{gpu.name} is used by {', '.join(others)}; {SHARE_GPUS_VARIABLE}=1 shares it")
                continue
        return (gpu, lock), "", False
    return None, "; ".join(reasons), held_by_jobs


def release_gpu() -> None:
    """Let the next job take the GPU, if it has room for both. Otherwise this process holds it until it ends."""
    if _held and _held[-1].has_room:
        _held.pop().lock.release()

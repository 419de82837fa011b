"""The resources that a job asks for: memory, time, threads and disk, from its cost. Nothing here imports torch.

Memory is that of the job's data (costs.py) times MARGIN, for what the allocator takes beyond the sum, and that of
Python, torch and its buffers. tests/benchmarks/RESOURCES.md compares the result with measured peaks. Time is the FLOPs
and bytes over the rates of an old machine, times TIME_MARGIN, so that a job rarely reaches its time limit. SLURM reads
`mem_mb` as MiB, and so is everything here.
"""

import math
from dataclasses import dataclass

from ..settings.models import ModelConfig
from .costs import MIB, Cost

# Measured after the imports and an optimizer step: 330 to 370 MiB, depending on the processor's libraries.
HOST_MB = 450
# CUDA's libraries and a context: assumed, not measured.
CUDA_HOST_MB = 3072
# On a cluster each job is a Snakemake process that runs the command. It takes 130 MiB of the job's memory.
SNAKEMAKE_MB = 160
# A context and the libraries' workspaces on a GPU: assumed, not measured.
CUDA_DEVICE_MB = 1024
MARGIN = 1.15
# For rules that compute next to nothing.
LIGHT_MB = 1000
LIGHT_MINUTES = 30

# More threads make one job no faster. A model of less width than this keeps at most one core busy.
MOST_THREADS = 16
SINGLE_THREAD_WIDTH = 256
# With a GPU, a job's processor only feeds it.
GPU_THREADS = 4
# Jobs that start up and load while others compute, and cores for each job. Python, PyTorch and CUDA take some five
# seconds to start; one block trains in less than two on a fast GPU.
MOST_WAITING, CORES_PER_JOB = 7, 2

# float32 FLOP/s of one old core and of a small GPU, and bytes/s of their memory.
CORE_FLOPS_PER_SECOND, GPU_FLOPS_PER_SECOND = 30e9, 4e12
HOST_BYTES_PER_SECOND, GPU_BYTES_PER_SECOND = 5e9, 100e9
LEAST_MINUTES = 15
TIME_MARGIN = 2


@dataclass(frozen=True)
class Resources:
    """What one job needs.

    Attributes:
        host_mb: peak resident memory in MiB, mapped pages included.
        device_mb: peak memory of a GPU in MiB, if it computes on one.
        minutes: of wall time.
        disk_mb: of its files in MiB.
    """

    host_mb: int
    device_mb: int
    minutes: int
    disk_mb: int

    def mem_mb(self, attempt: int) -> int:
        """Host memory in MiB for an attempt (from 1): each retry doubles it."""
        return self.host_mb * 2 ** (attempt - 1)

    def runtime(self, attempt: int) -> int:
        """Minutes for an attempt (from 1): each retry doubles them."""
        return self.minutes * 2 ** (attempt - 1)


def job_resources(cost: Cost, gpu: bool, threads: int, on_cluster: bool = False) -> Resources:
    """The resources of a job.

    Args:
        gpu: whether it computes on a GPU.
        threads: of a job that computes on the processor.
        on_cluster: whether Snakemake runs in the job, too.
    """
    memory = cost.memory
    host = HOST_MB + (CUDA_HOST_MB + MARGIN * memory.beside_gpu if gpu else MARGIN * memory.on_cpu)
    if gpu:
        seconds = cost.flops / GPU_FLOPS_PER_SECOND + cost.bytes_moved / GPU_BYTES_PER_SECOND
    else:
        seconds = cost.flops / (CORE_FLOPS_PER_SECOND * threads) + cost.bytes_moved / HOST_BYTES_PER_SECOND
    return Resources(
        host_mb=math.ceil(host) + SNAKEMAKE_MB * on_cluster,
        device_mb=math.ceil(CUDA_DEVICE_MB + MARGIN * memory.on_gpu),
        minutes=LEAST_MINUTES + math.ceil(TIME_MARGIN * seconds / 60),
        disk_mb=math.ceil(cost.bytes_on_disk / MIB) + 1,
    )


def job_threads(model: ModelConfig, gpu: bool, cores: int | None = None, gpus: int = 1) -> int:
    """Threads of a job on this model.

    Args:
        gpu: whether it runs on a GPU.
        cores, gpus: of this machine, which the jobs of `jobs_at_once` share. cores is None on a cluster.
    """
    if model.n_embd < SINGLE_THREAD_WIDTH:
        return 1
    if not gpu:
        return min(MOST_THREADS, cores or MOST_THREADS)
    return GPU_THREADS if cores is None else max(1, min(GPU_THREADS, cores // jobs_at_once(gpus, cores)))


def jobs_at_once(gpus: int, cores: int) -> int:
    """How many jobs share this machine's GPUs: one computes on each GPU, and at least one starts up meanwhile."""
    return gpus + max(1, min(MOST_WAITING, cores // CORES_PER_JOB - gpus))


def features_at_once(gpus: int, cores: int) -> int:
    """How many of these may extract features. Writing them may take minutes, in which other jobs use the GPUs."""
    return max(gpus, jobs_at_once(gpus, cores) - gpus - 1)

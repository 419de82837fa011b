"""The torch device of a job: its choice, threads and precision, memory and name."""

import contextlib
import ctypes
import gc
import os
import platform

import torch

from .errors import InputError
from .gpus import release_gpu, take_gpu, usable_gpus
from .hardware import processor_name, short_device_name
from .logs import logger

# Of mallopt, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def take_device(name: str) -> torch.device:
    """Select a device as `select_device` does. For CUDA, wait for a GPU that no other job holds, and take it.

    Args:
        name: `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        InputError: this machine does not have the device.
    """
    # CUDA reads CUDA_VISIBLE_DEVICES when it is first used. The GPU is therefore taken before that.
    if name == "cuda" or (name == "auto" and usable_gpus()):
        take_gpu(start_cuda=_start_cuda)
    return select_device(name)


def _start_cuda() -> None:
    """Start CUDA and cuBLAS, which takes as long as a small training run."""
    if torch.cuda.is_available():
        x = torch.ones(16, 16, device="cuda")
        torch.mm(x, x)
        torch.cuda.synchronize()


def release_device(device: torch.device) -> None:
    """Release the GPU for the next job while this one continues without it. No tensor may be left on it."""
    if device.type == "cuda":
        # A recorded update and its training loop refer to each other.
        gc.collect()
        torch.cuda.empty_cache()
        release_gpu()


def select_device(name: str) -> torch.device:
    """The torch device of a configured name. `auto` is cuda or else cpu; `mps` is taken by name only.

    Args:
        name: `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        InputError: this machine does not have the device.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = "cuda" if available["cuda"] else "cpu"
    if not available[name]:
        found = ", ".join(device for device, there in available.items() if there)
        raise InputError(f"device is '{name}', which this machine does not have; allowed here: auto, {found}")
    if name == "mps":
        logger.warning("results on mps have not been compared with those of the reference")
    return torch.device(name)


def set_up_torch(precision: str) -> None:
    """Set the number of threads, the precision of float32 matrix products, and how memory is reused.

    The number of threads is OMP_NUM_THREADS, which Snakemake sets to a rule's threads.

    Args:
        precision: `float32`, `tf32` or `bfloat16`.
    """
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    # cuDNN attention takes half a second to plan each new shape, and texts have many lengths.
    torch.backends.cuda.enable_cudnn_sdp(False)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let glibc keep and reuse freed buffers.

    Every step allocates the same activations and gradients. New pages would be zeroed by the system each time, which
    takes a tenth of a step.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """A context in which matrix products run in bfloat16 if that is the precision, and an empty one otherwise."""
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work, so that a time measured next is correct."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_device_memory_mb(device: torch.device) -> float | None:
    """The peak memory in MiB that torch has allocated on a CUDA device; None on other devices."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None


def device_name(device: torch.device) -> str:
    """The short name of a device for the table."""
    return short_device_name(torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name())

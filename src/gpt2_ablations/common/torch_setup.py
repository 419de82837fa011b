"""The machine a job runs on: its device, precision, memory and name."""

import contextlib
import ctypes
import gc
import os
import platform
import sys

import torch

from .errors import InputError
from .gpus import release_gpu, take_gpu, visible_gpus
from .hardware import processor_name, short_device_name

# The parameters' numbers in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def take_device(name: str) -> torch.device:
    """As `select_device`; a GPU is this process's own from here on. Waits until one is free.

    Raises:
        InputError: the device is not there.
    """
    # CUDA reads which GPUs it may see when it is first asked anything: the GPU comes first.
    if name == "cuda" or (name == "auto" and visible_gpus() and torch.backends.cuda.is_built()):
        take_gpu(start_up=_start_cuda)
    return select_device(name)


def _start_cuda() -> None:
    """Start CUDA and its library of matrix products, which takes as long as a small training."""
    if torch.cuda.is_available():
        x = torch.ones(16, 16, device="cuda")
        torch.mm(x, x)
        torch.cuda.synchronize()


def release_device(device: torch.device) -> None:
    """Let the next job have the GPU while this one goes on without it; it must hold nothing there any more."""
    if device.type == "cuda":
        # A recorded update and the training it belongs to hold each other.
        gc.collect()
        torch.cuda.empty_cache()
        release_gpu()


def select_device(name: str) -> torch.device:
    """The device `auto`, `cpu`, `cuda` or `mps` stands for on this machine.

    Raises:
        InputError: the device is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available[name]:
        found = ", ".join(device for device, there in available.items() if there)
        raise InputError(f"device is '{name}', which this machine lacks; allowed here: auto, {found}")
    if name == "mps":
        print("warning: the exactness of this program on mps is untested", file=sys.stderr)
    return torch.device(name)


def set_up_torch(precision: str) -> None:
    """Threads as OMP_NUM_THREADS says, and the precision of float32 matrix products."""
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    # cuDNN plans each shape of attention again, half a second each, and messages come in many lengths.
    torch.backends.cuda.enable_cudnn_sdp(False)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let the C library use large buffers again instead of giving them back to the system.

    Every step allocates the same activations and gradients; fresh pages would be zeroed each time, a tenth of a step.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """A context in which matrix products run in bfloat16, if that is the precision."""
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock read next is right."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_device_memory_mb(device: torch.device) -> float | None:
    """The peak of memory allocated on a CUDA device in MiB; None on others."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None


def device_name(device: torch.device) -> str:
    """The device's name as the table shows it."""
    return short_device_name(torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name())

"""How long a job takes on this machine: rates measured in a second, and overheads measured once.

tests/benchmarks/ESTIMATES.md compares the estimates with measured times.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..common.torch_setup import set_up_torch, synchronize
from .costs import Cost

# Files are read from the page cache and written with a flush. These rates are assumed: measuring a disk takes too long.
READ_BYTES_PER_SECOND, WRITTEN_BYTES_PER_SECOND = 1e9, 0.5e9
# The share of the measured matrix-product rate that the model's own products reach.
EFFICIENCY = 0.85
DRAWS_PER_SECOND = 1e8


@dataclass(frozen=True)
class Overhead:
    """Seconds that work takes, however small.

    Attributes:
        step: a training step of the last block.
        further_block: each further block in such a step.
        block_pass: a block without gradients.
    """

    step: float
    further_block: float
    block_pass: float


# `python -m tests.benchmarks.overheads` gave 2.2 to 4.3, 0.5 to 2.8 and 1.6 to 3.3 ms, and 3.1 to 4.1 s for imports, on
# busy cores of an AMD EPYC. Idle ones take less: with these, the demo is estimated at 1.1 times what it took there.
CPU = Overhead(step=1.5e-3, further_block=1e-3, block_pass=1.5e-3)
START_UP_SECONDS = 3.0
# From rows 1, 4, 5 and 14 in tests/benchmarks/RESULTS.md, less their estimated products and traffic.
CUDA = Overhead(step=0.5e-3, further_block=0.4e-3, block_pass=0.5e-3)


@dataclass(frozen=True)
class Speed:
    """What a job reaches with a number of threads on one device.

    Attributes:
        flops_per_second: of large matrix products.
        bytes_per_second: through memory.
        overhead: of small work on this kind of device.
    """

    flops_per_second: float
    bytes_per_second: float
    overhead: Overhead = CPU


def estimated_seconds(cost: Cost, speed: Speed) -> float:
    """Seconds that a job computes, without its start-up."""
    return (
        cost.flops / (EFFICIENCY * speed.flops_per_second)
        + cost.bytes_moved / speed.bytes_per_second
        + cost.steps * speed.overhead.step
        + cost.further_blocks * speed.overhead.further_block
        + cost.passes * speed.overhead.block_pass
        + cost.draws / DRAWS_PER_SECOND
        + cost.bytes_read / READ_BYTES_PER_SECOND
        + cost.bytes_written / WRITTEN_BYTES_PER_SECOND
    )


def measure_speed(threads: int, device_name: str, precision: str) -> Speed:
    """Measure matrix products and memory. It takes about a second.

    Args:
        device_name: `cpu`, `cuda` or `mps`.
    """
    set_up_torch(precision)
    torch.set_num_threads(threads)
    device = torch.device(device_name)
    size = 4096 if device.type != "cpu" else 2048 if threads > 1 else 1024
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    # 128 MiB each, which no cache holds, like the weights of a large model in an update.
    x, y = (torch.ones(2**25, device=device) for _ in range(2))
    return Speed(
        flops_per_second=2 * size**3 / _shortest_seconds(lambda: torch.mm(a, b), device),
        bytes_per_second=3 * x.nbytes / _shortest_seconds(lambda: x.add_(y), device),
        overhead=CUDA if device.type == "cuda" else CPU,
    )


def _shortest_seconds(work: Callable[[], object], device: torch.device, seconds: float = 0.3) -> float:
    """The shortest time of at least three repetitions, and as many as take `seconds`."""
    best, began, repetitions = float("inf"), time.perf_counter(), 0
    while repetitions < 3 or time.perf_counter() - began < seconds:
        started = time.perf_counter()
        work()
        synchronize(device)
        best = min(best, time.perf_counter() - started)
        repetitions += 1
    return best

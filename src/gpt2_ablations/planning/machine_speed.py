"""How fast this machine is, from a benchmark of a few seconds, and how long a job takes on it.

tests/benchmarks/ESTIMATES.md compares the estimates with measured times.
"""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from ..common.torch_setup import set_up_torch, synchronize
from ..finetuning.batches import ModelInputs
from ..finetuning.classifier import build_classifier
from ..finetuning.loop import Finetuning
from ..gpt2.weights import RandomWeights
from ..runs.result import Step
from ..settings.experiment import Experiment
from ..settings.models import ModelConfig
from .costs import Cost

# Files are read from the page cache and written with a flush. These rates are assumed: measuring a disk takes too long.
READ_BYTES_PER_SECOND, WRITTEN_BYTES_PER_SECOND = 1e9, 0.5e9
# The share of the measured matrix-product rate that the model's own products reach.
EFFICIENCY = 0.85
# A job's start-up over the time of its imports: Snakemake's shell, the settings, the input files, the first step.
START_UP_PER_IMPORT = 1.5


@dataclass(frozen=True)
class Speed:
    """What a job reaches with a number of threads on one device.

    Attributes:
        flops_per_second: of large matrix products.
        bytes_per_second: through memory.
        seconds_per_step: of a training step of the last block, however small.
        seconds_per_further_block: of each further block in such a step.
        seconds_per_pass: of a block without gradients, however small.
        draws_per_second: random numbers.
        import_seconds: of a job's imports.
    """

    flops_per_second: float
    bytes_per_second: float
    seconds_per_step: float
    seconds_per_further_block: float
    seconds_per_pass: float
    draws_per_second: float
    import_seconds: float


def estimated_seconds(cost: Cost, speed: Speed) -> float:
    """Seconds that a job computes, without its start-up."""
    return (
        cost.flops / (EFFICIENCY * speed.flops_per_second)
        + cost.bytes_moved / speed.bytes_per_second
        + cost.steps * speed.seconds_per_step
        + cost.further_blocks * speed.seconds_per_further_block
        + cost.passes * speed.seconds_per_pass
        + cost.draws / speed.draws_per_second
        + cost.bytes_read / READ_BYTES_PER_SECOND
        + cost.bytes_written / WRITTEN_BYTES_PER_SECOND
    )


def start_up_seconds(speed: Speed) -> float:
    """Seconds from a job's start until it computes."""
    return START_UP_PER_IMPORT * speed.import_seconds


def measure_speed(threads: int, device_name: str, precision: str) -> Speed:
    """Measure the machine with the code that jobs run. It takes about five seconds.

    Args:
        device_name: `cpu`, `cuda` or `mps`.
    """
    set_up_torch(precision)
    device = torch.device(device_name)
    with ThreadPoolExecutor(1) as beside:
        # The processor has little to do while a GPU is measured.
        imports = beside.submit(_import_seconds) if device.type != "cpu" else None
        speed = _measure(threads, device, precision)
    return replace(speed, import_seconds=imports.result() if imports else _import_seconds())


def _measure(threads: int, device: torch.device, precision: str) -> Speed:
    """The speed without the time of the imports."""
    # Small steps gain nothing from more threads, and the threads would wait for each other on a busy machine.
    torch.set_num_threads(1)
    one_block, two_blocks = _step_and_pass_seconds(1, device, precision), _step_and_pass_seconds(2, device, precision)
    torch.set_num_threads(threads)
    return Speed(
        flops_per_second=_product_rate(threads, device, precision),
        bytes_per_second=_memory_rate(device),
        seconds_per_step=one_block[0],
        seconds_per_further_block=max(0.0, two_blocks[0] - one_block[0]),
        seconds_per_pass=one_block[1],
        draws_per_second=_draw_rate(),
        import_seconds=0.0,
    )


def _best(work: Callable[[], object], device: torch.device, seconds: float, least: int = 3) -> float:
    """The shortest time of several repetitions, in seconds.

    Args:
        seconds: to repeat for, at most 50 times.
        least: repetitions in any case.
    """
    best, began, repetitions = float("inf"), time.perf_counter(), 0
    while repetitions < least or (time.perf_counter() - began < seconds and repetitions < 50):
        started = time.perf_counter()
        work()
        synchronize(device)
        best = min(best, time.perf_counter() - started)
        repetitions += 1
    return best


def _product_rate(threads: int, device: torch.device, precision: str) -> float:
    size = 4096 if device.type != "cpu" else 2048 if threads > 1 else 1024
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / _best(lambda: torch.mm(a, b), device, 1.5)


def _memory_rate(device: torch.device) -> float:
    # 128 MiB each, which no cache holds, like the weights of a large model in an update.
    a, b = (torch.ones(2**25, device=device) for _ in range(2))
    return 3 * a.nbytes / _best(lambda: a.add_(b), device, 0.3)


def _draw_rate() -> float:
    numbers = torch.empty(2**22)
    return numbers.numel() / _best(numbers.normal_, torch.device("cpu"), 0.1)


def _step_and_pass_seconds(blocks: int, device: torch.device, precision: str) -> tuple[float, float]:
    """Seconds of a training step and of a forward pass, of a model so small that its products take no time."""
    model = ModelConfig(n_layer=blocks, n_head=2, n_embd=16, n_positions=8, source="-")
    experiment = Experiment(
        weights="random",
        trainable_layers="last_block" if blocks == 1 else "last_two_blocks",
        num_epochs=2,
        batch_size=8,
    )
    lengths = torch.full((160,), 8)
    split = ModelInputs(
        store=torch.randn(160 * 8, 16),
        starts=lengths.cumsum(0) - lengths,
        lengths=lengths,
        labels=torch.arange(160) % 2,
        pooled=lengths - 1,
        causal=True,
    )
    classifier = build_classifier(experiment, model, RandomWeights(model, 1), 1)
    inputs = {name: split for name in ("train", "validation", "test")}
    times: list[float] = []
    finetuning = Finetuning(experiment, classifier, inputs, 1, device, precision)

    def note(history: list[Step]) -> None:
        # A GPU computes on after a step's call has returned.
        synchronize(device)
        times.append(time.perf_counter())

    result = finetuning.train(on_step=note)
    steps = sorted(after - before for before, after in itertools.pairwise(times))
    return steps[len(steps) // 2], result.evaluation_seconds / 3


@cache
def _import_seconds() -> float:
    """Seconds that a job's imports take in a process of its own, once their files are in the page cache."""
    command = [sys.executable, "-c", "import gpt2_ablations.finetuning.training_job"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started

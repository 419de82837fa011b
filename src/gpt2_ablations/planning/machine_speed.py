"""How fast this machine is, from a few seconds of measuring: matrix products, memory, and what small steps cost."""

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
from ..finetuning.loop import Finetuning, build_classifier
from ..gpt2.weights import RandomWeights
from ..runs.result import Step
from ..settings.config import ModelConfig
from ..settings.experiment import Experiment

# Bytes a second of files: from a disk's cache, and to the disk with its flush. Not measured: that would take long.
READ_BYTES, WRITTEN_BYTES = 1e9, 0.5e9


@dataclass(frozen=True)
class Speed:
    """What a job reaches with so many threads on one device.

    operations: of matrix products, a second. moved: bytes through memory, a second. step, block, passed: seconds that a
    training step of the last block, each further block of it, and a block without a graph take however small they are.
    drawn: random numbers a second. started: seconds from a job's start to its first own line.
    """

    operations: float
    moved: float
    step: float
    block: float
    passed: float
    drawn: float
    started: float


def measure_speed(threads: int, device_name: str, precision: str) -> Speed:
    """Measure with the program's own code; it takes about five seconds.

    Args:
        device_name: `cpu`, `cuda` or `mps`.
    """
    set_up_torch(precision)
    device = torch.device(device_name)
    with ThreadPoolExecutor(1) as beside:
        # While a GPU is measured the processor has little to do.
        start_up = beside.submit(_start_up) if device.type != "cpu" else None
        speed = _measure(threads, device, precision)
    return replace(speed, started=start_up.result() if start_up else _start_up())


def _measure(threads: int, device: torch.device, precision: str) -> Speed:
    """The speed without the time of a start."""
    # Small steps gain nothing from more threads, and where another process computes they would wait for it.
    torch.set_num_threads(1)
    alone, two = _training(1, device, precision), _training(2, device, precision)
    torch.set_num_threads(threads)
    return Speed(
        operations=_product_rate(threads, device, precision),
        moved=_memory_rate(device),
        step=alone[0],
        block=max(0.0, two[0] - alone[0]),
        passed=alone[1],
        drawn=_draw_rate(),
        started=0.0,
    )


def _best(work: Callable[[], object], device: torch.device, seconds: float, least: int = 3) -> float:
    """The shortest of several times, in seconds."""
    best, begun, tries = float("inf"), time.perf_counter(), 0
    while tries < least or (time.perf_counter() - begun < seconds and tries < 50):
        started = time.perf_counter()
        work()
        synchronize(device)
        best = min(best, time.perf_counter() - started)
        tries += 1
    return best


def _product_rate(threads: int, device: torch.device, precision: str) -> float:
    size = 4096 if device.type != "cpu" else 2048 if threads > 1 else 1024
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / _best(lambda: torch.mm(a, b), device, 1.5)


def _memory_rate(device: torch.device) -> float:
    # 128 MiB each: more than caches hold, as an update of a large model's weights is.
    a, b = (torch.ones(2**25, device=device) for _ in range(2))
    return 3 * a.nbytes / _best(lambda: a.add_(b), device, 0.3)


def _draw_rate() -> float:
    numbers = torch.empty(2**22)
    return numbers.numel() / _best(numbers.normal_, torch.device("cpu"), 0.1)


def _training(blocks: int, device: torch.device, precision: str) -> tuple[float, float]:
    """Seconds of a step, and of an evaluation's piece, of a model so small that its products take no time."""
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
        read=lengths - 1,
        causal=True,
    )
    classifier = build_classifier(experiment, model, RandomWeights(model, 1), 1)
    inputs = {name: split for name in ("train", "validation", "test")}
    times: list[float] = []
    finetuning = Finetuning(experiment, classifier, inputs, 1, device, precision)

    def note(history: list[Step]) -> None:
        # A GPU goes on computing when a step is called.
        synchronize(device)
        times.append(time.perf_counter())

    result = finetuning.run(on_step=note)
    steps = sorted(after - before for before, after in itertools.pairwise(times))
    return steps[len(steps) // 2], result.evaluation_seconds / 3


@cache
def _start_up() -> float:
    """Seconds that a job's imports take in a process of their own, without the first one's reading from the disk."""
    command = [sys.executable, "-c", "import gpt2_ablations.finetuning.jobs"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=False, capture_output=True)
    return time.perf_counter() - started

"""The overheads in planning/machine_speed.py: `python -m tests.benchmarks.overheads [DEVICE]`.

A training step and a pass of a model so small that its products take no time, and what a job takes to start. On the
processor all of it is CPU time of one thread, so that other processes change it little.
"""

import itertools
import resource
import statistics
import subprocess
import sys
import time

import torch

from gpt2_ablations.common.torch_setup import synchronize
from gpt2_ablations.finetuning.batches import ModelInputs
from gpt2_ablations.finetuning.classifier import build_classifier
from gpt2_ablations.finetuning.loop import Finetuning
from gpt2_ablations.gpt2.weights import RandomWeights
from gpt2_ablations.runs.result import Step
from gpt2_ablations.settings.experiment import Experiment
from gpt2_ablations.settings.models import ModelConfig
from tests.conftest import environment

TEXTS, TOKENS, WIDTH = 160, 8, 16


def step_and_pass_seconds(blocks: int, device: torch.device) -> tuple[float, float]:
    """Seconds of a training step and of a block's forward pass, of a model that trains this many blocks."""
    layers = "last_block" if blocks == 1 else "last_two_blocks"
    experiment = Experiment(weights="random", trainable_layers=layers, num_epochs=20, batch_size=8)
    model = ModelConfig(n_layer=blocks, n_head=2, n_embd=WIDTH, n_positions=TOKENS, source="-")
    lengths = torch.full((TEXTS,), TOKENS)
    store = torch.randn(TEXTS * TOKENS, WIDTH)
    starts, labels = lengths.cumsum(0) - lengths, torch.arange(TEXTS) % 2
    split = ModelInputs(store, starts, lengths, labels, pooled=lengths - 1, causal=True)
    inputs = {name: split for name in ("train", "validation", "test")}
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    times = []

    def note(history: list[Step]) -> None:
        synchronize(device)
        times.append(clock())

    Finetuning(experiment, build_classifier(experiment, model, RandomWeights(model, 1), 1), inputs, 1, device).train(
        on_step=note
    )
    evaluated = clock() - times[-1]
    return statistics.median(b - a for a, b in itertools.pairwise(times)), evaluated / (3 * blocks)


def start_up_seconds() -> float:
    """CPU seconds of a job that fails at once, after the imports."""
    command = [sys.executable, "-c", "import gpt2_ablations.finetuning.training_job"]
    subprocess.run(command, env=environment(), check=True)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    device = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cpu")
    print(f"imports: {start_up_seconds():.2f} s")
    torch.set_num_threads(1)
    one, two = (step_and_pass_seconds(blocks, device) for blocks in (1, 2))
    print(f"step: {1e3 * one[0]:.2f} ms, further block: {1e3 * (two[0] - one[0]):.2f} ms, pass: {1e3 * one[1]:.2f} ms")


if __name__ == "__main__":
    main()

"""What a job asks for: memory, time, threads and disk, from a row's own dimensions. Nothing here imports torch.

Memory is a sum of parts. A number takes 4 bytes, C is n_embd:

- Python, torch and its buffers: HOST_MB; with a GPU CUDA_HOST_MB more; on a cluster SNAKEMAKE_MB more.
- To train, the features: C numbers a position kept. They are mapped, but read whole.
- To train, the weights: one number for each that is frozen (with LoRA); three for each that is trained, with AdamW's
  two moments; then gradients, a number for each, or activations with the embeddings' gradient, whichever is more: the
  other gradients come as activations go, into the memory that these leave. It is all of them, and the embeddings'
  gradient twice, when several micro-batches make an update.
- Activations: of a block below the last one, 16 C numbers a position (its input, first norm, queries, keys, values,
  context, sum, second norm, 4 C before GELU and 4 C after). The last block keeps as many if all positions count, and
  5 C where it computes one of them. In bfloat16 it is less, and counted the same; the matrices are there twice.
- Tensors of 2 MiB and more lie in huge pages: each takes a multiple of HUGE_PAGE.
- To make features, the hidden states of a shard of messages: C numbers a position.
- To make features, a chunk's widest moment, 11 C numbers a position, and two blocks of weights, since one is loaded
  while the other is held; or, before that, the embeddings.

With a GPU these parts are the GPU's, except the first one and, on the host too, what is loaded. MARGIN is for what
the allocator takes beyond them. tests/benchmarks/RESOURCES.md compares the sum with measured peaks.

Time is the floating-point operations over a rate that an old machine reaches, twice: a request is rarely too short.
SLURM reads `mem_mb` as MiB, and so is everything here.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..settings.config import Config, ModelConfig
from ..settings.constants import CHUNK_TOKENS, EVALUATION_TOKENS, SPLITS, VOCABULARY_SIZE
from ..settings.experiment import Experiment
from ..settings.feature_spec import FeatureSpec, tokens_per_shard

if TYPE_CHECKING:
    import numpy as np

# Measured after the imports and an optimizer step: 330 to 370 MiB, by processor, whose libraries differ. The CUDA
# libraries and a context: allowed, not measured.
HOST_MB = 450
CUDA_HOST_MB = 3072
# On a cluster each job is a Snakemake that runs the command: its process has 130 MiB, and counts.
SNAKEMAKE_MB = 160
# The context and the libraries' workspaces on a GPU: allowed for, not measured.
CUDA_DEVICE_MB = 1024
MARGIN = 1.15
HUGE_PAGE = 2 * 2**20
# A rule that computes next to nothing.
LIGHT_MB = 1000
LIGHT_MINUTES = 30

# More threads than this no longer make one job faster; below this width a model keeps one core busy at best.
MOST_THREADS = 16
SINGLE_THREAD_WIDTH = 256
# With a GPU, a job's processor only feeds it.
GPU_THREADS = 4
# So many jobs may start up and load while others compute, on so many cores each: Python, PyTorch and CUDA need some
# five seconds, the training of one block on a fast GPU less than two.
MOST_WAITING, CORES_A_JOB = 7, 2

# float32 operations a second of one old core, and of a small GPU; bytes a second that AdamW moves.
CORE_FLOPS, GPU_FLOPS, MOVED_BYTES = 30e9, 4e12, 5e9
LEAST_MINUTES = 15
TIME_MARGIN = 2


@dataclass(frozen=True)
class DataSize:
    """What a request takes from the data: messages of all splits, their tokens, the longest; and training messages."""

    number: int
    tokens: int
    longest: int
    training: int


# Until the messages are tokenized: as many as the reference's, none longer than this (its longest has 120 tokens).
# Snakemake asks again right before a job starts, when the tokens are there.
EXPECTED_SIZE = DataSize(number=1494, tokens=1494 * 160, longest=160, training=1045)


def read_tokens(tokens_file: Path, part: str) -> "dict[str, np.ndarray] | None":
    """One part of the tokenized splits, by split; None while it cannot be read.

    Args:
        part: `ids` of a split's messages, one behind the other, or `lengths`, how many each one has.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(tokens_file, framework="numpy") as file:
            return {name: file.get_tensor(f"{name}.{part}") for name in SPLITS}
    except (OSError, SafetensorError):
        return None


def read_data_size(tokens_file: Path) -> DataSize:
    """The data's dimensions from the tokenized splits; `EXPECTED` while they do not exist or cannot be read."""
    lengths = read_tokens(tokens_file, "lengths")
    if lengths is None:
        return EXPECTED_SIZE
    return DataSize(
        number=sum(map(len, lengths.values())),
        tokens=sum(int(of_split.sum()) for of_split in lengths.values()),
        longest=max(int(of_split.max()) for of_split in lengths.values()),
        training=len(lengths["train"]),
    )


@dataclass(frozen=True)
class Resources:
    """What one job needs: peak resident MiB (mapped pages included), MiB on a GPU, minutes, MiB on disk."""

    host_mb: int
    device_mb: int
    minutes: int
    disk_mb: int

    def mem_mb(self, attempt: int) -> int:
        """Memory to ask for: twice as much at each retry."""
        return self.host_mb * 2 ** (attempt - 1)

    def runtime(self, attempt: int) -> int:
        """Minutes to ask for: twice as many at each retry."""
        return self.minutes * 2 ** (attempt - 1)


def threads(model: ModelConfig, gpu: bool, cores: int | None = None, gpus: int = 1) -> int:
    """Threads of a job on this model.

    Args:
        GPU: whether it runs on a GPU.
        cores, GPUs: of this machine, which `jobs_at_once` share; None on a cluster.
    """
    if model.n_embd < SINGLE_THREAD_WIDTH:
        return 1
    if not gpu:
        return MOST_THREADS
    return GPU_THREADS if cores is None else max(1, min(GPU_THREADS, cores // jobs_at_once(gpus, cores)))


def jobs_at_once(gpus: int, cores: int) -> int:
    """Jobs of this machine's GPUs: one that computes on each, and one or more that start up meanwhile."""
    return gpus + max(1, min(MOST_WAITING, cores // CORES_A_JOB - gpus))


def features_at_once(gpus: int, cores: int) -> int:
    """How many of these may extract features: a disk may take minutes to write them, and others compute meanwhile."""
    return max(gpus, jobs_at_once(gpus, cores) - gpus - 1)


def feature_resources(
    spec: FeatureSpec, model: ModelConfig, config: Config, messages: DataSize, gpu: bool, threads: int
) -> Resources:
    """What `extract_features` needs."""
    c = model.n_embd
    length = _context(spec.context_length, model, messages)
    positions = _attended(spec.attended, spec.context_length is None, length, messages)
    block = 12 * c * c
    chunk = min(positions, max(CHUNK_TOKENS, length))
    hidden = 4 * c * min(positions, max(length, tokens_per_shard(model, config.features.max_memory_mb)))
    embeddings = 4 * (VOCABULARY_SIZE + model.n_positions) * c
    work = 4 * (11 * c * chunk + 2 * block)
    if spec.precision == "bfloat16":
        work += 2 * block
    kept = positions if spec.kept == "all" else messages.number
    floats = positions * spec.blocks * (24 * c * c + 4 * length * c)
    return Resources(
        host_mb=_host_mb(hidden + (embeddings + 8 * block if gpu else max(embeddings, work)), gpu),
        device_mb=_device_mb(hidden + work),
        minutes=_minutes(floats, 0, gpu, threads),
        disk_mb=math.ceil(4 * c * kept / 2**20) + 1,
    )


def training_resources(
    experiment: Experiment, model: ModelConfig, config: Config, messages: DataSize, gpu: bool, threads: int
) -> Resources:
    """What `train` needs, its feature file being there."""
    c = model.n_embd
    length = _context(None if experiment.no_padding else experiment.context_length, model, messages)
    positions = _attended(experiment.attended, experiment.no_padding, length, messages)
    length = 1 if experiment.attended == "first" else length
    frozen_blocks = experiment.n_frozen_blocks(model.n_layer)
    blocks = model.n_layer - (frozen_blocks or 0)
    features = 0 if frozen_blocks is None else 4 * c * (positions if blocks else messages.number)
    embeddings = 4 * (VOCABULARY_SIZE + model.n_positions) * c
    whole = experiment.trainable_layers in ("all", "lora")
    weights = blocks * _block_bytes(c) + (embeddings if whole else 0)
    trained, total = trained_parameters(experiment, model), weights // 4
    held = 0
    if experiment.trainable_layers == "lora":
        held, weights = weights, 4 * trained

    batch = experiment.batch_size * (1 if frozen_blocks is None else experiment.accumulation_steps)
    micro_batch = min(config.micro_batch_size or batch, batch)
    pieces = micro_batch < batch or (frozen_blocks is None and experiment.accumulation_steps > 1)
    activations = _activations(experiment, model, micro_batch * length, blocks)
    embedding_gradient = embeddings if experiment.trainable_layers == "all" else 0
    evaluated = min(positions, max(EVALUATION_TOKENS, length))
    evaluation = 4 * c * evaluated * (16 if blocks > 1 else 4 if blocks else 1)
    step = activations + embedding_gradient
    step = weights + step if pieces else max(weights, step)
    if config.precision == "bfloat16":
        step += 2 * total
    state = held + 3 * weights
    # Random weights are drawn whole before the trained part is taken from them.
    loading = held + weights + embeddings
    computing = state + max(step, evaluation)
    return Resources(
        host_mb=_host_mb(features + loading if gpu else max(loading, features + computing), gpu),
        device_mb=_device_mb(features + computing),
        minutes=_minutes(*_work(experiment, model, messages, positions, length, blocks, trained), gpu, threads),
        # A checkpoint holds weights and moments; while one is written, the last one is there too.
        disk_mb=math.ceil((2 * 12 + 4 * config.keep_models) * trained / 2**20) + 16,
    )


def trained_parameters(experiment: Experiment, model: ModelConfig) -> int:
    """How many weights a row trains."""
    c = model.n_embd
    block, head = 12 * c * c + 13 * c, 2 * c + 2
    if experiment.trainable_layers == "lora":
        # A and B of the fused projection (three pairs), of the output projection and of the two layers of the MLP.
        return model.n_layer * 18 * c * experiment.lora_rank + (c + 2) * experiment.lora_rank + head
    if experiment.trainable_layers == "all":
        return (VOCABULARY_SIZE + model.n_positions) * c + model.n_layer * block + 2 * c + head
    blocks = model.n_layer - (experiment.n_frozen_blocks(model.n_layer) or 0)
    return blocks * block + (2 * c if blocks else 0) + head


def _tensor_bytes(numbers: int) -> int:
    """What a float32 tensor takes."""
    size = 4 * numbers
    return size if size < HUGE_PAGE else math.ceil((size + 1) / HUGE_PAGE) * HUGE_PAGE


def _block_bytes(c: int) -> int:
    """The weights of a block."""
    return sum(_tensor_bytes(n * c * c) for n in (3, 1, 4, 4)) + 4 * 13 * c


def _activations(experiment: Experiment, model: ModelConfig, positions: int, blocks: int) -> int:
    """Bytes kept for the backward pass over a micro-batch of so many positions."""
    c = model.n_embd
    if not blocks:
        return 0
    whole_block = sum(_tensor_bytes(n * positions * c) for n in (1, 1, 3, 1, 1, 1, 4, 4))
    if experiment.trainable_layers == "lora":
        whole_block += 4 * positions * 6 * experiment.lora_rank
    last_block = whole_block if experiment.average_embeddings else 5 * _tensor_bytes(positions * c)
    return (blocks - 1) * whole_block + last_block


def _context(context_length: int | str | None, model: ModelConfig, messages: DataSize) -> int:
    """Positions of the longest message as a row sees it."""
    if context_length == "model_context_length":
        return model.n_positions
    if isinstance(context_length, int):
        return context_length
    return min(messages.longest, model.n_positions)


def _attended(attended: str, no_padding: bool, length: int, messages: DataSize) -> int:
    """Positions of all messages that a row attends to."""
    if attended == "first":
        return messages.number
    padded = messages.number * length
    return min(messages.tokens, padded) if attended == "real" or no_padding else padded


def _work(
    experiment: Experiment,
    model: ModelConfig,
    messages: DataSize,
    positions: int,
    length: int,
    blocks: int,
    trained: int,
) -> tuple[float, float]:
    """Operations, and bytes that the optimizer moves, of a whole training with its evaluations."""
    c = model.n_embd
    epochs, batch = experiment.num_epochs, experiment.batch_size
    steps = epochs * (messages.training // batch)
    # The reference evaluates ten batches at every 50th step and after each epoch, and everything at the end.
    evaluated = messages.number + 10 * batch * (steps / 50 + 1 + epochs)
    per_position = max(0, blocks - 1) * (24 * c * c + 4 * length * c)
    # The last block computes one position; attention reads all of them for each head.
    last = 24 * c * c + 8 * model.n_head * c * length
    if experiment.average_embeddings:
        last, per_position = 0, per_position + (24 * c * c + 4 * length * c if blocks else 0)
    per_message = positions / messages.number * per_position + (last if blocks else 0)
    updates = steps / experiment.accumulation_steps
    return (3 * epochs * messages.training + evaluated) * per_message, updates * 28 * trained


def _minutes(operations: float, moved: float, gpu: bool, threads: int) -> int:
    seconds = operations / (GPU_FLOPS if gpu else CORE_FLOPS * threads) + moved / MOVED_BYTES
    return LEAST_MINUTES + math.ceil(TIME_MARGIN * seconds / 60)


def _host_mb(peak: int, gpu: bool) -> int:
    return math.ceil(HOST_MB + (CUDA_HOST_MB if gpu else 0) + MARGIN * peak / 2**20)


def _device_mb(peak: int) -> int:
    return math.ceil(CUDA_DEVICE_MB + MARGIN * peak / 2**20)

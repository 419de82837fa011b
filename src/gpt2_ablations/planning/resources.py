"""The resources of a job: memory, time, threads and disk, from its row's dimensions. Nothing here imports torch.

Memory is a sum of parts. A number takes 4 bytes; C is n_embd.

- Every job: Python, torch and its buffers, HOST_MB. With a GPU, CUDA_HOST_MB more. On a cluster, SNAKEMAKE_MB more.
- Training, features: C numbers for each position kept. The file is mapped into memory and read completely.
- Training, weights: one number for each frozen weight (with LoRA). Three for each trained weight, with AdamW's two
  moments. Beside them, the larger of two: the gradients, one number for each trained weight, or the activations with
  the embeddings' gradient. The other gradients are computed while activations are freed, into the freed memory. If an
  update takes several micro-batches, it is the sum of both, with the embeddings' gradient twice.
- Training, activations: a block below the last one keeps 16 C numbers for each position (its input, the first norm,
  queries, keys, values, context, sum, the second norm, 4 C before GELU and 4 C after). The last block keeps as many if
  all positions count, and 5 C where it computes the pooled position alone. bfloat16 takes less, and is counted the
  same; the weight matrices are there twice.
- Tensors of 2 MiB and more lie in huge pages: each takes a multiple of HUGE_PAGE.
- Feature extraction, hidden states: C numbers for each position of a shard. A shard is the texts whose hidden states
  are held at once.
- Feature extraction, work: 11 C numbers for each position of a chunk, and two blocks of weights, since one is loaded
  while the other is held. Or the embeddings, which are used first, if they take more. A chunk is the positions that
  one matrix product takes.

With a GPU these parts are in its memory. The first part, and what is loaded, are in the host's memory. MARGIN is for
what the allocator takes beyond the sum. tests/benchmarks/RESOURCES.md compares the sum with measured peaks.

Time is the FLOPs over the rate of an old machine, times TIME_MARGIN, so that a job rarely reaches its time limit.
SLURM reads `mem_mb` as MiB, and so is everything here.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..settings.config import Config
from ..settings.constants import CHUNK_TOKENS, EVALUATION_TOKENS, SPLITS, VOCABULARY_SIZE
from ..settings.experiment import Experiment
from ..settings.feature_spec import FeatureSpec, tokens_per_shard
from ..settings.models import ModelConfig

if TYPE_CHECKING:
    import numpy as np

# Measured after the imports and an optimizer step: 330 to 370 MiB, depending on the processor's libraries.
HOST_MB = 450
# CUDA's libraries and a context: assumed, not measured.
CUDA_HOST_MB = 3072
# On a cluster each job is a Snakemake process that runs the command. It takes 130 MiB of the job's memory.
SNAKEMAKE_MB = 160
# A context and the libraries' workspaces on a GPU: assumed, not measured.
CUDA_DEVICE_MB = 1024
MARGIN = 1.15
HUGE_PAGE = 2 * 2**20
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

# float32 FLOP/s of one old core and of a small GPU, and bytes/s that AdamW moves.
CORE_FLOPS_PER_SECOND, GPU_FLOPS_PER_SECOND, BYTES_PER_SECOND = 30e9, 4e12, 5e9
LEAST_MINUTES = 15
TIME_MARGIN = 2


@dataclass(frozen=True)
class DataSize:
    """The data's dimensions that resources depend on.

    Attributes:
        texts: of all splits.
        tokens: of all texts.
        longest: tokens of the longest text.
        training_texts: of the training split.
    """

    texts: int
    tokens: int
    longest: int
    training_texts: int


# Until the data is tokenized: as many texts as the reference's, of at most 160 tokens (the reference's have at most
# 120). Snakemake computes the resources again before a job starts, when the tokens are there.
EXPECTED_SIZE = DataSize(texts=1494, tokens=1494 * 160, longest=160, training_texts=1045)


def read_tokens(tokens_file: Path, part: str) -> "dict[str, np.ndarray] | None":
    """One part of the tokenized splits, by split; None while the file does not exist or cannot be read.

    Args:
        part: `ids`, the token ids of a split's texts in one array, or `lengths`, the tokens of each text.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(tokens_file, framework="numpy") as file:
            return {name: file.get_tensor(f"{name}.{part}") for name in SPLITS}
    except (OSError, SafetensorError):
        return None


def read_data_size(tokens_file: Path) -> DataSize:
    """The data's dimensions from the tokenized splits; `EXPECTED_SIZE` while that file cannot be read."""
    lengths = read_tokens(tokens_file, "lengths")
    if lengths is None:
        return EXPECTED_SIZE
    return DataSize(
        texts=sum(map(len, lengths.values())),
        tokens=sum(int(of_split.sum()) for of_split in lengths.values()),
        longest=max(int(of_split.max()) for of_split in lengths.values()),
        training_texts=len(lengths["train"]),
    )


@dataclass(frozen=True)
class Resources:
    """What one job needs.

    Attributes:
        host_mb: peak resident memory in MiB, mapped pages included.
        device_mb: peak memory of a GPU in MiB.
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


def job_threads(model: ModelConfig, gpu: bool, cores: int | None = None, gpus: int = 1) -> int:
    """Threads of a job on this model.

    Args:
        gpu: whether it runs on a GPU.
        cores, gpus: of this machine, which the jobs of `jobs_at_once` share. cores is None on a cluster.
    """
    if model.n_embd < SINGLE_THREAD_WIDTH:
        return 1
    if not gpu:
        return MOST_THREADS
    return GPU_THREADS if cores is None else max(1, min(GPU_THREADS, cores // jobs_at_once(gpus, cores)))


def jobs_at_once(gpus: int, cores: int) -> int:
    """How many jobs share this machine's GPUs: one computes on each GPU, and at least one starts up meanwhile."""
    return gpus + max(1, min(MOST_WAITING, cores // CORES_PER_JOB - gpus))


def features_at_once(gpus: int, cores: int) -> int:
    """How many of these may extract features. Writing them may take minutes, in which other jobs use the GPUs."""
    return max(gpus, jobs_at_once(gpus, cores) - gpus - 1)


def feature_resources(
    spec: FeatureSpec, model: ModelConfig, config: Config, size: DataSize, gpu: bool, threads: int
) -> Resources:
    """The resources of an `extract_features` job."""
    c = model.n_embd
    length = _longest_length(spec.context_length, model, size)
    positions = _attended_positions(spec.attended, spec.context_length is None, length, size)
    block = 12 * c * c
    chunk = min(positions, max(CHUNK_TOKENS, length))
    hidden = 4 * c * min(positions, max(length, tokens_per_shard(model, config.features.max_memory_mb)))
    embeddings = 4 * (VOCABULARY_SIZE + model.n_positions) * c
    work = 4 * (11 * c * chunk + 2 * block)
    if spec.precision == "bfloat16":
        work += 2 * block
    kept = positions if spec.kept == "all" else size.texts
    flops = positions * spec.blocks * (24 * c * c + 4 * length * c)
    return Resources(
        host_mb=_host_mb(hidden + (embeddings + 8 * block if gpu else max(embeddings, work)), gpu),
        device_mb=_device_mb(hidden + work),
        minutes=_minutes(flops, 0, gpu, threads),
        disk_mb=math.ceil(4 * c * kept / 2**20) + 1,
    )


def training_resources(
    experiment: Experiment, model: ModelConfig, config: Config, size: DataSize, gpu: bool, threads: int
) -> Resources:
    """The resources of a `train` job, whose feature file exists."""
    c = model.n_embd
    length = _longest_length(None if experiment.no_padding else experiment.context_length, model, size)
    positions = _attended_positions(experiment.attended, experiment.no_padding, length, size)
    length = 1 if experiment.attended == "first" else length
    frozen_blocks = experiment.n_frozen_blocks(model.n_layer)
    blocks = model.n_layer - (frozen_blocks or 0)
    features = 0 if frozen_blocks is None else 4 * c * (positions if blocks else size.texts)
    embeddings = 4 * (VOCABULARY_SIZE + model.n_positions) * c
    whole = experiment.trainable_layers in ("all", "lora")
    weights = blocks * _block_bytes(c) + (embeddings if whole else 0)
    trained, total = trained_parameters(experiment, model), weights // 4
    held = 0
    if experiment.trainable_layers == "lora":
        held, weights = weights, 4 * trained

    batch = experiment.batch_size * (1 if frozen_blocks is None else experiment.accumulation_steps)
    micro_batch = min(config.micro_batch_size or batch, batch)
    accumulates = micro_batch < batch or (frozen_blocks is None and experiment.accumulation_steps > 1)
    activations = _activations(experiment, model, micro_batch * length, blocks)
    embedding_gradient = embeddings if experiment.trainable_layers == "all" else 0
    evaluated = min(positions, max(EVALUATION_TOKENS, length))
    evaluation = 4 * c * evaluated * (16 if blocks > 1 else 4 if blocks else 1)
    step = activations + embedding_gradient
    step = weights + step if accumulates else max(weights, step)
    if config.precision == "bfloat16":
        step += 2 * total
    state = held + 3 * weights
    # All random weights are drawn before the trained layers are taken from them.
    loading = held + weights + embeddings
    computing = state + max(step, evaluation)
    return Resources(
        host_mb=_host_mb(features + loading if gpu else max(loading, features + computing), gpu),
        device_mb=_device_mb(features + computing),
        minutes=_minutes(
            *_flops_and_bytes_moved(experiment, model, size, positions, length, blocks, trained), gpu, threads
        ),
        # A checkpoint holds weights and moments. While one is written, the previous one still exists.
        disk_mb=math.ceil((2 * 12 + 4 * config.keep_models) * trained / 2**20) + 16,
    )


def trained_parameters(experiment: Experiment, model: ModelConfig) -> int:
    """How many parameters a row trains."""
    c = model.n_embd
    block, head = 12 * c * c + 13 * c, 2 * c + 2
    if experiment.trainable_layers == "lora":
        # A and B for queries, keys and values, for the output projection, and for both layers of the MLP.
        return model.n_layer * 18 * c * experiment.lora_rank + (c + 2) * experiment.lora_rank + head
    if experiment.trainable_layers == "all":
        return (VOCABULARY_SIZE + model.n_positions) * c + model.n_layer * block + 2 * c + head
    blocks = model.n_layer - (experiment.n_frozen_blocks(model.n_layer) or 0)
    return blocks * block + (2 * c if blocks else 0) + head


def _tensor_bytes(numbers: int) -> int:
    """The memory of a float32 tensor."""
    size = 4 * numbers
    return size if size < HUGE_PAGE else math.ceil((size + 1) / HUGE_PAGE) * HUGE_PAGE


def _block_bytes(c: int) -> int:
    """The memory of a block's weights."""
    return sum(_tensor_bytes(n * c * c) for n in (3, 1, 4, 4)) + 4 * 13 * c


def _activations(experiment: Experiment, model: ModelConfig, positions: int, blocks: int) -> int:
    """Bytes kept for the backward pass over a micro-batch of `positions`, by the `blocks` that train."""
    c = model.n_embd
    if not blocks:
        return 0
    whole_block = sum(_tensor_bytes(n * positions * c) for n in (1, 1, 3, 1, 1, 1, 4, 4))
    if experiment.trainable_layers == "lora":
        whole_block += 4 * positions * 6 * experiment.lora_rank
    last_block = whole_block if experiment.average_embeddings else 5 * _tensor_bytes(positions * c)
    return (blocks - 1) * whole_block + last_block


def _longest_length(context_length: int | str | None, model: ModelConfig, size: DataSize) -> int:
    """Positions of the longest text, cut or padded as the row states."""
    if context_length == "model_context_length":
        return model.n_positions
    if isinstance(context_length, int):
        return context_length
    return min(size.longest, model.n_positions)


def _attended_positions(attended: str, no_padding: bool, length: int, size: DataSize) -> int:
    """Attended positions of all texts together."""
    if attended == "first":
        return size.texts
    padded = size.texts * length
    return min(size.tokens, padded) if attended == "real" or no_padding else padded


def _flops_and_bytes_moved(
    experiment: Experiment,
    model: ModelConfig,
    size: DataSize,
    positions: int,
    length: int,
    blocks: int,
    trained: int,
) -> tuple[float, float]:
    """FLOPs of a training run with its evaluations, and bytes that its optimizer moves."""
    c = model.n_embd
    epochs, batch = experiment.num_epochs, experiment.batch_size
    steps = epochs * (size.training_texts // batch)
    # The reference evaluates ten batches at every 50th step and after each epoch, and all texts at the end.
    evaluated = size.texts + 10 * batch * (steps / 50 + 1 + epochs)
    per_position = max(0, blocks - 1) * (24 * c * c + 4 * length * c)
    # The last block computes the pooled position, whose attention reads all positions for each head.
    last = 24 * c * c + 8 * model.n_head * c * length
    if experiment.average_embeddings:
        last, per_position = 0, per_position + (24 * c * c + 4 * length * c if blocks else 0)
    per_text = positions / size.texts * per_position + (last if blocks else 0)
    updates = steps / experiment.accumulation_steps
    return (3 * epochs * size.training_texts + evaluated) * per_text, updates * 28 * trained


def _minutes(flops: float, bytes_moved: float, gpu: bool, threads: int) -> int:
    rate = GPU_FLOPS_PER_SECOND if gpu else CORE_FLOPS_PER_SECOND * threads
    seconds = flops / rate + bytes_moved / BYTES_PER_SECOND
    return LEAST_MINUTES + math.ceil(TIME_MARGIN * seconds / 60)


def _host_mb(peak: int, gpu: bool) -> int:
    return math.ceil(HOST_MB + (CUDA_HOST_MB if gpu else 0) + MARGIN * peak / 2**20)


def _device_mb(peak: int) -> int:
    return math.ceil(CUDA_DEVICE_MB + MARGIN * peak / 2**20)

"""What a job computes and holds: FLOPs, bytes, steps and memory, from its row and the lengths of the texts.

FLOPs are those of the matrix products: 2 m n k for (m, k) times (k, n), and attention over the full square. What is not
computed is not counted: the other positions of the last block where only the pooled position is computed, and the
gradients of frozen weights. Bytes moved are the memory traffic beside the products, which dominates where batches are
small: weights, gradients, AdamW's moments and activations.

Memory is a sum of parts. A number takes 4 bytes.

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

C is n_embd, H n_head, T the attended positions of a text. tests/planning/test_costs.py compares the FLOPs with those
that PyTorch counts while the real code runs, and tests/benchmarks/RESOURCES.md the memory with measured peaks. Nothing
here imports torch.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..settings.config import Config
from ..settings.constants import (
    CHUNK_TOKENS,
    EVALUATE_EVERY,
    EVALUATION_BATCHES,
    EVALUATION_TOKENS,
    PRETRAINING_BATCH_SIZE,
    PRETRAINING_STEPS,
    SPLITS,
    VOCABULARY_SIZE,
)
from ..settings.experiment import LORA_LAYERS, MEANS, Experiment
from ..settings.feature_spec import FeatureSpec, tokens_per_shard
from ..settings.models import ModelConfig

MIB = 2**20
HUGE_PAGE = 2 * MIB
# float32 numbers read and written for each position and channel beside the matrix products: by a block without
# gradients, by a block with its backward pass, and by the last block where it computes the pooled position alone.
FORWARD_NUMBERS, STEP_NUMBERS, POOLED_NUMBERS = 30, 120, 10
# AdamW reads weight, gradient and two moments, and writes all but the gradient: seven float32 numbers a weight.
ADAMW_BYTES = 28


@dataclass(frozen=True)
class Lengths:
    """Tokens of each text.

    Attributes:
        train, validation, test: of each text of a split, int64 [N].
        distinct: of each distinct text of all splits, int64 [N].
        known: whether they come from the tokenized data; otherwise they are expected.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    distinct: np.ndarray
    known: bool = True

    @classmethod
    def of(cls, ids: dict[str, np.ndarray], lengths: dict[str, np.ndarray]) -> "Lengths":
        """The lengths of texts from the token ids of each split, in one array, and the tokens of each text."""
        distinct = {
            text.tobytes(): len(text) for name in SPLITS for text in np.split(ids[name], lengths[name].cumsum()[:-1])
        }
        train, validation, test = (lengths[name].astype(np.int64) for name in SPLITS)
        return cls(train, validation, test, np.array(list(distinct.values())))


def expected_lengths() -> Lengths:
    """Lengths like those of the reference's data: 1,045, 149 and 300 texts of 31 tokens on average and 120 at most.

    1,388 of them are distinct.
    """

    def spread(number: int) -> np.ndarray:
        # Quantiles of an exponential distribution, which the real lengths roughly follow.
        quantiles = -np.log(1 - (np.arange(number) + 0.5) / number)
        lengths = np.minimum(np.rint(28 * quantiles) + 3, 120).astype(np.int64)
        lengths[-1] = 120
        return lengths

    return Lengths(spread(1045), spread(149), spread(300), spread(1388), known=False)


def read_lengths(tokens_file: Path) -> Lengths:
    """The lengths of the texts in the tokenized splits; `expected_lengths` while that file cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(tokens_file, framework="numpy") as file:
            ids, lengths = ({name: file.get_tensor(f"{name}.{part}") for name in SPLITS} for part in ("ids", "lengths"))
    except (OSError, SafetensorError):
        return expected_lengths()
    return Lengths.of(ids, lengths)


@dataclass(frozen=True)
class Memory:
    """The peak of what a job holds in MiB, without Python and its libraries.

    Attributes:
        on_cpu: host memory of a job that computes on the CPU.
        beside_gpu: host memory of a job that computes on a GPU.
        on_gpu: GPU memory of that job.
    """

    on_cpu: float = 0.0
    beside_gpu: float = 0.0
    on_gpu: float = 0.0


@dataclass(frozen=True)
class Cost:
    """What a job does, in counts that do not depend on the machine.

    Attributes:
        flops: of matrix products.
        bytes_moved: through memory, beside the products.
        steps: training steps (micro-batches).
        further_blocks: times that a step runs a block beside its first one.
        passes: times that a block runs without gradients.
        draws: random numbers drawn for weights.
        bytes_read, bytes_written: of files, while the job computes.
        bytes_on_disk: of its files, checkpoints included.
        memory: at the peak.
    """

    flops: float = 0.0
    bytes_moved: float = 0.0
    steps: float = 0.0
    further_blocks: float = 0.0
    passes: float = 0.0
    draws: float = 0.0
    bytes_read: float = 0.0
    bytes_written: float = 0.0
    bytes_on_disk: float = 0.0
    memory: Memory = Memory()


def feature_cost(spec: FeatureSpec, model: ModelConfig, config: Config, lengths: Lengths) -> Cost:
    """The cost of running the frozen layers over all distinct texts."""
    c = model.n_embd
    context = _padded_length(spec.context_length, model, lengths)
    t = _attended_lengths(spec.attended, context, lengths.distinct)
    keys = _attended_keys(spec.attended, context, lengths.distinct)
    positions, longest = float(t.sum()), float(t.max())
    shard = tokens_per_shard(model, config.features.max_memory_mb)
    shards = math.ceil(positions / shard)

    flops = spec.blocks * _block_flops(c, t, keys)
    if spec.blocks == model.n_layer and spec.kept not in MEANS:
        flops += _pooled_flops(model, t) - _block_flops(c, t, keys)

    block, embeddings = 4 * 12 * c * c, 4 * _embedding_numbers(model)
    weights = embeddings + spec.blocks * block
    drawn = spec.seed is not None
    written = 4 * c * (positions if spec.kept == "all" else len(t))

    hidden = 4 * c * min(positions, max(longest, shard))
    work = 4 * 11 * c * min(positions, max(longest, CHUNK_TOKENS)) + 2 * block
    if spec.precision == "bfloat16":
        work += block / 2
    return Cost(
        flops=flops,
        bytes_moved=spec.blocks * 4 * c * positions * FORWARD_NUMBERS + shards * weights,
        passes=spec.blocks * max(shards, math.ceil(positions / CHUNK_TOKENS)),
        draws=shards * weights / 4 if drawn else 0,
        bytes_read=0 if drawn else shards * weights,
        bytes_written=written,
        bytes_on_disk=written,
        memory=_memory(hidden + max(embeddings, work), hidden + embeddings + 2 * block, hidden + work),
    )


def training_cost(experiment: Experiment, model: ModelConfig, config: Config, lengths: Lengths) -> Cost:
    """The cost of one training run with its evaluations; its features are counted by `feature_cost`."""
    c, batch = model.n_embd, experiment.batch_size
    context = _padded_length(None if experiment.no_padding else experiment.context_length, model, lengths)
    t = _attended_lengths(experiment.attended, context, lengths.train)
    positions = float(t.mean())
    is_frozen, blocks = _has_frozen_layers(experiment, model), _trained_blocks(experiment, model)
    # Blocks that compute all positions.
    full_blocks = blocks if experiment.average_embeddings else max(0, blocks - 1)
    trained = trained_parameters(experiment, model)

    steps_per_epoch = len(t) // batch
    steps = experiment.num_epochs * steps_per_epoch
    updates = experiment.num_epochs * math.ceil(steps_per_epoch / experiment.accumulation_steps)
    at_once = _examples_at_once(experiment, model)
    micro_batches = steps * batch / at_once * math.ceil(at_once / _micro_batch(experiment, model, config))
    evaluations = math.ceil(steps / EVALUATE_EVERY) + experiment.num_epochs
    sample = batch * EVALUATION_BATCHES
    evaluated = evaluations * (min(sample, len(t)) + min(sample, len(lengths.validation))) + len(lengths.distinct)
    if experiment.keep == "best_validation":
        evaluated += experiment.num_epochs * len(lengths.validation)

    keys = _attended_keys(experiment.attended, context, lengths.train)
    forward, backward = _flops_per_text(experiment, model, t, keys, blocks, full_blocks)
    bytes_per_text = 4 * c * positions
    bytes_moved = (
        updates * ADAMW_BYTES * trained
        + micro_batches * 4 * (2 * blocks * 12 * c * c + 2 * trained)
        + steps * batch * bytes_per_text * (full_blocks * STEP_NUMBERS + POOLED_NUMBERS)
        + evaluated * bytes_per_text * (full_blocks * FORWARD_NUMBERS + POOLED_NUMBERS)
    )
    # Texts of different lengths attend one length at a time.
    uneven = 1 if context is not None and experiment.attended in ("first", "all") else 1 + 0.2 * min(at_once, 8)
    is_lora = experiment.trainable_layers == "lora"
    is_pretrained = experiment.weights == "pretrained"
    all_weights = _embedding_numbers(model) + model.n_layer * 12 * c * c
    loaded = 4 * (blocks * 12 * c * c if is_frozen else all_weights)
    return Cost(
        flops=steps * batch * (forward + backward) + evaluated * forward,
        bytes_moved=bytes_moved,
        steps=max(micro_batches, updates),
        further_blocks=micro_batches * max(0, blocks - 1) * uneven * (2 if is_lora else 1),
        passes=max(2 * evaluations, evaluated * positions / EVALUATION_TOKENS) * max(1, blocks * uneven),
        # Random weights are drawn in order: the frozen blocks are drawn too, to reach the trained ones.
        draws=0 if is_pretrained else all_weights,
        bytes_read=loaded * is_pretrained + 4 * c * float(t.sum()) * (is_frozen and blocks > 0),
        # A checkpoint holds weights and moments, and the best epoch's weights where that is kept. While one is written,
        # the previous one still exists.
        bytes_on_disk=(2 * (12 + 4 * (experiment.keep == "best_validation")) + 4 * config.keep_models) * trained,
        memory=_training_memory(
            experiment, model, config, _attended_lengths(experiment.attended, context, lengths.distinct)
        ),
    )


def pretraining_cost(model: ModelConfig) -> Cost:
    """The cost of pretraining one of the demo's miniatures, which takes next to no memory."""
    positions = PRETRAINING_STEPS * PRETRAINING_BATCH_SIZE * model.n_positions
    return Cost(
        flops=6 * 12 * model.n_embd**2 * model.n_layer * positions,
        steps=PRETRAINING_STEPS,
        # The last block computes all positions, too.
        further_blocks=2 * PRETRAINING_STEPS * model.n_layer,
    )


def trained_parameters(experiment: Experiment, model: ModelConfig) -> int:
    """How many parameters a row trains."""
    c = model.n_embd
    block, head = 12 * c * c + 13 * c, 2 * c + 2
    if experiment.trainable_layers == "lora":
        adapters = model.n_layer * c * sum(n_in + n_out for n_in, n_out in _adapted(experiment).values())
        return (adapters + (c + 2) * experiment.adapts("head")) * experiment.lora_rank + head
    if experiment.trainable_layers == "all":
        return _embedding_numbers(model) + model.n_layer * block + 2 * c + head
    blocks = _trained_blocks(experiment, model)
    return blocks * block + (2 * c if blocks else 0) + head


def _adapted(experiment: Experiment) -> dict[str, tuple[int, int]]:
    """The layers of a block that LoRA adapts, with their inputs and outputs in multiples of C."""
    wide = {"mlp_in": (1, 4), "mlp_out": (4, 1)}
    return {name: wide.get(name, (1, 1)) for name in LORA_LAYERS if name != "head" and experiment.adapts(name)}


def _has_frozen_layers(experiment: Experiment, model: ModelConfig) -> bool:
    return experiment.n_frozen_blocks(model.n_layer) is not None


def _trained_blocks(experiment: Experiment, model: ModelConfig) -> int:
    return model.n_layer - (experiment.n_frozen_blocks(model.n_layer) or 0)


def _embedding_numbers(model: ModelConfig) -> int:
    return (VOCABULARY_SIZE + model.n_positions) * model.n_embd


def _examples_at_once(experiment: Experiment, model: ModelConfig) -> int:
    """Examples of one backward pass without a `micro_batch_size`."""
    return experiment.batch_size * (
        experiment.accumulation_steps if experiment.takes_whole_updates(model.n_layer) else 1
    )


def _micro_batch(experiment: Experiment, model: ModelConfig, config: Config) -> int:
    at_once = _examples_at_once(experiment, model)
    return min(config.micro_batch_size or at_once, at_once)


def _flops_per_text(
    experiment: Experiment, model: ModelConfig, t: np.ndarray, keys: np.ndarray, blocks: int, full_blocks: int
) -> tuple[float, float]:
    """FLOPs of the forward and of the backward pass of a text, on average over texts of T positions and their keys."""
    c = model.n_embd
    is_pooled = blocks > full_blocks
    weights = full_blocks * _block_flops(c, t, keys) / len(t) + is_pooled * _pooled_flops(model, t) / len(t)
    pooled_attention = is_pooled * _pooled_attention_flops(model, t) / len(t)
    attention = full_blocks * 4 * c * float(t @ keys) / len(t) + pooled_attention
    adapters = 0.0
    if experiment.trainable_layers == "lora":
        # In a block at all positions, the B of queries, keys and values are one block matrix of 3 C columns. At the
        # pooled position, keys and values pass through their adapters once per head.
        rank, sizes = 2 * c * experiment.lora_rank, _adapted(experiment)
        fused, per_head = len(sizes.keys() & {"query", "key", "value"}), len(sizes.keys() & {"key", "value"})
        numbers = sum(n_in + n_out for n_in, n_out in sizes.values())
        adapters = full_blocks * (numbers + 2 * fused) * rank * float(t.mean())
        adapters += is_pooled * (numbers + (model.n_head - 1) * per_head + 1) * rank
    # Backward: one product for the inputs' gradients and one for the weights'. LoRA leaves the weights' gradients out,
    # and hidden states from a feature file need no gradient.
    backward = 2 * (weights + adapters)
    if experiment.trainable_layers == "lora":
        # The gradients below the lowest adapter are counted, although they are not computed.
        backward -= weights - attention
    elif _has_frozen_layers(experiment, model) and not full_blocks:
        backward -= pooled_attention
    return weights + adapters, backward


def _training_memory(experiment: Experiment, model: ModelConfig, config: Config, t: np.ndarray) -> Memory:
    """The memory of a training run on distinct texts of T positions."""
    c, blocks = model.n_embd, _trained_blocks(experiment, model)
    positions, longest = int(t.sum()), int(t.max())
    is_frozen = _has_frozen_layers(experiment, model)
    embeddings = 4 * _embedding_numbers(model)
    weights = blocks * _block_bytes(c) + (0 if is_frozen else embeddings)
    numbers, held = weights // 4, 0
    if experiment.trainable_layers == "lora":
        held, weights = weights, 4 * trained_parameters(experiment, model)

    micro_batch = _micro_batch(experiment, model, config)
    step = _activations(experiment, model, micro_batch * longest, blocks)
    step += embeddings * (experiment.trainable_layers == "all")
    whole_update = experiment.batch_size * experiment.accumulation_steps
    step = weights + step if micro_batch < whole_update else max(weights, step)
    if config.precision == "bfloat16":
        step += 2 * numbers
    evaluation = 4 * c * min(positions, max(EVALUATION_TOKENS, longest)) * (16 if blocks > 1 else 4 if blocks else 1)

    features = 4 * c * (positions if blocks else len(t)) * is_frozen
    best = weights * (experiment.keep == "best_validation")
    computing = features + held + 3 * weights + best + max(step, evaluation)
    # All random weights are drawn before the trained layers are taken from them.
    loading = held + weights + embeddings
    return _memory(max(loading, computing), features + loading, computing)


def _memory(on_cpu: float, beside_gpu: float, on_gpu: float) -> Memory:
    """As `Memory`, from bytes."""
    return Memory(on_cpu / MIB, beside_gpu / MIB, on_gpu / MIB)


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
        whole_block += 4 * positions * len(_adapted(experiment)) * experiment.lora_rank
    last_block = whole_block if experiment.average_embeddings else 5 * _tensor_bytes(positions * c)
    return (blocks - 1) * whole_block + last_block


def _block_flops(c: int, t: np.ndarray, keys: np.ndarray) -> float:
    """One block, forward, at all T positions of each text, which attend to so many keys."""
    return float(t.sum()) * 24 * c * c + 4 * c * float(t @ keys)


def _pooled_flops(model: ModelConfig, t: np.ndarray) -> float:
    """The last block, forward, at the pooled position of each text alone."""
    return len(t) * 24 * model.n_embd**2 + _pooled_attention_flops(model, t)


def _pooled_attention_flops(model: ModelConfig, t: np.ndarray) -> float:
    """Its scores and weighted sums: each head attends with C channels (see `Attention.forward_pooled`)."""
    return 4.0 * model.n_head * model.n_embd * float(t.sum())


def _padded_length(context_length: int | str | None, model: ModelConfig, lengths: Lengths) -> int | None:
    """The positions that each text is cut or padded to; None without padding. As `tokens.context_positions`."""
    if context_length == "model_context_length":
        return model.n_positions
    if context_length == "longest_training_example":
        return min(int(lengths.train.max()), model.n_positions)
    return None if context_length is None else int(context_length)


def _attended_lengths(attended: str, context: int | None, lengths: np.ndarray) -> np.ndarray:
    """The positions of each text that are computed, int64 [N]. As `tokens.attend`."""
    if attended == "first":
        return np.ones_like(lengths)
    if context is None:
        return lengths
    if attended in ("real", "real_and_last"):
        return np.minimum(lengths + (attended == "real_and_last"), context)
    return np.full_like(lengths, context)


def _attended_keys(attended: str, context: int | None, lengths: np.ndarray) -> np.ndarray:
    """The positions of each text that others attend to, float64 [N]."""
    return _attended_lengths("real" if attended == "all_on_real" else attended, context, lengths).astype(float)

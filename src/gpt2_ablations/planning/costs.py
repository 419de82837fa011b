"""What a job computes, from its row's dimensions and the lengths of the texts. Nothing here imports torch.

FLOPs are those of the matrix products: 2 m n k for (m, k) times (k, n), and attention over the full square. What is not
computed is not counted: the other positions of the last block where only the pooled position is computed, and the
gradients of frozen weights. Bytes moved are the memory traffic beside the products, which dominates where batches are
small: weights, gradients, AdamW's moments and activations.

C is n_embd, H n_head, T the attended positions of a text. tests/planning/test_costs.py compares the FLOPs with those
that PyTorch counts while the real code runs.
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
    SPLITS,
    VOCABULARY_SIZE,
)
from ..settings.experiment import Experiment
from ..settings.feature_spec import FeatureSpec, tokens_per_shard
from ..settings.models import ModelConfig
from .resources import read_tokens, trained_parameters

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
        """The lengths of texts as `read_tokens` returns them."""
        distinct = {
            text.tobytes(): len(text) for name in SPLITS for text in np.split(ids[name], lengths[name].cumsum()[:-1])
        }
        train, validation, test = (lengths[name] for name in SPLITS)
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
    ids, lengths = (read_tokens(tokens_file, part) for part in ("ids", "lengths"))
    return expected_lengths() if ids is None or lengths is None else Lengths.of(ids, lengths)


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
        bytes_read, bytes_written: of files.
    """

    flops: float = 0.0
    bytes_moved: float = 0.0
    steps: float = 0.0
    further_blocks: float = 0.0
    passes: float = 0.0
    draws: float = 0.0
    bytes_read: float = 0.0
    bytes_written: float = 0.0


def feature_cost(spec: FeatureSpec, model: ModelConfig, config: Config, lengths: Lengths) -> Cost:
    """The cost of running the frozen layers over all distinct texts."""
    c = model.n_embd
    t = _attended_lengths(spec.attended, _padded_length(spec.context_length, model, lengths), lengths.distinct)
    positions = float(t.sum())
    block = _block_flops(c, t)
    final = spec.blocks == model.n_layer
    whole = spec.blocks - 1 if final else spec.blocks
    flops = whole * block
    if final:
        flops += block if spec.kept == "mean" else _pooled_flops(model, t)
    shards = math.ceil(positions / tokens_per_shard(model, config.features.max_memory_mb))
    weights = (VOCABULARY_SIZE + model.n_positions) * c + spec.blocks * 12 * c * c
    kept = positions if spec.kept == "all" else len(t)
    return Cost(
        flops=flops,
        bytes_moved=spec.blocks * 4 * c * positions * FORWARD_NUMBERS + shards * 4 * weights,
        passes=spec.blocks * max(shards, math.ceil(positions / CHUNK_TOKENS)),
        draws=0 if spec.seed is None else shards * weights,
        bytes_read=shards * 4 * weights if spec.seed is None else 0,
        bytes_written=4 * c * kept,
    )


def training_cost(experiment: Experiment, model: ModelConfig, config: Config, lengths: Lengths) -> Cost:
    """The cost of one training run with its evaluations; its features are counted by `feature_cost`."""
    c, batch = model.n_embd, experiment.batch_size
    context = _padded_length(None if experiment.no_padding else experiment.context_length, model, lengths)
    frozen = experiment.n_frozen_blocks(model.n_layer)
    blocks = model.n_layer - (frozen or 0)
    trained = trained_parameters(experiment, model)
    lora = experiment.trainable_layers == "lora"

    t = _attended_lengths(experiment.attended, context, lengths.train)
    steps_per_epoch = len(t) // batch
    steps, seen = experiment.num_epochs * steps_per_epoch, experiment.num_epochs * steps_per_epoch * batch
    updates = experiment.num_epochs * math.ceil(steps_per_epoch / experiment.accumulation_steps)

    mean = experiment.average_embeddings
    full_blocks = blocks if mean else max(0, blocks - 1)
    # Forward FLOPs of a text, on average: blocks at all positions, the last block at the pooled one, and the adapters.
    full = full_blocks * _block_flops(c, t) / len(t)
    last = _pooled_flops(model, t) / len(t) if blocks and not mean else 0.0
    attention = (
        full_blocks * 4 * c * _sum_of_squares(t) + (blocks > 0) * (not mean) * _pooled_attention_flops(model, t)
    ) / len(t)
    adapters = 0.0
    if lora:
        # In a block at all positions, A reads 9 C numbers and B writes 15 C (queries, keys and values form one diagonal
        # matrix). At the pooled position, keys and values pass through the adapters once per head.
        rank = 2 * c * experiment.lora_rank
        adapters = full_blocks * 24 * rank * float(t.mean()) + (not mean) * (18 + 2 * model.n_head) * rank
    forward = full + last + adapters
    # Backward: one product for the inputs' gradients and one for the weights'. LoRA leaves the weights' gradients out,
    # and hidden states from a feature file need no gradient.
    backward = 2 * (full + last + adapters)
    if lora:
        backward -= full + last - attention
    elif frozen is not None and blocks and not full_blocks:
        backward -= _pooled_attention_flops(model, t) / len(t)

    evaluations = math.ceil(steps / EVALUATE_EVERY) + experiment.num_epochs
    sample = batch * EVALUATION_BATCHES
    evaluated = evaluations * (min(sample, len(t)) + min(sample, len(lengths.validation))) + len(lengths.distinct)
    positions = float(t.mean())

    at_once = batch * (1 if frozen is None else experiment.accumulation_steps)
    micro_batches = steps / (experiment.accumulation_steps if frozen is not None else 1)
    micro_batches *= math.ceil(at_once / min(config.micro_batch_size or at_once, at_once))
    # Texts of different lengths attend one length at a time.
    uneven = 1 if context is not None and experiment.attended != "real" else 1 + 0.2 * min(at_once, 8)
    weights = blocks * 12 * c * c
    bytes_per_text = 4 * c * positions
    bytes_moved = (
        updates * ADAMW_BYTES * trained
        + micro_batches * 4 * (2 * weights + 2 * trained)
        + seen * bytes_per_text * (full_blocks * STEP_NUMBERS + POOLED_NUMBERS)
        + evaluated * bytes_per_text * (full_blocks * FORWARD_NUMBERS + POOLED_NUMBERS)
    )
    all_weights = (VOCABULARY_SIZE + model.n_positions) * c + model.n_layer * 12 * c * c
    pretrained = experiment.weights == "pretrained"
    loaded = 4 * (all_weights if frozen is None else weights)
    return Cost(
        flops=seen * (forward + backward) + evaluated * forward,
        bytes_moved=bytes_moved,
        steps=max(micro_batches, updates),
        further_blocks=micro_batches * max(0, blocks - 1) * uneven * (2 if lora else 1),
        passes=max(2 * evaluations, evaluated * positions / EVALUATION_TOKENS) * max(1, blocks * uneven),
        # Random weights are drawn in order: the frozen blocks are drawn too, to reach the trained ones.
        draws=0 if pretrained else all_weights,
        bytes_read=(loaded if pretrained else 0) + (0 if frozen is None else 4 * c * float(t.sum()) * bool(blocks)),
    )


def _block_flops(c: int, t: np.ndarray) -> float:
    """One block, forward, at all T positions of each text."""
    return float(t.sum()) * 24 * c * c + 4 * c * _sum_of_squares(t)


def _pooled_flops(model: ModelConfig, t: np.ndarray) -> float:
    """The last block, forward, at the pooled position of each text alone."""
    return len(t) * 24 * model.n_embd**2 + _pooled_attention_flops(model, t)


def _pooled_attention_flops(model: ModelConfig, t: np.ndarray) -> float:
    """Its scores and weighted sums: each head attends with C channels (see `Attention.forward_pooled`)."""
    return 4.0 * model.n_head * model.n_embd * float(t.sum())


def _sum_of_squares(t: np.ndarray) -> float:
    return float((t.astype(float) ** 2).sum())


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
    return np.minimum(lengths, context) if attended == "real" else np.full_like(lengths, context)

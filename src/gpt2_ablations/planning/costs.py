"""How much a row has to compute, from its own dimensions and the messages' lengths. Nothing here imports torch.

Operations are those of the matrix products: 2 m n k for (m, k) times (k, n), attention over the full square. What is
not computed is not counted: other positions of the last block when one is read, gradients of frozen weights. Bytes are
what passes through memory beside the products, where messages are few: weights, gradients, AdamW's moments and more.
C is n_embd, H n_head, T a message's attended positions. tests/planning/test_costs.py compares
the operations with what PyTorch counts while the real code runs.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..settings.config import Config, ModelConfig
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
from .resources import read_tokens, trained_parameters

# Numbers read and written for each position and channel beside the products: a block without a graph, one with its
# backward pass, and the last block where it computes one position.
FORWARD_NUMBERS, STEP_NUMBERS, READ_NUMBERS = 30, 120, 10
# Bytes that AdamW reads and writes for each weight: weight, gradient and two moments, and three of them again.
ADAMW_BYTES = 28


@dataclass(frozen=True)
class Lengths:
    """Tokens of each message, int64 [N] for each split, and of each different one; `known`: they are this run's own."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    different: np.ndarray
    known: bool = True

    @classmethod
    def of(cls, ids: dict[str, np.ndarray], lengths: dict[str, np.ndarray]) -> "Lengths":
        """Of messages as `read_tokens` gives them."""
        different = {
            message.tobytes(): len(message)
            for name in SPLITS
            for message in np.split(ids[name], lengths[name].cumsum()[:-1])
        }
        train, validation, test = (lengths[name] for name in SPLITS)
        return cls(train, validation, test, np.array(list(different.values())))


def expected_lengths() -> Lengths:
    """As the reference's messages have: 1,045, 149 and 300 of 31 tokens on average, the longest of training 120.

    1,388 of them differ.
    """

    def spread(number: int) -> np.ndarray:
        # Quantiles of an exponential distribution, as the real ones roughly are.
        quantiles = -np.log(1 - (np.arange(number) + 0.5) / number)
        lengths = np.minimum(np.rint(28 * quantiles) + 3, 120).astype(np.int64)
        lengths[-1] = 120
        return lengths

    return Lengths(spread(1045), spread(149), spread(300), spread(1388), known=False)


def read_lengths(tokens_file: Path) -> Lengths:
    """The messages' lengths from the tokenized splits; `expected_lengths` while they are not there."""
    ids, lengths = (read_tokens(tokens_file, part) for part in ("ids", "lengths"))
    return expected_lengths() if ids is None or lengths is None else Lengths.of(ids, lengths)


@dataclass(frozen=True)
class Cost:
    """What a job does.

    operations: of matrix products. moved: bytes. steps, blocks, passes: how often a training step, a further block of
    one, and a block without a graph are called, whatever their size. drawn: random weights. read, written: bytes of
    files.
    """

    operations: float = 0.0
    moved: float = 0.0
    steps: float = 0.0
    blocks: float = 0.0
    passes: float = 0.0
    drawn: float = 0.0
    read: float = 0.0
    written: float = 0.0


def feature_cost(spec: FeatureSpec, model: ModelConfig, config: Config, lengths: Lengths) -> Cost:
    """The frozen part of a row, over all messages that differ."""
    c = model.n_embd
    t = _attended(spec.attended, _context(spec.context_length, model, lengths), lengths.different)
    positions = float(t.sum())
    block = _block_operations(c, t)
    final = spec.blocks == model.n_layer
    whole = spec.blocks - 1 if final else spec.blocks
    operations = whole * block
    if final:
        operations += block if spec.kept == "mean" else _read_operations(model, t)
    shards = math.ceil(positions / tokens_per_shard(model, config.features.max_memory_mb))
    weights = (VOCABULARY_SIZE + model.n_positions) * c + spec.blocks * 12 * c * c
    kept = positions if spec.kept == "all" else len(t)
    return Cost(
        operations=operations,
        moved=spec.blocks * 4 * c * positions * FORWARD_NUMBERS + shards * 4 * weights,
        passes=spec.blocks * max(shards, math.ceil(positions / CHUNK_TOKENS)),
        drawn=0 if spec.seed is None else shards * weights,
        read=shards * 4 * weights if spec.seed is None else 0,
        written=4 * c * kept,
    )


def training_cost(experiment: Experiment, model: ModelConfig, config: Config, lengths: Lengths) -> Cost:
    """A row's training with its evaluations, its features being there."""
    c, batch = model.n_embd, experiment.batch_size
    context = _context(None if experiment.no_padding else experiment.context_length, model, lengths)
    frozen = experiment.n_frozen_blocks(model.n_layer)
    blocks = model.n_layer - (frozen or 0)
    trained = trained_parameters(experiment, model)
    lora = experiment.trainable_layers == "lora"

    t = _attended(experiment.attended, context, lengths.train)
    steps_an_epoch = len(t) // batch
    steps, seen = experiment.num_epochs * steps_an_epoch, experiment.num_epochs * steps_an_epoch * batch
    updates = experiment.num_epochs * math.ceil(steps_an_epoch / experiment.accumulation_steps)

    mean = experiment.average_embeddings
    full_blocks = blocks if mean else max(0, blocks - 1)
    # A message's forward pass, on average: whole blocks, the last block at one position, and the adapters.
    full = full_blocks * _block_operations(c, t) / len(t)
    last = _read_operations(model, t) / len(t) if blocks and not mean else 0.0
    attention = (
        full_blocks * 4 * c * _sum_of_squares(t) + (blocks > 0) * (not mean) * _read_attention(model, t)
    ) / len(t)
    adapters = 0.0
    if lora:
        # Of a whole block, A reads 9 C numbers and B writes 15 C (those of queries, keys and values as one diagonal
        # matrix); at one position, keys and values go through the adapters once a head.
        rank = 2 * c * experiment.lora_rank
        adapters = full_blocks * 24 * rank * float(t.mean()) + (not mean) * (18 + 2 * model.n_head) * rank
    forward = full + last + adapters
    # Backward: a product for the inputs' gradients and one for the weights'; adapters leave those as they are, and
    # hidden states from a file have no gradient.
    backward = 2 * (full + last + adapters)
    if lora:
        backward -= full + last - attention
    elif frozen is not None and blocks and not full_blocks:
        backward -= _read_attention(model, t) / len(t)

    evaluations = math.ceil(steps / EVALUATE_EVERY) + experiment.num_epochs
    messages = batch * EVALUATION_BATCHES
    evaluated = evaluations * (min(messages, len(t)) + min(messages, len(lengths.validation))) + len(lengths.different)
    positions = float(t.mean())

    at_once = batch * (1 if frozen is None else experiment.accumulation_steps)
    pieces = steps / (experiment.accumulation_steps if frozen is not None else 1)
    pieces *= math.ceil(at_once / min(config.micro_batch_size or at_once, at_once))
    # Messages of different lengths attend one length at a time.
    uneven = 1 if context is not None and experiment.attended != "real" else 1 + 0.2 * min(at_once, 8)
    weights = blocks * 12 * c * c
    each = 4 * c * positions
    moved = (
        updates * ADAMW_BYTES * trained
        + pieces * 4 * (2 * weights + 2 * trained)
        + seen * each * (full_blocks * STEP_NUMBERS + READ_NUMBERS)
        + evaluated * each * (full_blocks * FORWARD_NUMBERS + READ_NUMBERS)
    )
    all_weights = (VOCABULARY_SIZE + model.n_positions) * c + model.n_layer * 12 * c * c
    pretrained = experiment.weights == "pretrained"
    loaded = 4 * (all_weights if frozen is None else weights)
    return Cost(
        operations=seen * (forward + backward) + evaluated * forward,
        moved=moved,
        steps=max(pieces, updates),
        blocks=pieces * max(0, blocks - 1) * uneven * (2 if lora else 1),
        passes=max(2 * evaluations, evaluated * positions / EVALUATION_TOKENS) * max(1, blocks * uneven),
        # The lower blocks of random weights are drawn too, to get to the trained ones.
        drawn=0 if pretrained else all_weights,
        read=(loaded if pretrained else 0) + (0 if frozen is None else 4 * c * float(t.sum()) * bool(blocks)),
    )


def _block_operations(c: int, t: np.ndarray) -> float:
    """One block, forward, over messages of t positions each."""
    return float(t.sum()) * 24 * c * c + 4 * c * _sum_of_squares(t)


def _read_operations(model: ModelConfig, t: np.ndarray) -> float:
    """The last block, forward, where one position a message is computed."""
    return len(t) * 24 * model.n_embd**2 + _read_attention(model, t)


def _read_attention(model: ModelConfig, t: np.ndarray) -> float:
    """Its scores and weighted sums: each head attends with C channels (see `Attention.read`)."""
    return 4.0 * model.n_head * model.n_embd * float(t.sum())


def _sum_of_squares(t: np.ndarray) -> float:
    return float((t.astype(float) ** 2).sum())


def _context(context_length: int | str | None, model: ModelConfig, lengths: Lengths) -> int | None:
    """The positions that messages are cut and padded to; None without padding. As tokens.context_positions."""
    if context_length == "model_context_length":
        return model.n_positions
    if context_length == "longest_training_example":
        return min(int(lengths.train.max()), model.n_positions)
    return None if context_length is None else int(context_length)


def _attended(attended: str, context: int | None, lengths: np.ndarray) -> np.ndarray:
    """The positions of each message that are computed, int64 [N]. As tokens.attend."""
    if attended == "first":
        return np.ones_like(lengths)
    if context is None:
        return lengths
    return np.minimum(lengths, context) if attended == "real" else np.full_like(lengths, context)

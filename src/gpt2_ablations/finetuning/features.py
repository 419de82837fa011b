"""Features: the hidden states that enter a row's first trained layer, computed once over all examples.

The frozen layers run block by block: a block's weights are loaded, all examples of a shard go through it in chunks, and
the weights are dropped. Peak memory is one block, the hidden states of a shard, and the work on a chunk.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..common.torch_setup import autocast
from ..data.tokens import AttendedSplit, TokenizedSplit, attend, context_positions, first_copies
from ..gpt2.model import Block, PackedLayout, mean_pool, packed_layout
from ..gpt2.weights import Weights
from ..settings.constants import CHUNK_TOKENS, SPLITS
from ..settings.experiment import MEANS
from ..settings.feature_spec import FeatureSpec, tokens_per_shard
from ..settings.models import ModelConfig


@dataclass(frozen=True)
class FeatureSplit:
    """Features of one split. Equal examples share their hidden states.

    Attributes:
        hidden: float32 [n_kept, C].
        starts, lengths: int64 [N], where each example's kept positions lie in `hidden`.
        real_lengths: int64 [N], how many of its positions are not padding.
        labels: int64 [N].
    """

    hidden: Tensor
    starts: Tensor
    lengths: Tensor
    real_lengths: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Features:
    """Features of all splits, with what they cost: seconds, and the peak memory of their process in MiB.

    context: positions after padding; None without padding.
    identity, device: as `write_features` was given them; None for features that no file holds.
    """

    spec: FeatureSpec
    splits: dict[str, FeatureSplit]
    context: int | None
    seconds: float
    peak_memory_mb: float
    identity: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class FeatureLayout:
    """Every different example of the splits once, packed, shortest first, and where its features are kept.

    Attributes:
        ids: int64 [n_tokens].
        lengths, real_lengths: int64 [N_different], in packed order.
        pooled: int64 [N_different], in packed order; None where all positions are kept, or a mean.
        starts, kept_lengths: int64 [N], in split order.
        n_kept: positions kept in all.
        splits: the splits, cut and padded.
        context: positions after padding; None without padding.
    """

    ids: Tensor
    lengths: Tensor
    real_lengths: Tensor
    pooled: Tensor | None
    starts: Tensor
    kept_lengths: Tensor
    n_kept: int
    splits: dict[str, AttendedSplit]
    context: int | None


def lay_out_features(spec: FeatureSpec, model: ModelConfig, tokens: dict[str, TokenizedSplit]) -> FeatureLayout:
    """The layout of what `extract` computes.

    Raises:
        InputError: an example does not fit the model's positions.
    """
    context = context_positions(spec, tokens, model.n_positions)
    return lay_out_examples(spec, {name: attend(spec, tokens[name], context) for name in SPLITS}, context)


def lay_out_examples(spec: FeatureSpec, splits: dict[str, AttendedSplit], context: int | None) -> FeatureLayout:
    """As `lay_out_features`, of splits with any names that are already cut and padded.

    Args:
        context: positions after padding; None without padding.
    """
    lengths = torch.cat([split.lengths for split in splits.values()])
    real = torch.cat([split.real_lengths for split in splits.values()])
    examples = [ids for split in splits.values() for ids in split.ids.split(split.lengths.tolist())]
    # An example that occurs again, in whichever split, is computed once.
    first = first_copies(examples, real)
    different = first.unique()
    order = different[length_order(lengths[different], real[different] if spec.masks_padding else None)]
    kept = lengths if spec.kept == "all" else torch.ones_like(lengths)
    starts = torch.empty_like(kept)
    starts[order] = kept[order].cumsum(0) - kept[order]
    pooled = None if spec.kept == "all" else pooled_positions(spec.kept, lengths, real)
    return FeatureLayout(
        ids=torch.cat([examples[i] for i in order.tolist()]),
        lengths=lengths[order],
        real_lengths=real[order],
        pooled=None if pooled is None else pooled[order],
        starts=starts[first],
        kept_lengths=kept,
        n_kept=int(kept[order].sum()),
        splits=splits,
        context=context,
    )


def length_order(lengths: Tensor, n_keys: Tensor | None) -> Tensor:
    """The order in which examples of one length, and of as many keys, are adjacent: int64 [N], shortest first.

    No batch then needs padding.
    """
    return (lengths if n_keys is None else lengths * (int(lengths.max()) + 1) + n_keys).argsort(stable=True)


def pooled_positions(pooling: str, lengths: Tensor, real_lengths: Tensor) -> Tensor | None:
    """The pooled position of each example, int64 [N]; None for a mean.

    Args:
        pooling: as `Experiment.pooling`.
        lengths, real_lengths: int64 [N], positions of each example, and those that are not padding.
    """
    if pooling in MEANS:
        return None
    return {"first": torch.zeros_like(lengths), "last": lengths - 1, "flexible": real_lengths - 1}[pooling]


def extract(
    spec: FeatureSpec,
    model: ModelConfig,
    layout: FeatureLayout,
    open_weights: Callable[[], Weights],
    device: torch.device,
    max_memory_mb: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Tensor]:
    """Run the frozen layers, a shard of examples at a time.

    Args:
        open_weights: opens the weights for each shard.
        max_memory_mb: MiB that the hidden states of a shard and the work on a chunk may take.
        progress: called with blocks done and blocks in all.

    Yields: float32 [n, C] on the CPU, in packed order; all shards together have `layout.n_kept` positions.
    """
    shards = _cut(layout.lengths, tokens_per_shard(model, max_memory_mb))
    total = len(shards) * (spec.blocks + 1)
    first_token = 0
    for number, (first, last) in enumerate(shards):
        n_tokens = int(layout.lengths[first:last].sum())
        ids = layout.ids[first_token : first_token + n_tokens]
        first_token += n_tokens
        chunks, start = [], 0
        for begin, end in _cut(layout.lengths[first:last], CHUNK_TOKENS):
            examples = slice(first + begin, first + end)
            lengths, real = layout.lengths[examples], layout.real_lengths[examples]
            packed = packed_layout(
                lengths,
                None if layout.pooled is None else layout.pooled[examples],
                spec.causal,
                device,
                n_keys=real if spec.masks_padding else None,
                context=layout.context,
                n_averaged=real if spec.kept == "mean_of_real" else None,
            )
            positions = slice(start, start + int(lengths.sum()))
            chunks.append((positions, packed))
            start = positions.stop
        report = lambda done, number=number: progress(number * (spec.blocks + 1) + done, total)  # noqa: E731
        yield _run_shard(spec, model, ids, chunks, open_weights(), device, report)


def _cut(lengths: Tensor, n_tokens: int) -> list[tuple[int, int]]:
    """Ranges of examples of at most n_tokens positions each, or of one longer example."""
    ranges, first, held = [], 0, 0
    for index, length in enumerate(lengths.tolist()):
        if held and held + length > n_tokens:
            ranges.append((first, index))
            first, held = index, 0
        held += length
    return [*ranges, (first, len(lengths))]


# Of a shard: the positions of each chunk in it, and their layout.
Chunks = list[tuple[slice, PackedLayout]]


@torch.no_grad()
def _run_shard(
    spec: FeatureSpec,
    model: ModelConfig,
    ids: Tensor,
    chunks: Chunks,
    weights: Weights,
    device: torch.device,
    report: Callable[[int], None],
) -> Tensor:
    hidden = torch.empty(len(ids), model.n_embd, device=device)
    embeddings = weights.embeddings()
    for positions, layout in chunks:
        embedded = embeddings["wte.weight"][ids[positions]] + embeddings["wpe.weight"][layout.positions(ids.device)]
        hidden[positions] = embedded.to(device)
    del embeddings
    report(1)
    n_whole_blocks = spec.blocks - 1 if spec.blocks == model.n_layer else spec.blocks
    for index in range(n_whole_blocks):
        block = load_block(weights.block(index), index, model, device)
        with autocast(device, spec.precision):
            for positions, layout in chunks:
                if spec.precision == "bfloat16":
                    hidden[positions] = block(hidden[positions], layout)
                else:
                    block.forward_(hidden[positions], layout)
        report(index + 2)
    if spec.blocks < model.n_layer:
        return hidden.cpu()
    final = _final_hidden(spec, model, hidden, chunks, weights, device)
    report(spec.blocks + 1)
    return final.cpu()


def _final_hidden(
    spec: FeatureSpec, model: ModelConfig, hidden: Tensor, chunks: Chunks, weights: Weights, device: torch.device
) -> Tensor:
    """The last block and the final norm, at the pooled position or as the mean: [B, C]."""
    block = load_block(weights.block(model.n_layer - 1), model.n_layer - 1, model, device)
    norm = {name: tensor.to(device) for name, tensor in weights.final_norm().items()}

    def final_norm(x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[1:], norm["ln_f.weight"], norm["ln_f.bias"], eps=1e-5)

    vectors = []
    with autocast(device, spec.precision):
        for positions, layout in chunks:
            if layout.pooled is None:
                vectors.append(mean_pool(final_norm(block(hidden[positions], layout)), layout))
            else:
                vectors.append(final_norm(block.forward_pooled(hidden[positions], layout)))
    return torch.cat(vectors).float()


def load_block(tensors: dict[str, Tensor], index: int, model: ModelConfig, device: torch.device) -> Block:
    """A frozen block on its tensors, which are not copied."""
    with torch.device("meta"):
        block = Block(model.n_embd, model.n_head).requires_grad_(False)
    prefix = f"h.{index}."
    block.load_state_dict(
        {name.removeprefix(prefix): tensor.to(device) for name, tensor in tensors.items()}, assign=True
    )
    # oneDNN has no float64, in which the tests compare with the plain implementation.
    if device.type == "cpu" and block.mlp.c_fc.weight.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        block.mlp.pack()
    return block


def split_features(layout: FeatureLayout, hidden: Tensor) -> dict[str, FeatureSplit]:
    """Each split's view of the packed hidden states, [n_kept, C], which are shared and not copied."""
    counts = [len(split.labels) for split in layout.splits.values()]
    parts = zip(layout.starts.split(counts), layout.kept_lengths.split(counts), strict=True)
    return {
        name: FeatureSplit(hidden, starts, lengths, split.real_lengths, split.labels)
        for (name, split), (starts, lengths) in zip(layout.splits.items(), parts, strict=True)
    }

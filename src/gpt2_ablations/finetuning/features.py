"""The frozen part of a row, run once over all messages: hidden states that enter the first trained layer."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from ..common.errors import InputError
from ..common.files import write_whole
from ..common.hardware import peak_host_memory_mb
from ..common.tensor_files import safetensors_header, write_tensor
from ..common.torch_setup import autocast
from ..data.tokens import AttendedSplit, TokenizedSplit, attend, context_positions, first_copies
from ..gpt2.model import Block, Sequences, mean_pool, sequences
from ..gpt2.weights import Weights
from ..settings.config import ModelConfig
from ..settings.constants import CHUNK_TOKENS, SPLITS
from ..settings.feature_spec import FeatureSpec, tokens_per_shard


@dataclass(frozen=True)
class FeatureSplit:
    """Hidden states of one split: hidden [rows, C]; starts, lengths, real_lengths, labels: int64 [N].

    Messages that are the same share their rows.
    """

    hidden: Tensor
    starts: Tensor
    lengths: Tensor
    real_lengths: Tensor
    labels: Tensor


@dataclass(frozen=True)
class FeatureLayout:
    """Every different message of the splits once, packed, shortest first, and where each message's rows are kept.

    ids: int64 [n_tokens]; lengths, read: int64 [N_different] in packed order; starts, kept_lengths: int64 [N] in split
    order; rows: kept in all; splits: the attended splits; context: positions after padding, None without.
    """

    ids: Tensor
    lengths: Tensor
    read: Tensor | None
    starts: Tensor
    kept_lengths: Tensor
    rows: int
    splits: dict[str, AttendedSplit]
    context: int | None


def lay_out_features(spec: FeatureSpec, model: ModelConfig, tokens: dict[str, TokenizedSplit]) -> FeatureLayout:
    """Lay out what `extract` computes.

    Raises:
        InputError: a message does not fit the model's positions.
    """
    experiment = spec.experiment()
    context = context_positions(experiment, tokens, model.n_positions)
    return lay_out_examples(spec, {name: attend(experiment, tokens[name], context) for name in SPLITS}, context)


def lay_out_examples(spec: FeatureSpec, splits: dict[str, AttendedSplit], context: int | None) -> FeatureLayout:
    """As `lay_out_features`, of messages that are cut and padded already, under any names.

    Args:
        context: positions after padding, None without.
    """
    lengths = torch.cat([split.lengths for split in splits.values()])
    real = torch.cat([split.real_lengths for split in splits.values()])
    messages = [m for split in splits.values() for m in split.ids.split(split.lengths.tolist())]
    # A message that comes again, in whichever split, is computed once.
    first = first_copies(messages, real)
    different = first.unique()
    # Messages of one length stand side by side, so that nothing is ever padded to fill a batch.
    order = different[lengths[different].argsort(stable=True)]
    kept = lengths if spec.kept == "all" else torch.ones_like(lengths)
    starts = torch.empty_like(kept)
    starts[order] = kept[order].cumsum(0) - kept[order]
    read = None if spec.kept in ("all", "mean") else pooled_positions(spec.kept, lengths, real)
    return FeatureLayout(
        ids=torch.cat([messages[i] for i in order.tolist()]),
        lengths=lengths[order],
        read=None if read is None else read[order],
        starts=starts[first],
        kept_lengths=kept,
        rows=int(kept[order].sum()),
        splits=splits,
        context=context,
    )


def pooled_positions(position: str, lengths: Tensor, real_lengths: Tensor) -> Tensor | None:
    """The position read in each message, int64 [N]; None for the mean.

    Args:
        position: as `Experiment.pooling`.
        lengths, real_lengths: int64 [N], attended positions, and those of them that are not padding.
    """
    if position == "mean":
        return None
    return {"first": torch.zeros_like(lengths), "last": lengths - 1, "flexible": real_lengths - 1}[position]


def extract(
    spec: FeatureSpec,
    model: ModelConfig,
    plan: FeatureLayout,
    open_weights: Callable[[], Weights],
    device: torch.device,
    max_memory_mb: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Tensor]:
    """Run the frozen part, a shard of messages at a time, block by block.

    Args:
        open_weights: opens the weights again for each shard; only one block's are held at a time.
        max_memory_mb: what the hidden states of a shard and the work on a chunk may take.
        progress: called with blocks done and blocks in all.

    Yields: [rows, C] float32 on the CPU, in packed order; the rows of all shards are `plan.rows`.
    """
    shards = _cut(plan.lengths, tokens_per_shard(model, max_memory_mb))
    total = len(shards) * (spec.blocks + 1)
    first_token = 0
    for number, (first, last) in enumerate(shards):
        n_tokens = int(plan.lengths[first:last].sum())
        ids = plan.ids[first_token : first_token + n_tokens]
        first_token += n_tokens
        chunks, position = [], 0
        for begin, end in _cut(plan.lengths[first:last], CHUNK_TOKENS):
            lengths = plan.lengths[first + begin : first + end]
            read = None if plan.read is None else plan.read[first + begin : first + end]
            rows = slice(position, position + int(lengths.sum()))
            chunks.append((rows, sequences(lengths, read, spec.causal, device)))
            position = rows.stop
        report = lambda done, number=number: progress(number * (spec.blocks + 1) + done, total)  # noqa: E731
        yield _run_shard(spec, model, ids, chunks, open_weights(), device, report)


def _cut(lengths: Tensor, n_tokens: int) -> list[tuple[int, int]]:
    """Ranges of messages of at most n_tokens each, or of one longer message."""
    ranges, first, held = [], 0, 0
    for index, length in enumerate(lengths.tolist()):
        if held and held + length > n_tokens:
            ranges.append((first, index))
            first, held = index, 0
        held += length
    return [*ranges, (first, len(lengths))]


Chunks = list[tuple[slice, Sequences]]


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
    for rows, batch in chunks:
        positions = batch.positions(ids.device)
        hidden[rows] = (embeddings["wte.weight"][ids[rows]] + embeddings["wpe.weight"][positions]).to(device)
    del embeddings
    report(1)
    whole_blocks = spec.blocks - 1 if spec.blocks == model.n_layer else spec.blocks
    for index in range(whole_blocks):
        block = load_block(weights.block(index), index, model, device)
        with autocast(device, spec.precision):
            for rows, batch in chunks:
                if spec.precision == "bfloat16":
                    hidden[rows] = block(hidden[rows], batch)
                else:
                    block.forward_(hidden[rows], batch)
        report(index + 2)
    if spec.blocks < model.n_layer:
        return hidden.cpu()
    final = _final_hidden(spec, model, hidden, chunks, weights, device)
    report(spec.blocks + 1)
    return final.cpu()


def _final_hidden(
    spec: FeatureSpec, model: ModelConfig, hidden: Tensor, chunks: Chunks, weights: Weights, device: torch.device
) -> Tensor:
    """The last block and the final norm, at the position read or as the mean: [B, C]."""
    block = load_block(weights.block(model.n_layer - 1), model.n_layer - 1, model, device)
    norm = {name: tensor.to(device) for name, tensor in weights.final_norm().items()}

    def final_norm(x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[1:], norm["ln_f.weight"], norm["ln_f.bias"], eps=1e-5)

    vectors = []
    with autocast(device, spec.precision):
        for rows, batch in chunks:
            if batch.rows is None:
                vectors.append(mean_pool(final_norm(block(hidden[rows], batch)), batch))
            else:
                vectors.append(final_norm(block.read(hidden[rows], batch)))
    return torch.cat(vectors).float()


def load_block(tensors: dict[str, Tensor], index: int, model: ModelConfig, device: torch.device) -> Block:
    """A frozen block on its tensors, which are used as they are, not copied."""
    with torch.device("meta"):
        block = Block(model.n_embd, model.n_head).requires_grad_(False)
    prefix = f"h.{index}."
    block.load_state_dict(
        {name.removeprefix(prefix): tensor.to(device) for name, tensor in tensors.items()}, assign=True
    )
    # oneDNN knows no float64, in which the tests compare with the plain implementation.
    if device.type == "cpu" and block.mlp.c_fc.weight.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        block.mlp.pack()
    return block


def split_features(plan: FeatureLayout, hidden: Tensor) -> dict[str, FeatureSplit]:
    """Give each split its part of the packed hidden states, [rows, C], which is shared and not copied."""
    counts = [len(split.labels) for split in plan.splits.values()]
    parts = zip(plan.starts.split(counts), plan.kept_lengths.split(counts), strict=True)
    return {
        name: FeatureSplit(hidden, starts, lengths, split.real_lengths, split.labels)
        for (name, split), (starts, lengths) in zip(plan.splits.items(), parts, strict=True)
    }


_TENSORS = ("starts", "lengths", "real_lengths", "labels")


def write_features(
    path: str | Path, spec: FeatureSpec, model: ModelConfig, plan: FeatureLayout, shards: Iterator[Tensor]
) -> None:
    """Write a feature file as its shards come, and rename it when it is whole.

    The file is safetensors: `hidden` [rows, C] float32, and for each split its `starts`, `lengths`, `real_lengths` and
    `labels`, int64 [N]. The metadata holds the identity's settings, `context_length`, `seconds` and `peak_memory_mb`.
    """
    started = time.perf_counter()
    empty = torch.empty(0, model.n_embd)
    small = {
        f"{name}.{part}": getattr(split, part).contiguous()
        for name, split in split_features(plan, empty).items()
        for part in _TENSORS
    }
    with write_whole(path) as partial, open(partial, "wb") as file:
        # The header comes first but holds the seconds: it is written again, with room to spare, at the end.
        size = len(_header(spec, plan, model, small, 0.0, 0.0))
        file.write(b" " * size)
        for tensor in small.values():
            write_tensor(file, tensor)
        for shard in shards:
            write_tensor(file, shard)
            # Let go of it before the next one is computed: two would take twice features.max_memory_mb.
            del shard
        header = _header(spec, plan, model, small, time.perf_counter() - started, peak_host_memory_mb())
        file.seek(0)
        file.write(header.ljust(size))
        file.flush()


def _header(
    spec: FeatureSpec, plan: FeatureLayout, model: ModelConfig, small: dict[str, Tensor], seconds: float, peak_mb: float
) -> bytes:
    metadata = {
        "spec": json.dumps(asdict(spec)),
        "context_length": json.dumps(plan.context),
        "seconds": f"{seconds:015.3f}",
        "peak_memory_mb": f"{peak_mb:015.1f}",
    }
    tensors = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in small.items()}
    return safetensors_header(tensors | {"hidden": (torch.float32, (plan.rows, model.n_embd))}, metadata)


@dataclass(frozen=True)
class Features:
    """A row's frozen part, computed: the splits, and what it cost."""

    spec: FeatureSpec
    splits: dict[str, FeatureSplit]
    context: int | None
    seconds: float
    peak_memory_mb: float


def read_features(path: str | Path) -> Features:
    """Map a feature file.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            hidden = file.get_tensor("hidden")
            splits = {
                name: FeatureSplit(hidden, *(file.get_tensor(f"{name}.{part}") for part in _TENSORS)) for name in SPLITS
            }
        return Features(
            spec=FeatureSpec(**json.loads(metadata["spec"])),
            splits=splits,
            context=json.loads(metadata["context_length"]),
            seconds=float(metadata["seconds"]),
            peak_memory_mb=float(metadata["peak_memory_mb"]),
        )
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make it with `snakemake --cores all extract_features`") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a whole feature file ({' '.join(str(error).split())}); delete it and run again"
        ) from None

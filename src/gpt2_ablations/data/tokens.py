"""Texts as token ids: tokenized splits, and the positions that a row computes."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..common.errors import InputError
from ..common.logs import logger
from ..settings.constants import PAD_TOKEN, SPLITS
from ..settings.feature_spec import Row
from .fit import too_long


@dataclass(frozen=True)
class TokenizedSplit:
    """The N examples of one split, neither cut nor padded; their tokens are packed, one example after the other.

    Attributes:
        ids: int64 [sum of lengths].
        lengths: tokens of each example, int64 [N].
        labels: int64 [N].
    """

    ids: Tensor
    lengths: Tensor
    labels: Tensor


@dataclass(frozen=True)
class AttendedSplit:
    """The N examples of one split, cut and padded, and reduced to the positions that a row computes; packed.

    Attributes:
        ids: int64 [sum of lengths].
        lengths: computed positions of each example, int64 [N].
        real_lengths: computed positions of each example that are not padding, int64 [N].
        labels: int64 [N].
    """

    ids: Tensor
    lengths: Tensor
    real_lengths: Tensor
    labels: Tensor


def load_tokens(path: str | Path) -> dict[str, TokenizedSplit]:
    """Read the token file.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        tensors = load_file(path)
        return {
            name: TokenizedSplit(*(tensors[f"{name}.{part}"].long() for part in ("ids", "lengths", "labels")))
            for name in SPLITS
        }
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make it with `snakemake --cores all tokenize`") from None
    except (SafetensorError, KeyError):
        raise InputError(f"{path}: damaged; delete it and run `snakemake --cores all tokenize`") from None


def context_positions(experiment: Row, splits: dict[str, TokenizedSplit], n_positions: int) -> int | None:
    """The context length in positions, to which each example is cut or padded; None without padding.

    Args:
        experiment: the row, or what its frozen layers compute.
        splits: by name.
        n_positions: of the model.

    Raises:
        InputError: an example that is not cut has more tokens than the model has positions.
    """
    longest = {name: int(split.lengths.max()) for name, split in splits.items()}
    if problem := too_long(experiment, n_positions, longest):
        raise InputError(problem)
    if experiment.no_padding:
        return None
    if experiment.context_length == "model_context_length":
        return n_positions
    if experiment.context_length == "longest_training_example":
        return longest["train"]
    assert isinstance(experiment.context_length, int)
    return experiment.context_length


def attend(experiment: Row, split: TokenizedSplit, context: int | None) -> AttendedSplit:
    """Cut and pad each example, and keep the positions that the row computes.

    Args:
        experiment: the row, or what its frozen layers compute; its `attended` says which positions are computed.
        split: the examples.
        context: as `context_positions` returns it.
    """
    real = split.lengths if context is None else split.lengths.clamp(max=context)
    if experiment.attended == "first":
        lengths = torch.ones_like(real)
        real = lengths
    elif experiment.attended == "real" or context is None:
        lengths = real
    elif experiment.attended == "real_and_last":
        lengths = (real + 1).clamp(max=context)
    else:
        lengths = torch.full_like(real, context)
    ids = torch.full((int(lengths.sum()),), PAD_TOKEN, dtype=torch.int64)
    ends, split_ends = lengths.cumsum(0), split.lengths.cumsum(0)
    for index in range(len(lengths)):
        start, split_start = int(ends[index] - lengths[index]), int(split_ends[index] - split.lengths[index])
        kept = int(real[index])
        ids[start : start + kept] = split.ids[split_start : split_start + kept]
    return AttendedSplit(ids=ids, lengths=lengths, real_lengths=real, labels=split.labels)


def first_copies(examples: Iterable[Tensor], real_lengths: Tensor) -> Tensor:
    """For each of N examples, the index of the first example that is equal to it: int64 [N].

    Args:
        examples: the token ids of each example's computed positions, int64.
        real_lengths: how many of them are not padding, int64 [N].
    """
    seen: dict[tuple[bytes, int], int] = {}
    keys = zip((ids.numpy().tobytes() for ids in examples), real_lengths.tolist(), strict=True)
    return torch.tensor([seen.setdefault(key, index) for index, key in enumerate(keys)], dtype=torch.int64)


def report_cut_examples(tokens: dict[str, TokenizedSplit], context: int | None) -> None:
    """Print how many examples of each split are cut to the context."""
    for name, split in tokens.items():
        cut = 0 if context is None else int((split.lengths > context).sum())
        if cut:
            logger.info(f"{cut} of {len(split.labels)} {name} examples are cut to {context} tokens")

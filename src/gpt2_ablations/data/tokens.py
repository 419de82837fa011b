"""Messages as token ids, packed one behind the other, and the positions of each that a row attends to."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ..common.errors import InputError
from ..common.files import write_whole
from ..settings.constants import PAD_TOKEN, SPLITS
from ..settings.experiment import Experiment

VOCABULARY_SIZE = 50257
Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class TokenizedSplit:
    """The messages of one split: uncut, unpadded, packed.

    ids: int64 [sum of lengths]; lengths: int64 [N]; labels: int64 [N].
    """

    ids: Tensor
    lengths: Tensor
    labels: Tensor


@dataclass(frozen=True)
class AttendedSplit:
    """The positions of each message that can reach a row's loss, packed.

    ids: int64 [sum of lengths]; lengths: int64 [N] attended positions;
    real_lengths: int64 [N] of them that are not padding; labels: int64 [N].
    """

    ids: Tensor
    lengths: Tensor
    real_lengths: Tensor
    labels: Tensor


def first_copies(messages: Iterable[Tensor], real_lengths: Tensor) -> Tensor:
    """For each message the number of the first that is the same, itself or an earlier one: int64 [N].

    Args:
        messages: each one's attended token ids, int64.
        real_lengths: int64 [N], how many of them are not padding.
    """
    seen: dict[tuple[bytes, int], int] = {}
    keys = zip((ids.numpy().tobytes() for ids in messages), real_lengths.tolist(), strict=True)
    return torch.tensor([seen.setdefault(key, number) for number, key in enumerate(keys)], dtype=torch.int64)


def tokenizer(name: str, folder: str | Path) -> Encode:
    """A function from text to a list of token ids: the GPT-2 BPE, or one token a UTF-8 byte."""
    if name == "bytes":
        return lambda text: list(text.encode("utf-8"))
    from tiktoken import Encoding
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks
    from tiktoken_ext.openai_public import ENDOFTEXT, r50k_pat_str

    vocabulary, encoder = Path(folder) / "vocab.bpe", Path(folder) / "encoder.json"
    for file in (vocabulary, encoder):
        if not file.is_file():
            raise InputError(f"{file}: no such file; make it with `snakemake --cores all fetch_tokenizer`")
    # tiktoken's own get_encoding would copy the two files into a cache under hashed names.
    ranks = data_gym_to_mergeable_bpe_ranks(str(vocabulary), str(encoder))
    encoding = Encoding(
        "gpt2",
        explicit_n_vocab=VOCABULARY_SIZE,
        pat_str=r50k_pat_str,
        mergeable_ranks=ranks,
        special_tokens={ENDOFTEXT: PAD_TOKEN},
    )
    return encoding.encode_ordinary


def tokenize_splits(
    splits: dict[str, tuple[list[int], list[str]]], encode: Callable[[str], list[int]]
) -> dict[str, TokenizedSplit]:
    """Token ids of every message.

    Args:
        splits: labels and texts by split name.
        encode: as `tokenizer` gives.

    Raises:
        InputError: a message has no token.
    """
    tokenized = {}
    for name, (labels, texts) in splits.items():
        messages = [encode(text) for text in texts]
        for index, message in enumerate(messages):
            if not message:
                raise InputError(f"{name}.csv: message {index} is empty; give it a text or remove the line")
        tokenized[name] = TokenizedSplit(
            ids=torch.tensor([token for message in messages for token in message], dtype=torch.int64),
            lengths=torch.tensor([len(message) for message in messages], dtype=torch.int64),
            labels=torch.tensor(labels, dtype=torch.int64),
        )
    return tokenized


def save_tokens(splits: dict[str, TokenizedSplit], path: str | Path) -> None:
    """Write tokenized splits as safetensors (int32 ids and lengths, uint8 labels)."""
    tensors = {}
    for name, split in splits.items():
        tensors[f"{name}.ids"] = split.ids.to(torch.int32)
        tensors[f"{name}.lengths"] = split.lengths.to(torch.int32)
        tensors[f"{name}.labels"] = split.labels.to(torch.uint8)
    with write_whole(path) as partial:
        # save_file would write to a temporary name of its own, which a killed process leaves behind.
        partial.write_bytes(save(tensors))


def load_tokens(path: str | Path) -> dict[str, TokenizedSplit]:
    """Read what `save_tokens` wrote.

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


def context_positions(experiment: Experiment, splits: dict[str, TokenizedSplit], n_positions: int) -> int | None:
    """The number of positions each message is cut and padded to; None without padding.

    Raises:
        InputError: a message, or the longest training message, has more tokens than the model has positions.
    """
    if experiment.no_padding:
        for name, split in splits.items():
            index = int(split.lengths.argmax())
            if split.lengths[index] > n_positions:
                raise InputError(
                    f"{name}.csv: message {index} has {split.lengths[index]} tokens and no_padding never cuts;"
                    f" {experiment.model_size} has {n_positions} positions; shorten the message or drop no_padding"
                )
        return None
    if experiment.context_length == "model_context_length":
        return n_positions
    if experiment.context_length == "longest_training_example":
        longest = int(splits["train"].lengths.max())
        if longest > n_positions:
            raise InputError(
                f"train.csv: the longest message has {longest} tokens; {experiment.model_size} has {n_positions}"
                f" positions; set context_length to an integer up to {n_positions}"
            )
        return longest
    assert isinstance(experiment.context_length, int)
    return experiment.context_length


def attend(experiment: Experiment, split: TokenizedSplit, context: int | None) -> AttendedSplit:
    """Cut and pad each message as the row does, and keep the positions it attends to.

    Args:
        context: as `context_positions` gives.
    """
    real = split.lengths if context is None else split.lengths.clamp(max=context)
    if experiment.attended == "first":
        lengths = torch.ones_like(real)
        real = lengths
    elif experiment.attended == "real" or context is None:
        lengths = real
    else:
        lengths = torch.full_like(real, context)
    ids = torch.full((int(lengths.sum()),), PAD_TOKEN, dtype=torch.int64)
    ends, sources = lengths.cumsum(0), split.lengths.cumsum(0)
    for index in range(len(lengths)):
        start, source = int(ends[index] - lengths[index]), int(sources[index] - split.lengths[index])
        kept = int(real[index])
        ids[start : start + kept] = split.ids[source : source + kept]
    return AttendedSplit(ids=ids, lengths=lengths, real_lengths=real, labels=split.labels)

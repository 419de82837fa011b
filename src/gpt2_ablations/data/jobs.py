"""The jobs on the data: fetch the examples and the tokenizer, split the examples, tokenize the splits."""

import sys

from ..settings.config import Config
from ..settings.constants import SPLITS
from ..settings.paths import Paths
from .dataset import read_split, split_messages


def fetch_dataset(config: Config) -> None:
    """Download the file of examples, or copy a local one.

    Raises:
        InputError: no source provides the file, or it cannot be written.
    """
    from .download import fetch_messages

    fetch_messages(config.dataset.sources, Paths(config.results).messages, config.dataset.sha256)


def fetch_tokenizer_files(config: Config) -> None:
    """Download the two files of the GPT-2 BPE, or copy local ones.

    Raises:
        InputError: as `fetch_dataset`.
    """
    from .download import fetch_tokenizer

    fetch_tokenizer(config.tokenizer.sources, Paths(config.results).tokenizer)


def split_dataset(config: Config) -> None:
    """Write the three splits.

    Raises:
        InputError: the messages file is missing, or is no table of labels and texts.
    """
    paths = Paths(config.results)
    counts = split_messages(paths.messages, paths.messages.parent, config.dataset.format)
    print(", ".join(f"{count} {name}" for name, count in counts.items()), "examples", file=sys.stderr)


def tokenize_dataset(config: Config) -> None:
    """Write the token ids of the three splits.

    Raises:
        InputError: a split or the tokenizer is missing or damaged.
    """
    from .tokens import load_tokenizer, save_tokens, tokenize_splits  # imports torch, which splitting does not need

    paths = Paths(config.results)
    encode = load_tokenizer(config.tokenizer.name, paths.tokenizer)
    tokens = tokenize_splits({name: read_split(paths.split(name)) for name in SPLITS}, encode)
    save_tokens(tokens, paths.tokens)
    longest = ", ".join(f"{name} {int(split.lengths.max())}" for name, split in tokens.items())
    print(f"longest example in tokens: {longest}", file=sys.stderr)

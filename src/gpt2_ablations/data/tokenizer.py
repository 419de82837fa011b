"""The tokenizer, and the job that turns the splits into token ids. Nothing here imports torch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from ..common.errors import InputError
from ..common.files import write_whole
from ..common.logs import logger
from ..settings.config import Config
from ..settings.constants import PAD_TOKEN, SPLITS, VOCABULARY_SIZE
from ..settings.paths import Paths
from .dataset import read_split
from .provenance import tokens_made_from

# From a text to its token ids.
Encode = Callable[[str], list[int]]


def tokenize(config: Config) -> None:
    """Write the token ids of the three splits to a safetensors file.

    It holds `SPLIT.ids` (all texts, one after the other) and `SPLIT.lengths` (tokens of each text) as int32 and
    `SPLIT.labels` as uint8. Its metadata states what the tokens are made from.

    Raises:
        InputError: a split or the tokenizer is missing or damaged, or a text has no token.
    """
    paths = Paths(config.results)
    encode = load_tokenizer(config.tokenizer.name, paths.tokenizer)
    tensors, longest = {}, []
    for name in SPLITS:
        labels, texts = read_split(paths.split(name))
        examples = [encode(text) for text in texts]
        if [] in examples:
            raise InputError(f"{name}.csv: example {examples.index([])} is empty; give it a text or remove the line")
        lengths = [len(ids) for ids in examples]
        tensors[f"{name}.ids"] = np.array([token for ids in examples for token in ids], dtype=np.int32)
        tensors[f"{name}.lengths"] = np.array(lengths, dtype=np.int32)
        tensors[f"{name}.labels"] = np.array(labels, dtype=np.uint8)
        longest.append(f"{name} {max(lengths)}")
    with write_whole(paths.tokens) as partial:
        # save_file would write to its own temporary file, which would remain if the process were killed.
        partial.write_bytes(save(tensors, {"made_from": tokens_made_from(config) or ""}))
    logger.info(f"longest example in tokens: {', '.join(longest)}")


def load_tokenizer(name: str, folder: str | Path) -> Encode:
    """Load a tokenizer.

    Args:
        name: `gpt2`, or `bytes` for one token per byte of UTF-8.
        folder: holds `vocab.bpe` and `encoder.json`; not used by `bytes`.

    Returns: a function from a text to its token ids.

    Raises:
        InputError: a file of the tokenizer is missing.
    """
    if name == "bytes":
        return lambda text: list(text.encode("utf-8"))
    from tiktoken import Encoding
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks
    from tiktoken_ext.openai_public import ENDOFTEXT, r50k_pat_str

    vocabulary, encoder = Path(folder) / "vocab.bpe", Path(folder) / "encoder.json"
    for file in (vocabulary, encoder):
        if not file.is_file():
            raise InputError(f"{file}: no such file; make it with `snakemake --cores all fetch_tokenizer`")
    # tiktoken.get_encoding would copy the two files into its cache.
    ranks = data_gym_to_mergeable_bpe_ranks(str(vocabulary), str(encoder))
    encoding = Encoding(
        "gpt2",
        explicit_n_vocab=VOCABULARY_SIZE,
        pat_str=r50k_pat_str,
        mergeable_ranks=ranks,
        special_tokens={ENDOFTEXT: PAD_TOKEN},
    )
    return encoding.encode_ordinary

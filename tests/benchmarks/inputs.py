"""The data that the benchmarks run on: the real data set if it is present, otherwise random tokens of like lengths."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from gpt2_ablations.cli import main
from gpt2_ablations.settings.constants import PAD_TOKEN
from tests.conftest import CHECKOUT, SHARED, write_yaml

ALL_EXAMPLES = {"train": 1045, "validation": 149, "test": 300}
LONGEST, MEAN = 120, 31


def prepare(folder: Path) -> Path:
    """A results folder with tokenized splits and a configuration for the command line. It is created once."""
    results = folder / "results"
    tokens = results / "dataset" / "tokens.safetensors"
    if tokens.exists():
        return results
    real = (SHARED / "real").is_dir()
    override = {"results": str(results), "device": "cpu"}
    if real:
        override["dataset"] = {"sources": [str(SHARED / "real" / "sms_spam_collection.zip")]}
        override["tokenizer"] = {"sources": [str(SHARED / "real" / "tokenizer")]}
    files = [str(CHECKOUT / "config" / "config.yaml"), str(write_yaml(results / "config.yaml", override))]
    if real:
        for command in ("fetch-messages", "fetch-tokenizer", "split-messages", "tokenize"):
            assert main([command, "--config", *files]) == 0
    else:
        write_tokens(tokens, ALL_EXAMPLES)
    return results


def write_tokens(path: Path, examples: dict[str, int]) -> None:
    """Random tokens in examples with lengths like the real ones: 31 on average, 120 at most."""
    random = np.random.default_rng(0)
    tensors = {}
    for name, number in examples.items():
        lengths = np.clip(random.exponential(MEAN, number) + 3, 3, LONGEST).astype(np.int32)
        lengths[0] = LONGEST
        tensors[f"{name}.lengths"] = lengths
        tensors[f"{name}.ids"] = random.integers(0, PAD_TOKEN, lengths.sum(), dtype=np.int32)
        tensors[f"{name}.labels"] = (np.arange(number) % 2).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)

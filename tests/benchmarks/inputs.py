"""The data that the benchmarks run on: the real data set if it is present, otherwise random tokens of like lengths."""

from pathlib import Path

import torch

from gpt2_ablations.cli import main
from gpt2_ablations.data.tokens import TokenizedSplit, save_tokens
from tests.conftest import CHECKOUT, SHARED, write_yaml

SIZES = {"train": 1045, "validation": 149, "test": 300}
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
        save_tokens(generated_tokens(), tokens)
    return results


def generated_tokens() -> dict[str, TokenizedSplit]:
    """Random tokens in examples with lengths like the real ones: 31 tokens on average, 120 at most."""
    generator = torch.Generator().manual_seed(0)
    splits = {}
    for name, n in SIZES.items():
        lengths = (torch.empty(n).exponential_(1 / MEAN, generator=generator).long() + 3).clamp(max=LONGEST)
        lengths[0] = LONGEST
        ids = torch.randint(0, 50256, (int(lengths.sum()),), generator=generator)
        splits[name] = TokenizedSplit(ids, lengths, torch.arange(n) % 2)
    return splits

"""The inputs of the parity suites: scaled-down weights, and the synthetic splits.

The traces of the reference were made on these very bytes; numpy's RandomState streams are frozen, so they
are the same everywhere. Weights have the names and layouts of the Hugging Face GPT-2 files.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from gpt2_ablations.data.tokenizer import tokenize
from gpt2_ablations.settings.config import Config, load_config
from gpt2_ablations.settings.models import model_folder
from tests.conftest import CHECKOUT, write_yaml

# The reference's name: file stem, n_embd, n_layer, n_head.
MODELS = {
    "gpt2-small (124M)": ("tiny-small", 64, 4, 4),
    "gpt2-medium (355M)": ("tiny-medium", 96, 5, 6),
    "gpt2-large (774M)": ("tiny-large", 80, 6, 5),
    "gpt2-xl (1558M)": ("tiny-xl", 100, 7, 5),
}
N_POSITIONS = {"synthetic": 128, "real": 1024}
SPLITS = {"train": (203, 57), "validation": (41, 70), "test": (60, 64)}  # messages, longest in characters
SPAM = ["win", "free", "prize", "claim", "txt", "cash", "urgent", "0800", "call", "now", "won", "$$", "offer"]
HAM = ["ok", "later", "home", "love", "dinner", "see", "you", "soon", "work", "bus", "lol", "meeting", "mum", "thanks"]


def model_entries(suite: str, folder: Path) -> dict[str, dict]:
    """The models file of a suite whose weights are in `folder`."""
    return {
        name: {
            "n_layer": n_layer,
            "n_head": n_head,
            "n_embd": n_embd,
            "n_positions": N_POSITIONS[suite],
            "source": str(folder / f"{stem}.safetensors"),
        }
        for name, (stem, n_embd, n_layer, n_head) in MODELS.items()
    }


def write_synthetic(folder: Path) -> None:
    """Write the synthetic suite: three splits and four files of weights with 128 positions."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.RandomState(2024)
    for name, (messages, longest) in SPLITS.items():
        drawn = [_message(generator, longest) for _ in range(messages)]
        pd.DataFrame(drawn, columns=["Label", "Text"]).to_csv(folder / f"{name}.csv", index=False)
    write_weights(folder, N_POSITIONS["synthetic"])


def _message(generator: np.random.RandomState, longest: int) -> tuple[int, str]:
    label = int(generator.randint(2))
    text = ""
    while True:
        words = SPAM if generator.rand() < 0.35 + 0.3 * label else HAM
        text += (" " if text else "") + words[generator.randint(len(words))]
        if len(text) >= generator.randint(6, longest):
            return label, text[:longest]


def synthetic_config(folder: Path, **override: object) -> Config:
    """The configuration of a project in `folder` whose synthetic splits, weights and tokens the jobs find in place."""
    results = folder / "results"
    write_synthetic(results / "dataset")
    for name, (stem, *_) in MODELS.items():
        file = results / "weights" / model_folder(name) / "model.safetensors"
        file.parent.mkdir(parents=True)
        (results / "dataset" / f"{stem}.safetensors").rename(file)
    models = write_yaml(folder / "models.yaml", model_entries("synthetic", folder))
    content = {"results": str(results), "models": str(models), "tokenizer": {"name": "bytes"}} | override
    config = load_config([CHECKOUT / "config" / "config.yaml", write_yaml(folder / "config.yaml", content)])
    tokenize(config)
    return config


def write_weights(folder: Path, n_positions: int) -> None:
    """Write the four scaled-down weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (stem, n_embd, n_layer, _) in enumerate(MODELS.values(), start=100):
        save_file(_weights_of(seed, n_embd, n_layer, n_positions), folder / f"{stem}.safetensors")


def _weights_of(seed: int, c: int, n_layer: int, n_positions: int) -> dict[str, np.ndarray]:
    generator = np.random.RandomState(seed)

    def draw(*shape: int, scale: float) -> np.ndarray:
        return (generator.standard_normal(shape) * scale).astype(np.float32)

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}.weight": 1 + draw(c, scale=0.1), f"{name}.bias": draw(c, scale=0.05)}

    def linear(name: str, n_in: int, n_out: int, gain: float) -> dict[str, np.ndarray]:
        weight = draw(n_in, n_out, scale=gain / np.sqrt(c))
        return {f"{name}.weight": weight, f"{name}.bias": draw(n_out, scale=0.05)}

    tensors = {"wte.weight": draw(50257, c, scale=0.3), "wpe.weight": draw(n_positions, c, scale=0.1)}
    for h in (f"h.{index}" for index in range(n_layer)):
        tensors |= norm(f"{h}.ln_1")
        tensors |= linear(f"{h}.attn.c_attn", c, 3 * c, 1.2) | linear(f"{h}.attn.c_proj", c, c, 0.7)
        tensors |= norm(f"{h}.ln_2")
        tensors |= linear(f"{h}.mlp.c_fc", c, 4 * c, 1.0) | linear(f"{h}.mlp.c_proj", 4 * c, c, 0.5)
    return tensors | norm("ln_f")

"""GPT-2 weights, a part at a time: from a safetensors file, which is mapped, or drawn from a seed."""

import math
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ..settings.constants import VOCABULARY_SIZE
from ..settings.models import ModelConfig
from .weight_files import WeightFile, block_shapes


class Weights(Protocol):
    """Weights by part, read from the lowest to the highest. Names are those of `Classifier`'s parameters."""

    def embeddings(self) -> dict[str, Tensor]: ...

    def block(self, index: int) -> dict[str, Tensor]: ...

    def final_norm(self) -> dict[str, Tensor]: ...


class PretrainedWeights(WeightFile):
    """Pretrained weights: a safetensors file, which is mapped.

    Half-precision tensors are read as float32. The file is opened for each part, so that its pages are unmapped when
    the part's tensors are dropped.

    Raises:
        InputError: as `WeightFile`.
    """

    def _tensors(self, names: list[str]) -> dict[str, Tensor]:
        with self.open("pt") as file:
            return {name: file.get_tensor(self.stored[name]).float() for name in names}

    def embeddings(self) -> dict[str, Tensor]:
        return self._tensors(["wte.weight", "wpe.weight"])

    def block(self, index: int) -> dict[str, Tensor]:
        return self._tensors([f"h.{index}.{name}" for name in block_shapes(self.model.n_embd)])

    def final_norm(self) -> dict[str, Tensor]:
        return self._tensors(["ln_f.weight", "ln_f.bias"])


class RandomWeights:
    """Weights drawn from a seed in the reference's order, with PyTorch's default initialisation.

    A part that is read out of order is drawn from the start of the stream again.
    """

    def __init__(self, model: ModelConfig, seed: int):
        self.model, self.seed = model, seed
        self._restart()

    def _restart(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)
        self._next_block = -1

    def embeddings(self) -> dict[str, Tensor]:
        self._restart()
        self._next_block = 0
        sizes = {"wte.weight": VOCABULARY_SIZE, "wpe.weight": self.model.n_positions}
        return {
            name: nn.init.normal_(torch.empty(rows, self.model.n_embd), generator=self._generator)
            for name, rows in sizes.items()
        }

    def block(self, index: int) -> dict[str, Tensor]:
        if index < self._next_block or self._next_block < 0:
            self.embeddings()
        # The random numbers of the blocks below come first.
        for _ in range(self._next_block, index):
            self._draw_linears()
        self._next_block = index + 1
        return self._as_block(index, self._draw_linears())

    def final_norm(self) -> dict[str, Tensor]:
        c = self.model.n_embd
        return {"ln_f.weight": torch.ones(c), "ln_f.bias": torch.zeros(c)}

    def _draw_linears(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of a block's query, key, value, output projection, feed-forward in and out."""
        c = self.model.n_embd
        sizes = [(c, c)] * 4 + [(c, 4 * c), (4 * c, c)]
        return [draw_linear(n_in, n_out, self._generator) for n_in, n_out in sizes]

    def _as_block(self, index: int, linears: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        c = self.model.n_embd
        qkv, others = linears[:3], dict(zip(("attn.c_proj", "mlp.c_fc", "mlp.c_proj"), linears[3:], strict=True))
        block = {f"{norm}.{part}": fill(c) for norm in ("ln_1", "ln_2") for part, fill in NORM_START.items()}
        block["attn.c_attn.weight"] = torch.cat([weight for weight, _ in qkv], dim=1)
        block["attn.c_attn.bias"] = torch.cat([bias for _, bias in qkv])
        for name, (weight, bias) in others.items():
            block[f"{name}.weight"], block[f"{name}.bias"] = weight.contiguous(), bias
        return {f"h.{index}.{name}": tensor for name, tensor in block.items()}


NORM_START = {"weight": torch.ones, "bias": torch.zeros}


def draw_linear(n_in: int, n_out: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """PyTorch's default linear layer: its weight, drawn as [out, in] and viewed as [in, out], and its bias [out]."""
    weight = nn.init.kaiming_uniform_(torch.empty(n_out, n_in), a=math.sqrt(5), generator=generator)
    bound = 1 / math.sqrt(n_in)
    return weight.t(), nn.init.uniform_(torch.empty(n_out), -bound, bound, generator=generator)


def open_weights(source: str, model: ModelConfig, file: Path, seed: int | None) -> Weights:
    """The weights that a model starts from.

    Args:
        source: `pretrained`, in `file`; or `random`, drawn from `seed`.

    Raises:
        InputError: as `PretrainedWeights`.
    """
    if source == "pretrained":
        return PretrainedWeights(file, model)
    assert seed is not None
    return RandomWeights(model, seed)

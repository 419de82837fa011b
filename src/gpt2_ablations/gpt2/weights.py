"""GPT-2 weights, a part at a time: from a safetensors file, which is mapped, or drawn from a seed."""

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..common.errors import InputError
from ..settings.constants import VOCABULARY_SIZE
from ..settings.models import ModelConfig

# Causal masks, which some files hold, and the output layer, which is the token embedding.
NOT_WEIGHTS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight")
FLOATS = {"F16", "BF16", "F32", "F64"}


class Weights(Protocol):
    """Weights by part, read from the lowest to the highest. Names are those of `Classifier`'s parameters."""

    def embeddings(self) -> dict[str, Tensor]: ...

    def block(self, index: int) -> dict[str, Tensor]: ...

    def final_norm(self) -> dict[str, Tensor]: ...


def block_shapes(c: int) -> dict[str, tuple[int, ...]]:
    """Name, without its `h.N.` prefix, and shape of every tensor of a block."""
    return {
        "ln_1.weight": (c,),
        "ln_1.bias": (c,),
        "attn.c_attn.weight": (c, 3 * c),
        "attn.c_attn.bias": (3 * c,),
        "attn.c_proj.weight": (c, c),
        "attn.c_proj.bias": (c,),
        "ln_2.weight": (c,),
        "ln_2.bias": (c,),
        "mlp.c_fc.weight": (c, 4 * c),
        "mlp.c_fc.bias": (4 * c,),
        "mlp.c_proj.weight": (4 * c, c),
        "mlp.c_proj.bias": (c,),
    }


def weight_shapes(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of a GPT-2 of these dimensions, in the order of data flow."""
    c = model.n_embd
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (VOCABULARY_SIZE, c), "wpe.weight": (model.n_positions, c)}
    for index in range(model.n_layer):
        shapes |= {f"h.{index}.{name}": shape for name, shape in block_shapes(c).items()}
    return shapes | {"ln_f.weight": (c,), "ln_f.bias": (c,)}


class PretrainedWeights:
    """Pretrained weights: a safetensors file in the layout of the Hugging Face GPT-2 files.

    Names may have the prefix `transformer.`. Half-precision tensors are read as float32. The file is opened for each
    part, so that its pages are unmapped when the part's tensors are dropped.

    Raises:
        InputError: the file is missing or damaged, or a tensor is missing, extra, of another shape or type.
    """

    def __init__(self, path: str | Path, model: ModelConfig):
        self.path, self.model = Path(path), model
        with self._open() as file:
            stored = list(file.keys())
            prefix = "transformer." if any(name.startswith("transformer.") for name in stored) else ""
            self._stored = {name: prefix + name for name in weight_shapes(model)}
            expected = set(self._stored.values())
            missing = [name for name in self._stored.values() if name not in stored]
            extra = sorted(n for n in stored if n not in expected and not NOT_WEIGHTS.fullmatch(n.removeprefix(prefix)))
            if missing or extra:
                kind, names = ("lacks", missing) if missing else ("has an extra", extra)
                more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
                raise InputError(
                    f"{path}: {kind} tensor '{names[0]}'{more}; expected a GPT-2 of {model.n_layer} blocks; use the"
                    " file that belongs to this model"
                )
            for name, shape in weight_shapes(model).items():
                tensor = file.get_slice(self._stored[name])
                if tuple(tensor.get_shape()) != shape:
                    raise InputError(
                        f"{path}: tensor '{self._stored[name]}' has shape {list(tensor.get_shape())}, expected"
                        f" {list(shape)}; use the file that belongs to this model"
                    )
                if tensor.get_dtype() not in FLOATS:
                    raise InputError(
                        f"{path}: tensor '{self._stored[name]}' has type {tensor.get_dtype()}; allowed: floating point"
                    )

    def _open(self):
        try:
            return safe_open(self.path, framework="pt")
        except FileNotFoundError:
            raise InputError(f"{self.path}: no such file; make it with `snakemake --cores all fetch_weights`") from None
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{self.path}: not a whole safetensors file ({' '.join(str(error).split())});"
                " delete it and fetch it again"
            ) from None

    def _tensors(self, names: list[str]) -> dict[str, Tensor]:
        with self._open() as file:
            return {name: file.get_tensor(self._stored[name]).float() for name in names}

    def embeddings(self) -> dict[str, Tensor]:
        return self._tensors(["wte.weight", "wpe.weight"])

    def block(self, index: int) -> dict[str, Tensor]:
        return self._tensors([f"h.{index}.{name}" for name in block_shapes(self.model.n_embd)])

    def final_norm(self) -> dict[str, Tensor]:
        return self._tensors(["ln_f.weight", "ln_f.bias"])


def check_pretrained_weights(path: str | Path, model: ModelConfig) -> None:
    """Read all weights of a file.

    Raises:
        InputError: as `PretrainedWeights`, or a tensor holds a number that is not finite.
    """
    weights = PretrainedWeights(path, model)
    parts: list[Callable[[], dict[str, Tensor]]] = [weights.embeddings, weights.final_norm]
    parts += [partial(weights.block, index) for index in range(model.n_layer)]
    for part in parts:
        for name, tensor in part().items():
            if not tensor.isfinite().all():
                raise InputError(f"{path}: tensor '{name}' holds NaN or infinity; fetch the file again")


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

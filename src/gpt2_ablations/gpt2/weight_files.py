"""The layout of a GPT-2 weight file, and whether a file has it. torch is imported for bfloat16 files only."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors import SafetensorError, safe_open

from ..common.errors import InputError
from ..settings.constants import VOCABULARY_SIZE
from ..settings.models import ModelConfig

# Causal masks, which some files hold, and the output layer, which is the token embedding.
NOT_WEIGHTS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight")
FLOATS = {"F16", "BF16", "F32", "F64"}


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


class WeightFile:
    """A safetensors file in the layout of the Hugging Face GPT-2 files. Names may have the prefix `transformer.`.

    Attributes:
        path, model: the file and the model that it belongs to.
        stored: the name of each weight in the file, by its name in `weight_shapes`.
        types: of the weights, such as `F32`.

    Raises:
        InputError: the file is missing or damaged, or a tensor is missing, extra, of another shape or type.
    """

    def __init__(self, path: str | Path, model: ModelConfig):
        self.path, self.model = Path(path), model
        self.types: set[str] = set()
        with self.open("numpy") as file:
            names = list(file.keys())
            prefix = "transformer." if any(name.startswith("transformer.") for name in names) else ""
            self.stored = {name: prefix + name for name in weight_shapes(model)}
            expected = set(self.stored.values())
            missing = [name for name in self.stored.values() if name not in names]
            extra = sorted(n for n in names if n not in expected and not NOT_WEIGHTS.fullmatch(n.removeprefix(prefix)))
            if missing or extra:
                kind, wrong = ("lacks", missing) if missing else ("has an extra", extra)
                more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
                raise InputError(
                    f"{path}: {kind} tensor '{wrong[0]}'{more}; expected a GPT-2 of {model.n_layer} blocks; use the"
                    " file that belongs to this model"
                )
            for name, shape in weight_shapes(model).items():
                tensor = file.get_slice(self.stored[name])
                if tuple(tensor.get_shape()) != shape:
                    raise InputError(
                        f"{path}: tensor '{self.stored[name]}' has shape {list(tensor.get_shape())}, expected"
                        f" {list(shape)}; use the file that belongs to this model"
                    )
                if tensor.get_dtype() not in FLOATS:
                    raise InputError(
                        f"{path}: tensor '{self.stored[name]}' has type {tensor.get_dtype()}; allowed: floating point"
                    )
                self.types.add(tensor.get_dtype())

    def open(self, framework: str) -> Any:
        """The open file, whose tensors are of a framework as safetensors names it."""
        try:
            return safe_open(self.path, framework=framework)
        except FileNotFoundError:
            raise InputError(f"{self.path}: no such file; make it with `snakemake --cores all fetch_weights`") from None
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{self.path}: not a whole safetensors file ({' '.join(str(error).split())});"
                " delete it and fetch it again"
            ) from None


def check_pretrained_weights(path: str | Path, model: ModelConfig) -> None:
    """Read all weights of a file.

    Raises:
        InputError: as `WeightFile`, or a tensor holds a number that is not finite.
    """
    weights = WeightFile(path, model)
    framework, isfinite = "numpy", cast(Callable, np.isfinite)
    if "BF16" in weights.types:
        import torch

        framework, isfinite = "pt", torch.isfinite
    for name, stored in weights.stored.items():
        # Opened for each tensor, so that its pages are unmapped when it is dropped.
        with weights.open(framework) as file:
            if not isfinite(file.get_tensor(stored)).all():
                raise InputError(f"{path}: tensor '{name}' holds NaN or infinity; fetch the file again")

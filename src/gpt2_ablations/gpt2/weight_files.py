"""The layout of a GPT-2 weight file, and whether a file has it. torch is imported for bfloat16 files only."""

import contextlib
import re
import zipfile
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


# The first bytes of files that people take for a safetensors file.
BEGINNINGS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; fetch that with `git lfs pull`",
    b"GGUF": "a GGUF file; use the safetensors file of the same model",
    b"\x89HDF": "an HDF5 file, as TensorFlow writes it; use the safetensors file of the same model",
}
# Tensors are cloned, because safetensors refuses those that share memory.
CONVERT_PICKLE = (
    'python -c "import torch; from safetensors.torch import save_file; save_file({k: v.clone() for k, v in'
    " torch.load('pytorch_model.bin', weights_only=True).items()}, 'model.safetensors')\""
)


class WeightFile:
    """A safetensors file in the layout of the Hugging Face GPT-2 files.

    Names may have a prefix, such as `transformer.`. Tensors without it, such as the head of an exported classifier, are
    then not used.

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
            prefix = self._prefix(names)
            self.stored = {name: prefix + name for name in weight_shapes(model)}
            expected = set(self.stored.values())
            inside = [name for name in names if name.startswith(prefix)]
            missing = [name for name in self.stored.values() if name not in names]
            extra = sorted(n for n in inside if n not in expected and not NOT_WEIGHTS.fullmatch(n.removeprefix(prefix)))
            if missing or extra:
                kind, wrong = ("lacks", missing) if missing else ("has an extra", extra)
                more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
                hint = _hint(names, file.metadata() or {}) or "use the file that belongs to this model"
                raise InputError(
                    f"{path}: {kind} tensor '{wrong[0]}'{more}; expected a GPT-2 of {model.n_layer} blocks; {hint}"
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

    def _prefix(self, names: list[str]) -> str:
        """The part of the names before those of `weight_shapes`."""
        prefixes = [name.removesuffix("wte.weight") for name in names if re.search(r"(^|\.)wte\.weight$", name)]
        if len(prefixes) > 1:
            found = ", ".join(f"'{prefix}'" for prefix in prefixes)
            raise InputError(f"{self.path}: holds {len(prefixes)} models, with the prefixes {found}; keep one of them")
        return prefixes[0] if prefixes else ""

    def open(self, framework: str) -> Any:
        """The open file, whose tensors are of a framework as safetensors names it."""
        try:
            return safe_open(self.path, framework=framework)
        except FileNotFoundError:
            raise InputError(f"{self.path}: no such file; make it with `snakemake --cores all fetch_weights`") from None
        except (SafetensorError, OSError) as error:
            if kind := _other_format(self.path):
                raise InputError(f"{self.path}: {kind}") from None
            raise InputError(
                f"{self.path}: not a whole safetensors file ({' '.join(str(error).split())});"
                " delete it and fetch it again"
            ) from None


def _hint(names: list[str], metadata: dict[str, str]) -> str | None:
    """What a file is that holds the tensors of no GPT-2, and what to do; None if that is not known."""
    if any("lora_" in name for name in names):
        return "it holds LoRA adapters; merge them into their model, with `merge_and_unload()` of peft, and save that"
    if "format_version" in metadata:
        return "it is the saved model of a row, which holds the trained layers alone; `export` writes the whole model"
    return None


def _other_format(path: Path) -> str | None:
    """What a file is that is no safetensors file, and what to do; None if that is not known. Nothing is unpickled."""
    with contextlib.suppress(OSError, zipfile.BadZipFile):
        with open(path, "rb") as file:
            beginning = file.read(32)
        # PyTorch writes a zip around the pickle; before version 1.6, a pickle of protocol 2.
        zipped = beginning.startswith(b"PK") and any(n.endswith("/data.pkl") for n in zipfile.ZipFile(path).namelist())
        if zipped or beginning.startswith(b"\x80\x02"):
            return f"a pickle, which could run code and is not read; convert a file that you trust: {CONVERT_PICKLE}"
        return next((kind for bytes_, kind in BEGINNINGS.items() if beginning.startswith(bytes_)), None)
    return None


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

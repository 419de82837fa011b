"""Export: writes a run's whole model as a folder that the transformers library loads.

The head of GPT2ForSequenceClassification has no bias. The trained head's bias b moves into the final norm: a vector d
with W^T d = b is added to `ln_f.bias`, so that the head gives W^T (h + d) = W^T h + b. LoRA's matrices are merged into
the weights.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.files import write_text_whole, write_whole
from ..common.logs import logger
from ..common.tensor_files import safetensors_header, write_tensor
from ..data.download.fetch import TOKENIZER_FILES
from ..gpt2.model import BLOCK_LAYERS
from ..gpt2.weight_files import block_shapes, weight_shapes
from ..runs.saved_model import SavedModel
from ..settings.constants import PAD_TOKEN, VOCABULARY_SIZE
from ..settings.paths import MODEL_FILE, Paths
from .export_readme import export_readme, why_no_pipeline
from .saved_models import open_base_weights

PREFIX = "transformer."
HEAD = "score.weight"
END_OF_TEXT = "<|endoftext|>"


def export(saved: SavedModel, tensors: dict[str, Tensor], paths: Paths, folder: Path) -> None:
    """Write config.json, model.safetensors, the tokenizer's files and a README.md that shows how to use the model.

    Warns if a pipeline of transformers gives other labels than `predict`.

    Args:
        saved: the saved model's settings.
        tensors: its trained tensors, by name.
        paths: of the results folder, which holds the base weights and the tokenizer.
        folder: a folder that is new or empty.

    Raises:
        InputError: the folder is not empty, the base weights or the tokenizer are missing, or the head's bias cannot
            be moved.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: already exists and is not an empty folder; name another folder")
    vocabulary = {} if saved.tokenizer == "bytes" else _tokenizer_files(saved, paths)
    shapes = {PREFIX + name: shape for name, shape in weight_shapes(saved.model).items()}
    shapes[HEAD] = (len(saved.labels), saved.model.n_embd)
    with write_whole(folder / MODEL_FILE) as partial, open(partial, "wb") as file:
        header = {name: (torch.float32, shape) for name, shape in shapes.items()}
        file.write(safetensors_header(header, {"format": "pt"}))
        for expected, (name, tensor) in zip(shapes, exported_tensors(saved, tensors, paths), strict=True):
            assert expected == name and shapes[name] == tuple(tensor.shape), (expected, name)
            write_tensor(file, tensor)
    for name, text in vocabulary.items():
        write_text_whole(folder / name, text)
    write_text_whole(folder / "config.json", json.dumps(_config(saved), indent=2, ensure_ascii=False) + "\n")
    write_text_whole(folder / "README.md", export_readme(saved))
    if reason := why_no_pipeline(saved):
        logger.warning(
            f"{folder}: do not use a pipeline of transformers with this model ({reason}), its labels would differ from"
            " those of predict; use the code in README.md"
        )


def exported_tensors(saved: SavedModel, tensors: dict[str, Tensor], paths: Paths) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and value, float32, of every tensor of the exported model, in the order of data flow.

    Only one block of base weights is in memory at a time.

    Args:
        saved, tensors, paths: as for `export`.

    Raises:
        InputError: the base weights are missing, or the head's bias cannot be moved.
    """
    model = saved.model
    weights = open_base_weights(saved, paths)
    base = weights.embeddings() if weights else {}
    for name in ("wte.weight", "wpe.weight"):
        yield PREFIX + name, (base | tensors)[name]
    for index in range(model.n_layer):
        names = [f"h.{index}.{name}" for name in block_shapes(model.n_embd)]
        base = weights.block(index) if weights and not tensors.keys() >= set(names) else {}
        for name in names:
            yield PREFIX + name, _merge_lora(saved, name, base | tensors)
    base = weights.final_norm() if weights else {}
    head = _merge_lora(saved, "head.weight", tensors).t().contiguous()
    bias = (base | tensors)["ln_f.bias"].double() + _norm_bias_of(head, tensors["head.bias"])
    yield PREFIX + "ln_f.weight", (base | tensors)["ln_f.weight"]
    yield PREFIX + "ln_f.bias", bias.float()
    yield HEAD, head


def _merge_lora(saved: SavedModel, name: str, tensors: dict[str, Tensor]) -> Tensor:
    """Return a tensor, with LoRA's product added if it has one: W + factor * A B, for each adapted group of columns."""
    layer = name.removesuffix(".weight")
    if f"{layer}.lora_a" not in tensors or not name.endswith(".weight"):
        return tensors[name]
    lora_b = tensors[f"{layer}.lora_b"].double()  # (groups, rank, out / groups)
    lora_a = tensors[f"{layer}.lora_a"].double().chunk(len(lora_b), dim=1)  # groups of (in, rank)
    merged = tensors[name].to(torch.float64, copy=True)
    groups = BLOCK_LAYERS.get(re.sub(r"^h\.\d+\.", "", layer), (layer,))
    columns = zip(groups, merged.chunk(len(groups), dim=1), strict=True)
    adapted = [part for group, part in columns if saved.experiment.adapts(group)]
    for part, a, b in zip(adapted, lora_a, lora_b, strict=True):
        part += saved.experiment.lora_factor * (a @ b)
    return merged.float()


def _norm_bias_of(head: Tensor, bias: Tensor) -> Tensor:  # (2, C), (2,) -> (C,) float64
    """Return the shortest d with head @ d = bias, which replaces the head's bias when the final norm adds it."""
    d = torch.linalg.pinv(head.double()) @ bias.double()
    if not torch.allclose(head.double() @ d, bias.double(), rtol=0, atol=1e-9):
        raise InputError(
            "export: the weight vectors of the head's two classes are parallel, so its bias cannot be moved into the"
            " final norm; train the row with another seed"
        )
    return d


def _config(saved: SavedModel) -> dict:
    model, labels = saved.model, dict(enumerate(saved.labels))
    experiment = saved.experiment
    padded = saved.context is not None and experiment.computes_padding
    pools_last_token = experiment.causal and experiment.attended != "first" and not padded
    return {
        "architectures": ["GPT2ForSequenceClassification"],
        "model_type": "gpt2",
        "vocab_size": VOCABULARY_SIZE,
        "n_positions": model.n_positions,
        "n_embd": model.n_embd,
        "n_layer": model.n_layer,
        "n_head": model.n_head,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "bos_token_id": PAD_TOKEN,
        "eos_token_id": PAD_TOKEN,
        # transformers pools the last token that is not this one; if it is null, the last position.
        "pad_token_id": PAD_TOKEN if pools_last_token and not experiment.average_embeddings else None,
        "problem_type": "single_label_classification",
        "id2label": {str(index): label for index, label in labels.items()},
        "label2id": {label: index for index, label in labels.items()},
        "dtype": "float32",
        "tie_word_embeddings": False,
        "use_cache": False,
    }


def _tokenizer_files(saved: SavedModel, paths: Paths) -> dict[str, str]:
    """Return the texts of the BPE's two files and of tokenizer_config.json, by the file names of transformers."""
    files = {}
    for name, library_name, _ in TOKENIZER_FILES:
        file = paths.tokenizer / name
        if not file.is_file():
            raise InputError(f"{file}: no such file; make it with `snakemake --cores all fetch_tokenizer`")
        files[library_name] = file.read_text(encoding="utf-8")
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": saved.context or saved.model.n_positions,
        **{f"{role}_token": END_OF_TEXT for role in ("bos", "eos", "unk", "pad")},
    }
    return files | {"tokenizer_config.json": json.dumps(settings, indent=2) + "\n"}

"""Writes a run's whole model as a folder that the transformers library loads.

GPT2ForSequenceClassification's head has no bias, so ours moves into the final norm: `ln_f.bias` gets a vector d with
W^T d = b, and the head then gives W^T (h + d) = W^T h + b. LoRA's products are added to the weights.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.files import write_text_whole, write_whole
from ..common.tensor_files import safetensors_header, write_tensor
from ..data.download.fetch import TOKENIZER_FILES
from ..gpt2.weights import block_shapes, weight_shapes
from ..runs.saved_model import SavedModel
from ..settings.constants import PAD_TOKEN, VOCABULARY_SIZE
from ..settings.paths import MODEL_FILE, Paths
from .export_readme import export_readme
from .saved_models import open_base_weights

PREFIX = "transformer."
HEAD = "score.weight"
END_OF_TEXT = "<|endoftext|>"


def export(saved: SavedModel, tensors: dict[str, Tensor], paths: Paths, folder: Path) -> None:
    """Write config.json, model.safetensors, the tokenizer's files and a README.md that says how to read it.

    Args:
        tensors: the kept ones, by name.
        folder: a new or empty one.

    Raises:
        InputError: the folder is not empty, or the base weights or the tokenizer are not there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is there already and not an empty folder; name another one")
    vocabulary = {} if saved.tokenizer == "bytes" else _tokenizer_files(saved, paths)
    shapes = {PREFIX + name: shape for name, shape in weight_shapes(saved.model).items()}
    shapes[HEAD] = (len(saved.labels), saved.model.n_embd)
    written = whole_model(saved, tensors, paths)
    with write_whole(folder / MODEL_FILE) as partial, open(partial, "wb") as file:
        header = {name: (torch.float32, shape) for name, shape in shapes.items()}
        file.write(safetensors_header(header, {"format": "pt"}))
        for expected, (name, tensor) in zip(shapes, written, strict=True):
            assert expected == name and shapes[name] == tuple(tensor.shape), (expected, name)
            write_tensor(file, tensor)
    for name, text in vocabulary.items():
        write_text_whole(folder / name, text)
    write_text_whole(folder / "config.json", json.dumps(_config(saved), indent=2, ensure_ascii=False) + "\n")
    write_text_whole(folder / "README.md", export_readme(saved))


def whole_model(saved: SavedModel, tensors: dict[str, Tensor], paths: Paths) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the exported file, float32, in the order of data flow; a block at a time is held."""
    model = saved.model
    base = None if saved.experiment.trainable_layers == "all" else open_base_weights(saved, paths)
    began = base.embeddings() if base else {}
    for name in ("wte.weight", "wpe.weight"):
        yield PREFIX + name, (began | tensors)[name]
    for index in range(model.n_layer):
        names = [f"h.{index}.{name}" for name in block_shapes(model.n_embd)]
        began = base.block(index) if base and not tensors.keys() >= set(names) else {}
        for name in names:
            yield PREFIX + name, _merged(saved, name, began | tensors)
    began = base.final_norm() if base else {}
    head = _merged(saved, "head.weight", tensors).t().contiguous()
    bias = (began | tensors)["ln_f.bias"].double() + _in_front_of_head(head, tensors["head.bias"])
    yield PREFIX + "ln_f.weight", (began | tensors)["ln_f.weight"]
    yield PREFIX + "ln_f.bias", bias.float()
    yield HEAD, head


def _merged(saved: SavedModel, name: str, tensors: dict[str, Tensor]) -> Tensor:
    """A tensor with LoRA's product, if it has one: W + alpha * A B, a group of columns at a time."""
    layer = name.removesuffix(".weight")
    if f"{layer}.lora_a" not in tensors or not name.endswith(".weight"):
        return tensors[name]
    lora_b = tensors[f"{layer}.lora_b"].double()  # (groups, rank, out / groups)
    lora_a = tensors[f"{layer}.lora_a"].double().chunk(len(lora_b), dim=1)
    product = torch.cat([a @ b for a, b in zip(lora_a, lora_b, strict=True)], dim=1)
    return (tensors[name].double() + saved.experiment.lora_alpha * product).float()


def _in_front_of_head(head: Tensor, bias: Tensor) -> Tensor:
    """The smallest d, [C] float64, with head @ d = bias. head: [2, C]; bias: [2]."""
    d = torch.linalg.pinv(head.double()) @ bias.double()
    if not torch.allclose(head.double() @ d, bias.double(), rtol=0, atol=1e-9):
        raise InputError(
            "export: the head's two columns point in one direction, so its bias cannot be moved into the final norm;"
            " train the row with another seed"
        )
    return d


def _config(saved: SavedModel) -> dict:
    model, labels = saved.model, dict(enumerate(saved.labels))
    reads_last_real = saved.experiment.causal and saved.experiment.attended != "first" and not _padded(saved)
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
        # transformers reads the last token that is not this one; without it, the last of all.
        "pad_token_id": PAD_TOKEN if reads_last_real and not saved.experiment.average_embeddings else None,
        "problem_type": "single_label_classification",
        "id2label": {str(index): label for index, label in labels.items()},
        "label2id": {label: index for index, label in labels.items()},
        "dtype": "float32",
        "tie_word_embeddings": False,
        "use_cache": False,
    }


def _padded(saved: SavedModel) -> bool:
    return saved.context is not None and saved.experiment.attended == "all"


def _tokenizer_files(saved: SavedModel, paths: Paths) -> dict[str, str]:
    """The BPE's two files under the library's names, and their settings: text by file name."""
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

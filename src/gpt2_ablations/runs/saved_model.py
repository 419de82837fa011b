"""The layers that a run has trained, kept in one safetensors file with all that classifying with them needs.

The file holds every trained tensor, float32, under the classifier's names (LoRA's matrices and the head among them).
Its metadata holds the settings; what is frozen is in the weights of which it names the sha256, or drawn from the seed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..common.errors import InputError
from ..common.tensor_files import safetensors_header, write_tensor
from ..settings.config import DIMENSIONS, ModelConfig
from ..settings.experiment import Experiment, make_experiment
from ..settings.validation import input_error

FORMAT_VERSION = "1"


@dataclass(frozen=True)
class SavedModel:
    """What a kept file says of itself.

    weights_sha256: of the pretrained weights; None if random ones were drawn from the seed.
    context: positions that messages are cut and padded to; None without padding.
    labels: the names of class 0 and of class 1.
    """

    row: str
    seed: int
    experiment: Experiment
    model: ModelConfig
    weights_sha256: str | None
    context: int | None
    tokenizer: str
    labels: tuple[str, str]
    precision: str

    def metadata(self) -> dict[str, str]:
        """The metadata of a file: JSON by name."""
        values = {
            "row": self.row,
            "seed": self.seed,
            "experiment": asdict(self.experiment),
            "model_name": self.experiment.model_size,
            "model": self.model.dimensions,
            "weights_sha256": self.weights_sha256,
            "context_length": self.context,
            "tokenizer": self.tokenizer,
            "labels": list(self.labels),
            "precision": self.precision,
        }
        return {"format_version": FORMAT_VERSION} | {
            name: json.dumps(value, ensure_ascii=False) for name, value in values.items()
        }


def write_saved_model(path: Path, saved: SavedModel, trained: Mapping[str, Tensor]) -> None:
    """Write trained tensors, float32, as they come."""
    shapes = {name: (torch.float32, tuple(tensor.shape)) for name, tensor in trained.items()}
    with open(path, "wb") as file:
        file.write(safetensors_header(shapes, saved.metadata()))
        for tensor in trained.values():
            write_tensor(file, tensor.detach().float())


def read_saved_model(path: Path) -> tuple[SavedModel, dict[str, Tensor]]:
    """What a kept file says of itself, and its tensors, mapped.

    Raises:
        InputError: the file is missing, damaged, of another kind or version, or lacks a tensor.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
        version = metadata.get("format_version")
        if version != FORMAT_VERSION:
            raise InputError(
                f"{path}: format_version is {version!r}; allowed: '{FORMAT_VERSION}'; name a file that"
                " `keep_models: true` has made"
            )
        said = {name: json.loads(text) for name, text in metadata.items()}
        saved = _saved_model(path, said)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make it with `keep_models: true`") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a whole file of kept layers ({' '.join(str(error).split())}); delete it and run the row again"
        ) from None
    return saved, tensors


def _saved_model(path: Path, said: dict[str, Any]) -> SavedModel:
    try:
        # Where the frozen weights lie is the configuration's to say.
        model = ModelConfig(**said["model"], source=str(path))
    except ValidationError as error:
        raise input_error(error, f"{path}: model", DIMENSIONS) from None
    class_0, class_1 = said["labels"]
    return SavedModel(
        row=said["row"],
        seed=said["seed"],
        experiment=make_experiment(said["experiment"], f"{path}: experiment"),
        model=model,
        weights_sha256=said["weights_sha256"],
        context=said["context_length"],
        tokenizer=said["tokenizer"],
        labels=(class_0, class_1),
        precision=said["precision"],
    )

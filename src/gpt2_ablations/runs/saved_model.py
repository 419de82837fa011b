"""The saved model of a run: its trained layers and settings in one safetensors file.

The file holds every trained tensor, float32, under the classifier's names, with LoRA's matrices and the classification
head. The metadata holds the settings. The frozen layers are not saved: they come from the pretrained weights, whose
sha256 the metadata holds, or are drawn from the seed.
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
from ..settings.experiment import Experiment, make_experiment
from ..settings.models import ModelConfig
from ..settings.schema.validation import input_error

FORMAT_VERSION = "1"


@dataclass(frozen=True)
class SavedModel:
    """The settings of a saved model.

    Attributes:
        weights_sha256: of the pretrained weights; None if the weights were drawn from the seed.
        context: the number of positions to which examples are cut and padded; None without padding.
        labels: the names of class 0 and class 1.
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
        """The metadata of the safetensors file: JSON by name."""
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
    """Write a saved model; the trained tensors are converted to float32."""
    shapes = {name: (torch.float32, tuple(tensor.shape)) for name, tensor in trained.items()}
    with open(path, "wb") as file:
        file.write(safetensors_header(shapes, saved.metadata()))
        for tensor in trained.values():
            write_tensor(file, tensor.detach().float())


def read_saved_model(path: Path) -> tuple[SavedModel, dict[str, Tensor]]:
    """Read a saved model: its settings, and its tensors by name, mapped into memory.

    Raises:
        InputError: the file is missing, damaged, or of another kind or version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a mapping
        version = metadata.get("format_version")
        if version != FORMAT_VERSION:
            raise InputError(
                f"{path}: format_version is {version!r}; allowed: '{FORMAT_VERSION}'; name a file that"
                " `keep_models: true` has written"
            )
        saved = _from_metadata(path, {name: json.loads(text) for name, text in metadata.items()})
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make it with `keep_models: true`") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a complete saved model ({' '.join(str(error).split())}); delete it and run the row again"
        ) from None
    return saved, tensors


def _from_metadata(path: Path, values: dict[str, Any]) -> SavedModel:
    try:
        # The configuration names the file of the frozen layers; `source` is not used.
        model = ModelConfig(**values["model"], source=str(path))
    except ValidationError as error:
        raise input_error(error, f"{path}: model", ModelConfig) from None
    class_0, class_1 = values["labels"]
    return SavedModel(
        row=values["row"],
        seed=values["seed"],
        experiment=make_experiment(values["experiment"], f"{path}: experiment"),
        model=model,
        weights_sha256=values["weights_sha256"],
        context=values["context_length"],
        tokenizer=values["tokenizer"],
        labels=(class_0, class_1),
        precision=values["precision"],
    )

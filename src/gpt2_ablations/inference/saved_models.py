"""Saved models: finds, loads and checks the file of a run, and opens the weights that its training started from.

`runs/saved_model.py` describes the file.
"""

from pathlib import Path

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.hashing import weights_digest
from ..finetuning.classifier import add_adapters, empty_classifier
from ..gpt2.model import Classifier
from ..gpt2.weights import PretrainedWeights, RandomWeights, Weights
from ..runs.saved_model import SavedModel, read_saved_model
from ..settings.paths import MODEL_FILE, Paths


def saved_model_file(paths: Paths, row: str, seed: int) -> Path:
    """Return the path of a run's saved model.

    Raises:
        InputError: the row has not run with this seed, or it ran without `keep_models`.
    """
    folder = paths.row(row, seed)
    advice = f"run `snakemake --cores all row_{row} --config keep_models=true` (with your --configfile, if any)"
    if not (folder / "metrics.json").is_file():
        raise InputError(f"{folder}: row {row} has not run with seed {seed}; {advice}")
    if not (folder / MODEL_FILE).is_file():
        raise InputError(f"{folder}: row {row} has run without saving its model; {advice}")
    return folder / MODEL_FILE


def load_saved_model(path: Path) -> tuple[SavedModel, dict[str, Tensor]]:
    """Read a saved model and check its tensors against the settings of its row.

    Returns:
        The settings, and the trained tensors by name: float32, memory-mapped.

    Raises:
        InputError: `read_saved_model` refuses the file, or a tensor is missing, unknown or of another shape.
    """
    saved, tensors = read_saved_model(path)
    _check_tensors(path, saved, tensors)
    return saved, tensors


def _check_tensors(path: Path, saved: SavedModel, tensors: dict[str, Tensor]) -> None:
    shapes = trained_shapes(saved)
    for name in sorted(shapes.keys() | tensors.keys()):
        if name not in tensors:
            problem = "is missing"
        elif name not in shapes:
            problem = "does not belong to this row's model"
        elif tensors[name].shape != shapes[name]:
            problem = f"has shape {list(tensors[name].shape)}, expected {list(shapes[name])}"
        else:
            continue
        raise InputError(f"{path}: tensor '{name}' {problem}; delete the file and run the row again")


def trained_shapes(saved: SavedModel) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor that the row trains."""
    parameters = classifier_without_weights(saved).named_parameters()
    return {name: tuple(parameter.shape) for name, parameter in parameters if parameter.requires_grad}


def classifier_without_weights(saved: SavedModel) -> Classifier:
    """Build the trained layers of the row's model, with LoRA's matrices, on the `meta` device."""
    classifier = empty_classifier(saved.experiment, saved.model)
    if saved.experiment.trainable_layers == "lora":
        add_adapters(classifier, saved.experiment, torch.Generator())
    return classifier


def open_base_weights(saved: SavedModel, paths: Paths) -> Weights | None:
    """Open the base weights: the pretrained or random weights that the row's training started from.

    Returns:
        None if the saved model holds every layer, so that no base weights are needed.

    Raises:
        InputError: the file is missing, or its sha256 is not that of the weights that the row was trained on.
    """
    if saved.experiment.trainable_layers == "all":
        return None
    if saved.experiment.weights == "random":
        return RandomWeights(saved.model, saved.seed)
    path = paths.weights(saved.experiment.model_size)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; make it with `snakemake --cores all {path}` (with your --configfile, if any)"
        )
    weights = PretrainedWeights(path, saved.model)
    found = weights_digest(path)
    if found != saved.weights_sha256:
        raise InputError(
            f"{path}: sha256 is {found}, but row {saved.row} was trained on weights of sha256 {saved.weights_sha256};"
            " restore that file or run the row again"
        )
    return weights

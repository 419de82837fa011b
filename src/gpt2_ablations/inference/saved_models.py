"""The layers that a run has trained, kept in one safetensors file with all that classifying with them needs.

The file holds every trained tensor, float32, under the classifier's names (LoRA's matrices and the head among them).
Its metadata holds the settings; what is frozen is in the weights of which it names the sha256, or drawn from the seed.
"""

from pathlib import Path

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.hashing import weights_digest
from ..finetuning.loop import add_adapters, empty_classifier
from ..gpt2.model import Classifier
from ..gpt2.weights import PretrainedWeights, RandomWeights, Weights
from ..runs.saved_model import SavedModel, read_saved_model
from ..settings.paths import MODEL_FILE, Paths


def saved_model_file(paths: Paths, row: str, seed: int) -> Path:
    """Where a run's layers are kept.

    Raises:
        InputError: the row has not run with this seed, or has kept nothing.
    """
    folder = paths.row(row, seed)
    command = f"`snakemake --cores all row_{row} --config keep_models=true`"
    if not (folder / "metrics.json").is_file():
        raise InputError(f"{folder}: row {row} has not run with seed {seed}; run {command} (and its --configfile)")
    if not (folder / MODEL_FILE).is_file():
        raise InputError(f"{folder}: row {row} has run and kept no model; run {command} (and its --configfile)")
    return folder / MODEL_FILE


def load_saved_model(path: Path) -> tuple[SavedModel, dict[str, Tensor]]:
    """As `read_saved_model`, with the tensors checked against the row's own.

    Raises:
        InputError: as `read_saved_model`, or a tensor is missing, extra or of another shape.
    """
    saved, tensors = read_saved_model(path)
    _check_tensors(path, saved, tensors)
    return saved, tensors


def _check_tensors(path: Path, saved: SavedModel, tensors: dict[str, Tensor]) -> None:
    expected = trained_shapes(saved)
    for name in sorted(expected.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != expected.get(name):
            raise InputError(
                f"{path}: tensor '{name}' has shape {found}, expected {expected.get(name)}; delete it and run the row"
                " again"
            )


def trained_shapes(saved: SavedModel) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that the row trains."""
    trained = (item for item in unfilled_classifier(saved).named_parameters() if item[1].requires_grad)
    return {name: tuple(parameter.shape) for name, parameter in trained}


def unfilled_classifier(saved: SavedModel) -> Classifier:
    """The trained part of the row's model, LoRA's matrices included, without its weights."""
    classifier = empty_classifier(saved.experiment, saved.model)
    if saved.experiment.trainable_layers == "lora":
        add_adapters(classifier, saved.experiment, torch.Generator())
    return classifier


def open_base_weights(saved: SavedModel, paths: Paths) -> Weights:
    """The weights that the row began with.

    Raises:
        InputError: they are not there, or not those that the row was trained on.
    """
    if saved.experiment.weights == "random":
        return RandomWeights(saved.model, saved.seed)
    path = paths.weights(saved.experiment.model_size)
    if not path.is_file():
        raise InputError(f"{path}: no such file; make it with `snakemake --cores all {path}` (and its --configfile)")
    weights = PretrainedWeights(path, saved.model)
    found = weights_digest(path)
    if found != saved.weights_sha256:
        raise InputError(
            f"{path}: its sha256 is {found}; row {saved.row} was trained on {saved.weights_sha256}; fetch that file, or"
            " run the row again"
        )
    return weights

"""The job that trains: it finetunes a row with one seed and writes the run."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ..common.errors import InputError
from ..common.hardware import peak_host_memory_mb
from ..common.hashing import weights_digest
from ..common.logs import logger
from ..common.torch_setup import device_name, peak_device_memory_mb, release_device, set_up_torch, take_device
from ..data.fit import too_few
from ..data.tokens import context_positions, load_tokens, report_cut_examples
from ..gpt2.weights import open_weights
from ..runs.made_from import run_made_from
from ..runs.saved_model import SavedModel
from ..runs.write_run import accuracies, library_versions, write_run
from ..settings.config import Config
from ..settings.constants import CLASSES, NO_IGNORE_INDEX
from ..settings.experiment import Experiment
from ..settings.feature_spec import FeatureSpec, feature_identity, feature_spec
from ..settings.models import ModelConfig, configured_models
from ..settings.paths import Paths
from .batches import ModelInputs, inputs_from_features, inputs_from_tokens
from .checkpoints import Checkpoint
from .classifier import build_classifier, count_parameters
from .feature_files import read_features
from .feature_job import compute_features
from .features import Features
from .loop import Finetuning
from .training_log import TrainingLog


def train(
    config: Config,
    experiment: Experiment,
    seed: int,
    row: str,
    features_file: Path | None,
    output: Path,
) -> dict:
    """Finetune a row with one seed, and write the run's metrics, history and predictions to the folder `output`.

    Args:
        features_file: the row's features; None: they are computed here, if the row has frozen layers.

    Returns: the metrics.

    Raises:
        InputError: an input is missing or does not fit, a batch has no loss, a loss is not finite, memory is too small,
            or the run cannot be written.
    """
    # Settings. The output folder is made first: that it cannot be written to is better known before the training.
    set_up_torch(config.precision)
    model, paths = configured_models(config)[experiment.model_size], Paths(config.results)
    output.mkdir(parents=True, exist_ok=True)
    _warn_about_ignored_labels(experiment)

    made_from = run_made_from(config, experiment, model, seed)

    # Inputs. A job that computes features needs its device now; another takes it when everything is loaded.
    spec = feature_spec(experiment, model, seed, config.precision)
    device = take_device(config.device) if spec is not None and features_file is None else None
    inputs = _build_inputs(config, experiment, spec, model, features_file, device)

    # Classifier.
    weights = open_weights(experiment.weights, model, paths.weights(experiment.model_size), seed)
    classifier = build_classifier(experiment, model, weights, seed)
    trainable, total = count_parameters(experiment, model, classifier)

    # Loop.
    device = device or take_device(config.device)
    if inputs.features_device not in (None, device.type):
        # Each device rounds differently.
        logger.info(f"features of {inputs.features_device} are not used on {device.type}: computed again for this row")
        inputs = _build_inputs(config, experiment, spec, model, None, device)
    finetuning = Finetuning(
        experiment, classifier, inputs.splits, seed, device, config.precision, config.micro_batch_size
    )
    # A checkpoint of another device or another PyTorch is not resumed either.
    fingerprint = made_from | {"device": device.type, "torch": torch.__version__}
    checkpoint = Checkpoint(paths.checkpoint(output), fingerprint, config.checkpoint_every_epoch)
    n_steps = experiment.num_epochs * (len(inputs.splits["train"]) // experiment.batch_size)
    result = finetuning.train(checkpoint, TrainingLog(experiment.num_epochs, n_steps))
    trained = {name: p.detach().cpu() for name, p in finetuning.trained.items()} if config.keep_models else {}
    device_memory_mb, device_text = peak_device_memory_mb(device), device_name(device)
    del classifier, finetuning
    release_device(device)

    # Run.
    metrics = {
        "row": row,
        "seed": seed,
        "model": experiment.model_size,
        "context_length": inputs.context,
        **accuracies(result),
        "kept_epoch": result.kept_epoch,
        "trainable_parameters": trainable,
        "total_parameters": total,
        "seconds": {
            "features": inputs.features_seconds,
            "training": result.training_seconds,
            "evaluation": result.evaluation_seconds,
        },
        "peak_memory_mb": {"host": peak_host_memory_mb(), "device": device_memory_mb},
        "features_peak_memory_mb": inputs.features_peak_memory_mb,
        "device": device.type,
        "device_name": device_text,
        "precision": config.precision,
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "note": config.note,
        "settings": asdict(experiment),
        "made_from": made_from,
        "versions": library_versions(),
    }
    saved = (_saved_model(config, experiment, seed, row, inputs.context), trained) if config.keep_models else None
    write_run(output, metrics, result, inputs.splits["test"].labels, saved)
    checkpoint.remove()
    return metrics


@dataclass(frozen=True)
class RunInputs:
    """The inputs of a run's three splits.

    Attributes:
        context: positions after padding; None without padding.
        features_seconds, features_peak_memory_mb: what the features cost; 0 and None for a row without frozen layers.
        features_device: the kind of device that computed a feature file; None without one.
    """

    splits: dict[str, ModelInputs]
    context: int | None
    features_seconds: float = 0.0
    features_peak_memory_mb: float | None = None
    features_device: str | None = None


def _build_inputs(
    config: Config,
    experiment: Experiment,
    spec: FeatureSpec | None,
    model: ModelConfig,
    features_file: Path | None,
    device: torch.device | None,
) -> RunInputs:
    """Hidden states that enter the first trained layer, or token ids where every layer is trained."""
    tokens_file = Paths(config.results).tokens
    if spec is None:
        tokens = load_tokens(tokens_file)
        context = context_positions(experiment, tokens, model.n_positions)
        report_cut_examples(tokens, context)
        inputs = RunInputs(inputs_from_tokens(experiment, tokens, context), context)
    else:
        if features_file is not None:
            features = _read_features_of(spec, model, config, features_file)
        else:
            assert device is not None
            features = compute_features(config, spec, model, load_tokens(tokens_file), device)
        inputs = RunInputs(
            inputs_from_features(experiment, features),
            features.context,
            features.seconds,
            features.peak_memory_mb,
            features.device,
        )
    if problem := too_few(experiment, len(inputs.splits["train"])):
        raise InputError(problem)
    return inputs


def _read_features_of(spec: FeatureSpec, model: ModelConfig, config: Config, file: Path) -> Features:
    """A feature file, which may have been made for a model of another name and the same weights."""
    features = read_features(file)
    if features.identity != feature_identity(spec, model, config):
        raise InputError(
            f"{file}: holds the features of {features.spec}, this row needs {spec}, of its own weights, splits and"
            " tokenizer; leave --features out"
        )
    return features


def _saved_model(config: Config, experiment: Experiment, seed: int, row: str, context: int | None) -> SavedModel:
    """What the file of the trained layers says of itself."""
    pretrained = experiment.weights == "pretrained"
    return SavedModel(
        row=row,
        seed=seed,
        experiment=experiment,
        model=configured_models(config)[experiment.model_size],
        weights_sha256=weights_digest(Paths(config.results).weights(experiment.model_size)) if pretrained else None,
        context=context,
        tokenizer=config.tokenizer.name,
        labels=config.dataset.format.labels,
        precision=config.precision,
    )


def _warn_about_ignored_labels(experiment: Experiment) -> None:
    if experiment.ignore_index in CLASSES:
        logger.warning(
            f"ignore_index {experiment.ignore_index} is a label: examples with this label do not count for the loss;"
            f" {NO_IGNORE_INDEX} ignores none"
        )

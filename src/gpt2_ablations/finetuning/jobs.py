"""What a job does: read its files, compute, write its results. One function a command."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..common import progress
from ..common.errors import InputError
from ..common.files import write_text_whole
from ..common.hardware import peak_host_memory_mb
from ..common.hashing import digest, digest_file, weights_digest
from ..common.logs import stop_if_superseded
from ..common.source_code import PACKAGE, TRAINING_CODE
from ..common.torch_setup import device_name, peak_device_memory_mb, release_device, set_up_torch, take_device
from ..data import download as sources
from ..data.dataset import read_split, split_messages
from ..data.tokens import (
    TokenizedSplit,
    attend,
    context_positions,
    load_tokens,
    save_tokens,
    tokenize_splits,
    tokenizer,
)
from ..gpt2.weights import PretrainedWeights, RandomWeights, Weights, check_pretrained_weights
from ..runs.saved_model import SavedModel
from ..runs.write_run import accuracies, library_versions, write_run
from ..settings.config import Config, ModelConfig, load_models
from ..settings.constants import CLASSES, NO_IGNORE_INDEX, SPLITS
from ..settings.experiment import Experiment
from ..settings.feature_spec import FeatureSpec, feature_spec
from ..settings.paths import Paths
from .adamw import LEARNING_RATE, WEIGHT_DECAY
from .batches import ModelInputs
from .checkpoints import Checkpoint, stamp
from .features import FeatureLayout, Features, extract, lay_out_features, read_features, split_features, write_features
from .inputs import hidden_inputs, token_inputs
from .loop import Finetuning, build_classifier, count_parameters
from .training_log import TrainingLog


def fetch_messages(config: Config) -> None:
    """Download the messages, or take a local copy."""
    sources.fetch_messages(config.dataset.sources, Paths(config.results).messages, config.dataset.sha256)


def fetch_tokenizer(config: Config) -> None:
    """Download the two files of the GPT-2 BPE, or take local copies."""
    sources.fetch_tokenizer(config.tokenizer.sources, Paths(config.results).tokenizer)


def fetch_weights(config: Config, model_size: str) -> None:
    """Fetch a model's weights, check every tensor, and write their sha256 beside them."""
    model = load_models(config.models)[model_size]
    destination = Paths(config.results).weights(model_size)
    entry = f"{config.models}: {model_size}"
    accepted = False

    def accept(path: Path) -> None:
        nonlocal accepted
        try:
            check_pretrained_weights(path, model)
        except InputError as error:
            raise InputError(f"{entry}: source: {str(error).replace(str(path), model.source)}") from None
        accepted = True

    sources.fetch_file(
        [model.source],
        destination,
        model.sha256,
        f"{entry}: source",
        sha_setting=f"{entry}: sha256",
        accept=accept,
    )
    if not accepted:  # it was there already
        accept(destination)
    write_text_whole(digest_file(destination), sources.sha256_of(destination) + "\n")


def split(config: Config) -> None:
    """Cut the messages into the three splits."""
    paths = Paths(config.results)
    counts = split_messages(paths.messages, paths.messages.parent, config.dataset.format)
    print(", ".join(f"{count} {name}" for name, count in counts.items()), "messages", file=sys.stderr)


def tokenize(config: Config) -> None:
    """Turn the three splits into token ids."""
    paths = Paths(config.results)
    encode = tokenizer(config.tokenizer.name, paths.tokenizer)
    tokens = tokenize_splits({name: read_split(paths.split(name)) for name in SPLITS}, encode)
    save_tokens(tokens, paths.tokens)
    longest = ", ".join(f"{name} {int(split.lengths.max())}" for name, split in tokens.items())
    print(f"longest message in tokens: {longest}", file=sys.stderr)


def weights_opener(
    experiment_weights: str, model_size: str, model: ModelConfig, paths: Paths, seed: int | None
) -> Callable[[], Weights]:
    """A function that opens the weights again: a checkpoint below the results folder, or random ones."""

    def open_weights() -> Weights:
        if experiment_weights == "random":
            assert seed is not None
            return RandomWeights(model, seed)
        return PretrainedWeights(paths.weights(model_size), model)

    return open_weights


def extract_features(config: Config, spec: FeatureSpec, output: Path) -> None:
    """Run the frozen part that `spec` describes and write its hidden states."""
    set_up_torch(spec.precision)
    model = load_models(config.models)[spec.model_size]
    paths = Paths(config.results)
    plan = lay_out_features(spec, model, load_tokens(paths.tokens))
    # The clock of the features starts when the job has its device.
    device = take_device(config.device)
    # The last shard is written while the next job computes.
    shards = _shards(config, spec, model, plan, device, computed=lambda: release_device(device))
    write_features(output, spec, model, plan, shards)


def _shards(
    config: Config,
    spec: FeatureSpec,
    model: ModelConfig,
    plan: FeatureLayout,
    device: torch.device,
    computed: Callable[[], None] = lambda: None,
) -> Iterator[Tensor]:
    """Compute features, shard by shard; computed: called when the device has nothing more to do."""
    source = "pretrained" if spec.seed is None else "random"
    open_weights = weights_opener(source, spec.model_size, model, Paths(config.results), spec.seed)
    with tqdm(desc="features", unit="block", file=sys.stderr, mininterval=5, total=0) as bar:

        def report(done: int, total: int) -> None:
            stop_if_superseded()
            bar.total = total
            bar.update(done - bar.n)
            progress.report("features", done, total)

        for shard in extract(spec, model, plan, open_weights, device, config.features.max_memory_mb, report):
            if bar.n == bar.total:
                computed()
            yield shard
            del shard


def train(
    config: Config,
    experiment: Experiment,
    seed: int,
    row: str,
    features_file: Path | None,
    output: Path,
) -> dict:
    """Train a row and write its metrics, history and predictions.

    Returns: the metrics.
    """
    set_up_torch(config.precision)
    model = load_models(config.models)[experiment.model_size]
    paths = Paths(config.results)
    output.mkdir(parents=True, exist_ok=True)  # a place that cannot be written to is better known before the training
    _warn(experiment)
    spec = feature_spec(experiment, model, seed, config.precision)
    device = None
    if spec is None:
        features = None
        tokens = load_tokens(paths.tokens)
        context = context_positions(experiment, tokens, model.n_positions)
        _report_cut_messages(tokens, context)
        inputs = inputs_from_tokens(experiment, tokens, context)
    else:
        if features_file is None:
            device = take_device(config.device)
        features = _features(config, spec, model, paths, features_file, device)
        context = features.context
        inputs = inputs_from_features(experiment, features)
    _check_sizes(experiment, inputs)
    open_weights = weights_opener(experiment.weights, experiment.model_size, model, paths, seed)
    classifier = build_classifier(experiment, model, open_weights(), seed)
    trainable, total = count_parameters(experiment, model, classifier)
    # All is loaded: only now does the job need its device, which another one may still hold.
    device = device or take_device(config.device)
    finetuning = Finetuning(experiment, classifier, inputs, seed, device, config.precision, config.micro_batch_size)
    settings = _settings(config, experiment, seed, model, paths, features_file, device)
    checkpoint = Checkpoint(paths.checkpoint(output), settings, config.checkpoint_every_epoch)
    steps = experiment.num_epochs * (len(inputs["train"]) // experiment.batch_size)
    result = finetuning.run(checkpoint, TrainingLog(experiment.num_epochs, steps))
    trained = {name: p.detach().cpu() for name, p in finetuning.trained.items()} if config.keep_models else {}
    device_memory, device_called = peak_device_memory_mb(device), device_name(device)
    del classifier, finetuning
    release_device(device)
    metrics = {
        "row": row,
        "seed": seed,
        "model": experiment.model_size,
        "context_length": context,
        **accuracies(result),
        "trainable_parameters": trainable,
        "total_parameters": total,
        "seconds": {
            "features": features.seconds if features else 0.0,
            "training": result.training_seconds,
            "evaluation": result.evaluation_seconds,
        },
        "peak_memory_mb": {"host": peak_host_memory_mb(), "device": device_memory},
        "features_peak_memory_mb": features.peak_memory_mb if features else None,
        "device": device.type,
        "device_name": device_called,
        "precision": config.precision,
        "note": config.note,
        "settings": asdict(experiment),
        "versions": library_versions(),
    }
    kept = (_saved_model(config, experiment, seed, row, context), trained) if config.keep_models else None
    write_run(output, metrics, result, inputs["test"].labels, kept)
    checkpoint.remove()
    return metrics


def _saved_model(config: Config, experiment: Experiment, seed: int, row: str, context: int | None) -> SavedModel:
    """What the file of the trained layers says of itself."""
    pretrained = experiment.weights == "pretrained"
    return SavedModel(
        row=row,
        seed=seed,
        experiment=experiment,
        model=load_models(config.models)[experiment.model_size],
        weights_sha256=weights_digest(Paths(config.results).weights(experiment.model_size)) if pretrained else None,
        context=context,
        tokenizer=config.tokenizer.name,
        labels=config.dataset.format.labels,
        precision=config.precision,
    )


def _settings(
    config: Config,
    experiment: Experiment,
    seed: int,
    model: ModelConfig,
    paths: Paths,
    features_file: Path | None,
    device: torch.device,
) -> dict:
    """What a checkpoint is bound to: all that a training's numbers depend on but rounding."""
    files = [paths.tokens]
    if experiment.weights == "pretrained":
        files.append(paths.weights(experiment.model_size))
    if features_file is not None:
        files.append(features_file)
    return {
        "options": asdict(experiment),
        "seed": seed,
        "model": model.dimensions,
        "precision": config.precision,
        "device": device.type,
        "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
        "files": {str(file): stamp(file) for file in files},
        "code": digest("".join((PACKAGE / f"{module}.py").read_text() for module in TRAINING_CODE)),
        "torch": torch.__version__,
    }


def _features(
    config: Config,
    spec: FeatureSpec,
    model: ModelConfig,
    paths: Paths,
    file: Path | None,
    device: torch.device | None,
) -> Features:
    if file is None:
        assert device is not None
        started = time.perf_counter()
        tokens = load_tokens(paths.tokens)
        plan = lay_out_features(spec, model, tokens)
        _report_cut_messages(tokens, plan.context)
        hidden = torch.cat(list(_shards(config, spec, model, plan, device)))
        seconds = time.perf_counter() - started
        return Features(spec, split_features(plan, hidden), plan.context, seconds, peak_host_memory_mb())
    features = read_features(file)
    if features.spec != spec:
        raise InputError(f"{file}: holds the features of {features.spec}, this row needs {spec}; leave --features out")
    return features


def inputs_from_features(experiment: Experiment, features: Features) -> dict[str, ModelInputs]:
    """What the trained part takes, from the frozen part's hidden states."""
    return {name: hidden_inputs(experiment, split) for name, split in features.splits.items()}


def inputs_from_tokens(
    experiment: Experiment, tokens: dict[str, TokenizedSplit], context: int | None
) -> dict[str, ModelInputs]:
    """What the whole model takes, where nothing is frozen below the trained layers."""
    return {name: token_inputs(experiment, attend(experiment, tokens[name], context)) for name in SPLITS}


def _warn(experiment: Experiment) -> None:
    if experiment.ignore_index in CLASSES:
        print(
            f"warning: ignore_index {experiment.ignore_index} is a label: messages with it count for no loss;"
            f" {NO_IGNORE_INDEX} ignores none",
            file=sys.stderr,
        )


def _report_cut_messages(tokens: dict[str, TokenizedSplit], context: int | None) -> None:
    for name, messages in tokens.items():
        cut = 0 if context is None else int((messages.lengths > context).sum())
        if cut:
            print(f"{cut} of {len(messages.labels)} {name} messages are cut to {context} tokens", file=sys.stderr)


def _check_sizes(experiment: Experiment, inputs: dict[str, ModelInputs]) -> None:
    if len(inputs["train"]) < experiment.batch_size:
        raise InputError(
            f"batch_size is {experiment.batch_size} and there are {len(inputs['train'])} training messages: no whole"
            f" batch; allowed: 1 to {len(inputs['train'])}"
        )

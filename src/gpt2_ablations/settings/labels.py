"""Labels: the displayed name of a model, and of a row by the options it changes, such as `5: all layers`."""

import re
from collections.abc import Mapping
from typing import Any

from ..common.text import counted
from .config import Config
from .constants import NO_IGNORE_INDEX
from .experiment import OPTIONS, Experiment
from .models import ModelConfig
from .schema.yaml_files import load_yaml

UNCHANGED = "defaults"
LAYERS = {
    "last_layer": "last layer",
    "last_block": "last block",
    "last_two_blocks": "last two blocks",
    "all": "all layers",
    "lora": "LoRA",
}
CONTEXTS = {"longest_training_example": "longest example's length", "model_context_length": "full context length"}
# The options that the reference's program does not have.
WITHOUT_COLUMN = OPTIONS[OPTIONS.index("ignore_index") + 1 :]
POSITIONS = {"first": "first token", "last": "last token", "flexible": "last real token"}


def load_defaults(config: Config) -> dict[str, Any]:
    """The options of a row that changes nothing. Some may contradict each other, if every row changes one of them.

    Raises:
        InputError: the experiments file cannot be read.
    """
    return vars(Experiment()) | (load_yaml(config.experiments, config.copy_of("experiments")).get("defaults") or {})


def display_name(model: str, models: Mapping[str, ModelConfig]) -> str:
    """What tables, figures and pages show for a model: its `label`, otherwise its name."""
    return (models[model].label if model in models else None) or model


def row_labels(
    experiments: Mapping[str, Experiment], defaults: Mapping[str, Any], models: Mapping[str, ModelConfig]
) -> dict[str, str]:
    """The label of each row."""
    return {row: row_label(row, experiment, defaults, models) for row, experiment in experiments.items()}


def row_label(row: str, experiment: Experiment, defaults: Mapping[str, Any], models: Mapping[str, ModelConfig]) -> str:
    """A row's id and the options it changes: `11: LoRA (rank 16, alpha 16)`, or `1: defaults`."""
    return f"{row}: {changes(experiment, defaults, models)}"


def changes(experiment: Experiment, defaults: Mapping[str, Any], models: Mapping[str, ModelConfig]) -> str:
    """The options in which a row differs from the defaults, in words."""
    changed = [name for name in OPTIONS if getattr(experiment, name) != defaults[name]]
    described = {_described_by(name, experiment) for name in changed}
    return ", ".join(_words(name, experiment, models) for name in OPTIONS if name in described) or UNCHANGED


def changes_without_column(experiment: Experiment, models: Mapping[str, ModelConfig]) -> str:
    """The options, in words, in which a row differs from the reference and for which its table has no column."""
    changed = [name for name in WITHOUT_COLUMN if getattr(experiment, name) != getattr(Experiment(), name)]
    described = {_described_by(name, experiment) for name in changed}
    return ", ".join(_words(name, experiment, models) for name in OPTIONS if name in described)


def _described_by(name: str, experiment: Experiment) -> str | None:
    """The option whose words also describe `name`; None if `name` has no effect in this row."""
    if name == "average_over":
        return "average_embeddings" if experiment.average_embeddings else None
    if name.startswith("lora_"):
        return "trainable_layers" if experiment.trainable_layers == "lora" else None
    if name in ("batch_size", "accumulation_steps") and experiment.no_padding:
        return "no_padding"
    return name


def _words(name: str, experiment: Experiment, models: Mapping[str, ModelConfig]) -> str:
    value = getattr(experiment, name)
    match name:
        case "model_size":
            shown = display_name(value, models)
            # `gpt2-medium (355M)` without its size: the rest identifies the model. A label is shown as it is.
            return re.sub(r" \([^()]*\)$", "", value) if shown == value else shown
        case "weights":
            return f"{value} weights"
        case "trainable_layers":
            return _lora_words(experiment) if value == "lora" else LAYERS.get(value, value.replace("_", " "))
        case "trainable_token_pos":
            return POSITIONS[value]
        case "context_length":
            return CONTEXTS.get(value, f"context length {value}")
        case "no_padding":
            batch = experiment.batch_size * experiment.accumulation_steps
            return f"no padding (batch size {batch})" if value else "padding"
        case "average_embeddings":
            averaged = "averaged embeddings" + " of real tokens" * (experiment.average_over == "real")
            return averaged if value else "one position's embedding"
        case "mask_padding":
            return "padding masked" if value else "padding attended to"
        case "disable_causal_mask":
            return "no causal mask" if value else "causal mask"
        case "ignore_index":
            return "no ignore_index" if value == NO_IGNORE_INDEX else f"ignore_index {value}"
        case "num_epochs":
            return counted(value, "epoch")
        case "accumulation_steps":
            return counted(value, "accumulation step")
        case "learning_rate" | "weight_decay" | "label_smoothing":
            return f"{name.replace('_', ' ')} {value:g}"
        case "lr_schedule":
            return f"{value} learning rate" if value == "constant" else f"{value} schedule"
        case "warmup_steps":
            return f"warm-up of {counted(value, 'update')}"
        case "max_grad_norm":
            return "no gradient clipping" if value is None else f"gradient norm up to {value:g}"
        case "class_weights":
            if isinstance(value, tuple):
                return f"class weights {' and '.join(f'{weight:g}' for weight in value)}"
            return "equal class weights" if value is None else "balanced class weights"
        case "keep":
            return "last epoch" if value == "last" else "best epoch by validation"
    return f"{name.replace('_', ' ')} {value}"


def _lora_words(experiment: Experiment) -> str:
    scaling = {"alpha": "", "alpha/rank": " / rank", "alpha/sqrt(rank)": " / sqrt(rank)"}[experiment.lora_scaling]
    words = [f"rank {experiment.lora_rank}", f"alpha {experiment.lora_alpha:g}{scaling}"]
    if experiment.lora_layers != "all":
        words.append(f"on {' and '.join(layer.replace('_', ' ') for layer in experiment.lora_layers)}")
    return f"LoRA ({', '.join(words)})"

"""Names a row by what it changes against the defaults: `5: all layers`."""

import re

from .config import Config
from .constants import NO_IGNORE_INDEX
from .experiment import OPTIONS, Experiment, make_experiment
from .yaml_files import load_yaml

UNCHANGED = "defaults"
LAYERS = {
    "last_layer": "last layer",
    "last_block": "last block",
    "last_two_blocks": "last two blocks",
    "all": "all layers",
    "lora": "LoRA",
}
CONTEXTS = {"longest_training_example": "longest example's length", "model_context_length": "full context length"}
POSITIONS = {"first": "first token", "last": "last token", "flexible": "last real token"}


def load_defaults(config: Config) -> Experiment:
    """The settings a row has that changes nothing.

    Raises:
        InputError: the experiments file cannot be read or an option is wrong.
    """
    defaults = load_yaml(config.experiments).get("defaults") or {}
    return make_experiment(defaults, f"{config.experiments}: defaults")


def row_labels(experiments: dict[str, Experiment], defaults: Experiment) -> dict[str, str]:
    """The label of each row."""
    return {row: row_label(row, experiment, defaults) for row, experiment in experiments.items()}


def row_label(row: str, experiment: Experiment, defaults: Experiment) -> str:
    """A row's id and what it changes: `11: LoRA (rank 16, alpha 16)`; `1: defaults` if nothing."""
    return f"{row}: {changes(experiment, defaults)}"


def row_phrase(row: str, experiment: Experiment, defaults: Experiment) -> str:
    """The label for use in a sentence: `row 5 (all layers)`."""
    return f"row {row} ({changes(experiment, defaults)})"


def changes(experiment: Experiment, defaults: Experiment) -> str:
    """What a row changes against the defaults, in words."""
    changed = [name for name in OPTIONS if getattr(experiment, name) != getattr(defaults, name)]
    said = {_said_by(name, experiment) for name in changed}
    return ", ".join(_words(name, experiment) for name in OPTIONS if name in said) or UNCHANGED


def _said_by(name: str, experiment: Experiment) -> str | None:
    """The option whose words tell of `name` too; None where it has no effect."""
    if name in ("lora_rank", "lora_alpha"):
        return "trainable_layers" if experiment.trainable_layers == "lora" else None
    if name in ("batch_size", "accumulation_steps") and experiment.no_padding:
        return "no_padding"
    return name


def _words(name: str, experiment: Experiment) -> str:
    value = getattr(experiment, name)
    match name:
        case "model_size":
            # `gpt2-medium (355M)`: the name alone tells the model.
            return re.sub(r" \([^()]*\)$", "", value)
        case "weights":
            return f"{value} weights"
        case "trainable_layers":
            rank = f" (rank {experiment.lora_rank}, alpha {experiment.lora_alpha:g})" if value == "lora" else ""
            return LAYERS[value] + rank
        case "trainable_token_pos":
            return POSITIONS[value]
        case "context_length":
            return CONTEXTS.get(value, f"context length {value}")
        case "no_padding":
            batch = experiment.batch_size * experiment.accumulation_steps
            return f"no padding (batch size {batch})" if value else "padding"
        case "average_embeddings":
            return "averaged embeddings" if value else "one position's embedding"
        case "disable_causal_mask":
            return "no causal mask" if value else "causal mask"
        case "ignore_index":
            return "no ignore_index" if value == NO_IGNORE_INDEX else f"ignore_index {value}"
        case "num_epochs":
            return f"{value} epoch{'s' * (value != 1)}"
        case "accumulation_steps":
            return f"{value} accumulation step{'s' * (value != 1)}"
    return f"{name.replace('_', ' ')} {value}"

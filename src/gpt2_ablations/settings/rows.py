"""`experiments.yaml`: the rows of the table, each a mapping of options over the defaults."""

import re
from pathlib import Path

from pydantic import ValidationError

from ..common.errors import InputError
from .config import Config
from .experiment import OPTIONS, Experiment, make_experiment
from .models import ModelConfig, configured_models, named_model
from .schema.validation import allowed_names, first_mistake, input_error
from .schema.yaml_files import load_yaml

ROW_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def configured_rows(config: Config) -> tuple[dict[str, ModelConfig], dict[str, Experiment], dict[str, Experiment]]:
    """The models of a configuration, all its rows, and the rows that it selects.

    Raises:
        InputError: the models file, the experiments file or the selection is wrong.
    """
    models = configured_models(config)
    experiments = load_experiments(config.experiments, models, config.models, config.copy_of("experiments"))
    return models, experiments, select_rows(config, experiments)


def load_experiments(
    path: str | Path, models: dict[str, ModelConfig], models_file: str, copy: Path | None = None
) -> dict[str, Experiment]:
    """All rows of the experiments file, in its order, each checked alone and against its model.

    Args:
        path: of the experiments file.
        models: by name.
        models_file: the path of the models file, for messages.
        copy: read this copy of the experiments file.

    Raises:
        InputError: the file, a row id or an option is wrong.
    """
    content = load_yaml(path, copy)
    for key in content:
        if key not in ("defaults", "rows"):
            raise InputError(f"{path}: unknown key '{key}'; {allowed_names(key, ['defaults', 'rows'])}")
    defaults, rows = content.get("defaults"), content.get("rows")
    defaults = {} if defaults is None else defaults
    if not isinstance(defaults, dict):
        raise InputError(f"{path}: defaults is {defaults!r}; it must be a mapping of options")
    if not isinstance(rows, dict) or not rows:
        raise InputError(f"{path}: rows is {rows!r}; it must be a mapping from row id to options")
    _check_defaults(defaults, f"{path}: defaults")
    experiments: dict[str, Experiment] = {}
    folders: dict[str, str] = {}
    for row, options in rows.items():
        where = f"{path}: row {row}"
        if not ROW_ID.fullmatch(row):
            raise InputError(f"{path}: invalid row id {row!r}: expected 1 to 64 letters, digits, '_' and '-'")
        # The rows have a folder each, and not every file system tells capitals from small letters.
        if (other := folders.setdefault(row.lower(), row)) != row:
            raise InputError(f"{where}: its id differs from {other!r} in case alone; rename one")
        options = {} if options is None else options
        if not isinstance(options, dict):
            raise InputError(f"{where}: expected a mapping of options ({', '.join(OPTIONS)}), found {options!r}")
        experiments[row] = make_experiment({**defaults, **options}, where)
        check_against_model(experiments[row], models, where, models_file)
    return experiments


def _check_defaults(options: dict, where: str) -> None:
    """Check each option alone: a row may change those that contradict each other."""
    try:
        Experiment(**options)
    except ValidationError as error:
        if first_mistake(error)["loc"]:
            raise input_error(error, where, Experiment) from None


def check_against_model(experiment: Experiment, models: dict[str, ModelConfig], where: str, models_file: str) -> None:
    """Check what a row asks of its model.

    Raises:
        InputError: the model is unknown, has too few positions or too few blocks.
    """
    model = named_model(experiment.model_size, models, f"{where}: model_size", models_file)
    length = experiment.context_length
    if isinstance(length, int) and length > model.n_positions and not experiment.no_padding:
        raise InputError(
            f"{where}: context_length is {length}; {experiment.model_size} has {model.n_positions} positions, so"
            f" allowed is 1 to {model.n_positions}"
        )
    if (frozen := experiment.n_frozen_blocks(model.n_layer)) is not None and frozen < 0:
        blocks = "one block" if model.n_layer == 1 else f"{model.n_layer} blocks"
        raise InputError(
            f"{where}: trainable_layers is '{experiment.trainable_layers}'; {experiment.model_size} has {blocks}"
        )


def pretrained_models(experiments: dict[str, Experiment]) -> list[str]:
    """The models whose pretrained weights these rows start from, each once, in the order of the rows."""
    return list(dict.fromkeys(row.model_size for row in experiments.values() if row.weights == "pretrained"))


def named_row(row: str, experiments: dict[str, Experiment], experiments_file: str, where: str = "") -> Experiment:
    """The row of this name.

    Raises:
        InputError: there is none.
    """
    if row not in experiments:
        raise InputError(f"{where}row '{row}' is not in {experiments_file}; {allowed_names(row, experiments)}")
    return experiments[row]


def select_rows(config: Config, experiments: dict[str, Experiment]) -> dict[str, Experiment]:
    """The rows that `rows` selects, in the order of the experiments file.

    Raises:
        InputError: a selected row does not exist or is named twice.
    """
    if config.rows == "all":
        return experiments
    for row in config.rows:
        if row not in experiments:
            raise InputError(f"rows names '{row}', not in {config.experiments}; {allowed_names(row, experiments)}")
    if len(set(config.rows)) != len(config.rows):
        raise InputError(f"rows contains a duplicate row: {', '.join(config.rows)}; keep each once")
    return {row: experiment for row, experiment in experiments.items() if row in config.rows}

"""The configuration: general settings, models and rows, read from YAML and checked as a whole."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..common.errors import InputError
from .dataset_format import MessagesFormat
from .experiment import OPTIONS, Experiment, make_experiment
from .validation import allowed_names, first_mistake, input_error
from .yaml_files import load_yaml

ROW_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
SHA256 = r"^[0-9a-f]{64}$"


DIMENSIONS = ("n_layer", "n_head", "n_embd", "n_positions")


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("allowed: printable characters")
    return value


def _path(value: str) -> str:
    if not value.isprintable() or not {"{", "}"}.isdisjoint(value):  # Snakemake takes braces for wildcards
        raise ValueError("allowed: a path of printable characters without braces")
    return value


def _source(value: str) -> str:
    return _path(value) if "://" not in value or value.lower().startswith("file:") else _printable(value)


def _folder(value: str) -> str:
    if str(Path(value)).startswith("-"):  # a command would take it for an option
        raise ValueError("allowed: a folder whose name does not begin with '-'")
    return value


PathText = Annotated[str, Field(min_length=1), AfterValidator(_path)]
Source = Annotated[str, Field(min_length=1), AfterValidator(_source)]


class ModelConfig(_Schema):
    """One GPT-2 size: its dimensions, and where its weights come from."""

    n_layer: int = Field(ge=1, le=1000)
    n_head: int = Field(ge=1, le=1000)
    n_embd: int = Field(ge=1, le=2**16)
    n_positions: int = Field(ge=1, le=2**20)
    source: Source
    sha256: Annotated[str, Field(pattern=SHA256)] | None = None
    label: Annotated[str, Field(min_length=1), AfterValidator(_printable)] | None = None

    @property
    def dimensions(self) -> dict[str, int]:
        """What a model of this size computes depends on, and nothing else of this entry."""
        return {name: getattr(self, name) for name in DIMENSIONS}


def _labels(value: Any) -> Any:
    """Two names, as text: YAML reads `labels: [0, 1]` as numbers, and yes and no as truth values."""
    if isinstance(value, list) and all(
        isinstance(label, (str, int)) and not isinstance(label, bool) for label in value
    ):
        labels = list(map(str, value))
        if len(set(labels)) == len(labels) == 2 and all(label.strip() and label.isprintable() for label in labels):
            return labels
    raise ValueError("allowed: two different names as the file has them, such as [ham, spam] (yes, no, on, off quoted)")


Column = Annotated[str, Field(min_length=1), AfterValidator(_printable)]


class DatasetConfig(_Schema):
    sources: list[Source] = Field(min_length=1)
    sha256: Annotated[str, Field(pattern=SHA256)] | None = None
    delimiter: Literal["tab", "comma", "semicolon"] = "tab"
    label_column: Column | None = None
    text_column: Column | None = None
    labels: Annotated[list[str], BeforeValidator(_labels)] = ["ham", "spam"]

    @property
    def format(self) -> MessagesFormat:
        """How the messages file is written."""
        ham, spam = self.labels
        return MessagesFormat(self.delimiter, self.label_column, self.text_column, (ham, spam))


class TokenizerConfig(_Schema):
    name: Literal["gpt2", "bytes"]
    sources: list[Source] = []


class FeaturesConfig(_Schema):
    max_memory_mb: int = Field(ge=64)


def _row_ids(value: Any) -> Any:
    """Rows as text: YAML reads `rows: [1, 2]` as numbers."""
    if value == "all":
        return value
    if not isinstance(value, list) or not value or any(isinstance(row, (dict, list, bool, float)) for row in value):
        raise ValueError("allowed: all, or a list of row ids such as [1, 2, 11]")
    return [str(row) for row in value]


def _seeds(value: Any) -> Any:
    """Seeds as numbers: `--config seeds=[1,2]` gives texts."""
    if isinstance(value, list):
        return [int(seed) if isinstance(seed, str) and seed.isdecimal() else seed for seed in value]
    return value


def _switch(value: Any) -> Any:
    """Truth values: `--config keep_models=true` gives a text."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


Switch = Annotated[bool, BeforeValidator(_switch)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Config(_Schema):
    """`config/config.yaml`, with what `--configfile` overrides."""

    results: Annotated[PathText, AfterValidator(_folder)]
    rows: Annotated[Literal["all"] | list[str], BeforeValidator(_row_ids)]
    experiments: PathText
    models: PathText
    published: PathText | None
    comparisons: PathText
    seeds: Annotated[list[Seed], Field(min_length=1), BeforeValidator(_seeds)]
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["float32", "tf32", "bfloat16"]
    micro_batch_size: Annotated[int, Field(ge=1)] | None
    checkpoint_every_epoch: Switch
    keep_models: Switch = False
    note: str | None
    dataset: DatasetConfig
    tokenizer: TokenizerConfig
    features: FeaturesConfig


SECTIONS: dict[str, type[BaseModel]] = {
    "dataset": DatasetConfig,
    "tokenizer": TokenizerConfig,
    "features": FeaturesConfig,
}


def parse_config(merged: dict, files: dict[str, dict]) -> Config:
    """Check a merged configuration.

    Args:
        files: the content of each file it came from, overriding ones last; messages name the file of a mistake.

    Raises:
        InputError: a key is unknown, missing or has a value that is not allowed.
    """
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        key = first_mistake(error)["loc"]
        name = str(key[0])
        schema = SECTIONS.get(name, Config) if len(key) > 1 else Config
        raise input_error(error, _origin(merged, name, files), schema.model_fields) from None
    if len(set(config.seeds)) != len(config.seeds):
        where = _origin(merged, "seeds", files)
        raise InputError(f"{where}: seeds holds a seed twice: {config.seeds}; keep each once")
    if config.tokenizer.name == "gpt2" and not config.tokenizer.sources:
        where = _origin(merged, "tokenizer", files)
        raise InputError(f"{where}: tokenizer.sources is empty; tokenizer 'gpt2' needs a place of its two files")
    columns = {"label_column": config.dataset.label_column, "text_column": config.dataset.text_column}
    named = {column for column in columns.values() if column is not None}
    if len(named) == 1:
        where = _origin(merged, "dataset", files)
        raise InputError(
            f"{where}: dataset.label_column is {columns['label_column']!r} and dataset.text_column"
            f" {columns['text_column']!r}; name two columns, or none for a file of labels and messages without a first"
            " line of names"
        )
    return config


def _origin(merged: dict, key: str, files: dict[str, dict]) -> str:
    """Where a key got its value: the last file that holds it, or the command line."""
    if key not in merged:
        return next(iter(files), "--config")
    holders = [file for file, content in files.items() if key in content]
    overridden = not isinstance(merged[key], dict) and not any(_same(files[file][key], merged[key]) for file in holders)
    return "--config" if overridden else holders[-1]


def _same(one: object, other: object) -> bool:
    return one == other or repr(one) == repr(other)  # not-a-number is no number's equal


def load_config(paths: Sequence[str | Path]) -> Config:
    """Read configuration files; later ones override earlier ones (mappings merge, lists are replaced).

    Raises:
        InputError: as `load_yaml` and `parse_config`, or a file that changes some settings is given alone.
    """
    files = {str(path): load_yaml(path) for path in paths}
    merged: dict = {}
    for content in files.values():
        merged = merge_settings(merged, content)
    missing = [key for key, field in Config.model_fields.items() if field.is_required() and key not in merged]
    # A misspelt key also shows as a missing one; `parse_config` says what it should be.
    if len(missing) > 1 and merged.keys() <= Config.model_fields.keys():
        given = " ".join(files)
        raise InputError(
            f"{given}: keys {', '.join(missing)} are missing; add them, or give the file whose settings this one"
            f" changes, too: --config config/config.yaml {given}"
        )
    return parse_config(merged, files)


def merge_settings(base: dict, over: dict) -> dict:
    """Settings with what overrides them: mappings merge, lists are replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge_settings(merged[key], value) if both else value
    return merged


def load_models(path: str | Path) -> dict[str, ModelConfig]:
    """The GPT-2 sizes, by the reference's names.

    Raises:
        InputError: the file or an entry is wrong.
    """
    models: dict[str, ModelConfig] = {}
    folders: dict[str, str] = {}
    for name, entry in load_yaml(path).items():
        where = f"{path}: {name}"
        if not isinstance(entry, dict):
            keys = ", ".join(ModelConfig.model_fields)
            raise InputError(f"{where}: expected a mapping with {keys}, found {entry!r}")
        try:
            model = ModelConfig.model_validate(entry)
        except ValidationError as error:
            raise input_error(error, where, ModelConfig.model_fields) from None
        if model.n_embd % model.n_head:
            raise InputError(
                f"{where}: n_embd is {model.n_embd}, no multiple of n_head {model.n_head}: heads are of one size"
            )
        folder = model_folder(name)
        if not folder or not name.isprintable() or name.startswith("-") or len(name) > 64:
            raise InputError(
                f"{path}: model name {name!r} is not allowed; use up to 64 printable characters, with a letter or"
                " digit, and no '-' in front"
            )
        if folder in folders:
            raise InputError(f"{where}: its folder name '{folder}' is also that of {folders[folder]}; rename one")
        folders[folder] = name
        models[name] = model
    return models


def load_experiments(path: str | Path, models: dict[str, ModelConfig], models_file: str) -> dict[str, Experiment]:
    """All rows of the experiments file, in its order, each checked alone and against its model.

    Raises:
        InputError: the file, a row id or an option is wrong.
    """
    content = load_yaml(path)
    for key in content:
        if key not in ("defaults", "rows"):
            raise InputError(f"{path}: unknown key '{key}'; {allowed_names(key, ['defaults', 'rows'])}")
    defaults, rows = content.get("defaults"), content.get("rows")
    defaults = {} if defaults is None else defaults
    if not isinstance(defaults, dict):
        raise InputError(f"{path}: defaults is {defaults!r}; it must be a mapping of options")
    if not isinstance(rows, dict) or not rows:
        raise InputError(f"{path}: rows is {rows!r}; it must be a mapping from row id to options")
    make_experiment(defaults, f"{path}: defaults")
    experiments = {}
    for row, options in rows.items():
        where = f"{path}: row {row}"
        if not ROW_ID.fullmatch(row):
            raise InputError(f"{path}: row id {row!r} is not allowed; use up to 64 letters, digits, '_' and '-'")
        options = {} if options is None else options
        if not isinstance(options, dict):
            raise InputError(f"{where}: expected a mapping of options ({', '.join(OPTIONS)}), found {options!r}")
        experiments[row] = make_experiment({**defaults, **options}, where)
        check_against_model(experiments[row], models, where, models_file)
    return experiments


def named_model(name: str, models: dict[str, ModelConfig], where: str, models_file: str) -> ModelConfig:
    """The model of this name.

    Raises:
        InputError: there is none.
    """
    if name not in models:
        raise InputError(f"{where} is '{name}', not in {models_file}; {allowed_names(name, models)}")
    return models[name]


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
    if experiment.trainable_layers == "last_two_blocks" and model.n_layer < 2:
        raise InputError(f"{where}: trainable_layers is 'last_two_blocks'; {experiment.model_size} has one block")


def pretrained_models(experiments: dict[str, Experiment]) -> list[str]:
    """The models whose pretrained weights some rows start from, each once, in the rows' order."""
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
        raise InputError(f"rows names a row twice: {', '.join(config.rows)}; keep each once")
    return {row: experiment for row, experiment in experiments.items() if row in config.rows}


def model_folder(name: str) -> str:
    """A model's name as a folder: `gpt2-small (124M)` becomes `gpt2-small-124M`."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")

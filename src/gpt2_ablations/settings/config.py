"""`config.yaml`: the general settings, read from YAML, merged and checked as a whole."""

import os
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..common.errors import InputError, without_secrets
from .dataset_format import DatasetFormat, is_encoding
from .schema.options import option
from .schema.text_types import PathText, Printable, Sha256, Source, folder_name
from .schema.validation import first_mistake, input_error
from .schema.yaml_files import load_yaml, setting_of_text

DEFAULT_CONFIG = "config/config.yaml"
CHECKOUT = Path(__file__).parents[3]


def in_checkout(path: str) -> str:
    """A file of the working folder; if it is not there, this checkout's file of that name, if there is one."""
    own = CHECKOUT / path
    return os.path.relpath(own) if not os.path.lexists(path) and own.is_file() else path


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _labels(value: Any) -> Any:
    """Two names, as text: YAML reads `labels: [0, 1]` as numbers, and yes and no as truth values."""
    if isinstance(value, list) and all(
        isinstance(label, (str, int)) and not isinstance(label, bool) for label in value
    ):
        labels = list(map(str, value))
        if len(set(labels)) == len(labels) == 2 and all(label.strip() and label.isprintable() for label in labels):
            return labels
    raise ValueError


def _encoding(value: str) -> str:
    if not is_encoding(value):
        raise ValueError
    return value


def _row_ids(value: Any) -> Any:
    """Rows as text: a module's configuration has `rows: [1, 2]` as numbers."""
    if value == "all":
        return value
    if isinstance(value, list) and value and all(type(row) in (str, int) for row in value):
        return [str(row) for row in value]
    raise ValueError


CheckoutFile = Annotated[PathText, AfterValidator(in_checkout)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class DatasetConfig(_Schema):
    """The examples: where their file comes from, and how it is written."""

    sources: Annotated[
        list[Source],
        option(
            "Where the messages come from, tried in order: the bare file, or a zip that holds `SMSSpamCollection` or a"
            " single CSV or TSV file",
            allowed="a list of one or more https addresses and paths",
            example=["my_texts.tsv"],
            min_length=1,
        ),
    ]
    sha256: Annotated[
        Sha256 | None,
        option(
            "The hash that the bare file must have; null for your own data",
            allowed="64 hexadecimal digits, or null",
            example=None,
        ),
    ] = None
    delimiter: Annotated[
        Literal["tab", "comma", "semicolon"],
        option("Between the columns of the file", example="comma"),
    ] = "tab"
    label_column: Annotated[
        Printable | None,
        option(
            "The name of the label's column in the first line; null: no such line, each line is a label and a text",
            allowed="a name of printable characters, or null",
            example="sentiment",
        ),
    ] = None
    text_column: Annotated[
        Printable | None,
        option(
            "The name of the text's column in the first line",
            allowed="a name of printable characters, or null",
            example="review",
        ),
    ] = None
    labels: Annotated[
        list[str],
        option(
            "The two labels as the file has them: the names of class 0 and class 1",
            allowed="two different names as the file has them, such as [ham, spam] (yes, no, on, off quoted)",
            example=["negative", "positive"],
        ),
        BeforeValidator(_labels),
    ] = ["ham", "spam"]
    encoding: Annotated[
        str,
        option(
            "The encoding of the file. A byte-order mark is skipped",
            allowed="a text encoding that Python knows, such as utf-8, utf-16, latin-1, cp1252",
            example="latin-1",
        ),
        AfterValidator(_encoding),
    ] = "utf-8"
    quoting: Annotated[
        Literal["standard", "none"],
        option(
            "`standard`: a field may be in double quotes, and then hold delimiters and line ends; `none`: quotes are"
            " characters like others",
            example="none",
        ),
    ] = "standard"

    @property
    def format(self) -> DatasetFormat:
        """How the file is written."""
        class_0, class_1 = self.labels
        labels, columns = (class_0, class_1), (self.label_column, self.text_column)
        return DatasetFormat(self.delimiter, *columns, labels, self.encoding, self.quoting)


class TokenizerConfig(_Schema):
    """The tokenizer, and where its files come from."""

    name: Annotated[
        Literal["gpt2", "bytes"], option("The GPT-2 BPE, or one token for each UTF-8 byte", example="bytes")
    ]
    sources: Annotated[
        list[Source],
        option(
            "Where `vocab.bpe` and `encoder.json` come from, tried in order; not used for `bytes`",
            allowed="a list of address prefixes and folders",
            example=["tokenizer"],
        ),
    ] = []


class FeaturesConfig(_Schema):
    """How features are computed."""

    max_memory_mb: Annotated[
        int,
        option(
            "MiB that hidden states may take while features are computed; less means more, smaller shards",
            example=512,
            ge=64,
        ),
    ]


class Config(_Schema):
    """`config/config.yaml`, with what `--configfile` and `--config` override."""

    results: Annotated[
        PathText,
        option("The folder of everything that is generated", allowed="a path", example="results/mine"),
        AfterValidator(folder_name),
    ]
    rows: Annotated[
        Literal["all"] | list[str],
        option(
            "The rows of the table", allowed="all, or a list of row ids such as [1, 2, 11]", example=["1", "2", "11"]
        ),
        BeforeValidator(_row_ids),
    ]
    experiments: Annotated[CheckoutFile, option("The file with the rows", allowed="a path", example="my_rows.yaml")]
    models: Annotated[CheckoutFile, option("The file with the model sizes", allowed="a path", example="my_models.yaml")]
    published: Annotated[
        CheckoutFile | None,
        option(
            "The file with the published figures; null: there are none, and nothing is compared",
            allowed="a path, or null",
            example=None,
        ),
    ]
    comparisons: Annotated[
        CheckoutFile,
        option("The file with the questions: which rows each compares", allowed="a path", example="my_questions.yaml"),
    ]
    seeds: Annotated[
        list[Seed],
        option(
            "Each row runs once with each seed. The table then shows `mean% ± standard deviation`. The split keeps its"
            " own seed",
            allowed="a list of one or more integers from 0",
            example=[123, 1, 2],
            min_length=1,
        ),
    ]
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"],
        option("Where to compute; `auto` is `cuda` if torch can use a GPU, or else `cpu`", example="cpu"),
    ]
    precision: Annotated[
        Literal["float32", "tf32", "bfloat16"],
        option("Of matrix products: `float32` is exact, `tf32` is for CUDA", example="bfloat16"),
    ]
    micro_batch_size: Annotated[
        int | None,
        option(
            "Examples in one forward and backward pass, for GPUs with little memory: the update is the same. null: a"
            " whole batch. A job that runs out of GPU memory halves it once",
            example=4,
            ge=1,
        ),
    ]
    checkpoint_every_epoch: Annotated[
        bool,
        option(
            "Save a checkpoint after every epoch; otherwise when that takes less than a twentieth of the time since the"
            " last one",
            example=True,
        ),
    ]
    keep_models: Annotated[
        bool,
        option(
            "Keep the trained layers of each run for `predict` and `export`; finished rows without them run again",
            example=True,
        ),
    ] = False
    note: Annotated[
        Annotated[str, AfterValidator(without_secrets)] | None,
        option("A text below the table and in metrics.json", allowed="a text, or null", example="with my own data"),
    ]
    dataset: DatasetConfig
    tokenizer: TokenizerConfig
    features: FeaturesConfig
    snapshot: Annotated[
        PathText | None,
        option(
            "The workflow writes it into results/config.yaml: the folder of its copies of `experiments` and `models`"
            " as they were when it started",
            allowed="a path, or null",
            example=None,
        ),
    ] = None

    def copy_of(self, key: Literal["experiments", "models"]) -> Path | None:
        """The workflow's copy of a file, which a job reads in its place; None if there is none."""
        return None if self.snapshot is None else Path(self.snapshot, f"{key}.yaml")


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
        name = str(first_mistake(error)["loc"][0])
        raise input_error(error, _origin(merged, name, files), Config) from None
    if len(set(config.seeds)) != len(config.seeds):
        where = _origin(merged, "seeds", files)
        raise InputError(f"{where}: seeds contains a duplicate seed: {config.seeds}; keep each once")
    if config.tokenizer.name == "gpt2" and not config.tokenizer.sources:
        where = _origin(merged, "tokenizer", files)
        raise InputError(f"{where}: tokenizer.sources is empty; add a source of the two files of tokenizer 'gpt2'")
    columns = {"label_column": config.dataset.label_column, "text_column": config.dataset.text_column}
    named = {column for column in columns.values() if column is not None}
    if len(named) == 1:
        where = _origin(merged, "dataset", files)
        raise InputError(
            f"{where}: dataset.label_column is {columns['label_column']!r} and dataset.text_column"
            f" {columns['text_column']!r}; name two columns, or neither for a file of labels and texts without a first"
            " line of names"
        )
    return config


def _origin(merged: dict, key: str, files: dict[str, dict]) -> str:
    """Where a key got its value: the last file that holds it, or the command line."""
    if key not in merged:
        return next(iter(files), "--config")
    holders = [file for file, content in files.items() if key in content]
    overridden = not isinstance(merged[key], dict) and not any(_same(files[file][key], merged[key]) for file in holders)
    return "--config" if overridden or not holders else holders[-1]


def _same(one: object, other: object) -> bool:
    return one == other or repr(one) == repr(other)  # not-a-number equals no number


def load_config(paths: Sequence[str | Path]) -> Config:
    """Read configuration files over the default one, as the workflow does; later ones override earlier ones.

    A `results/config.yaml` that the workflow wrote is whole: it is read alone.

    Args:
        paths: of the files; none: the default one.

    Raises:
        InputError: as `load_yaml` and `parse_config`.
    """
    files = {str(path): load_yaml(path) for path in paths}
    if not any(content.get("snapshot") for content in files.values()):
        default = in_checkout(DEFAULT_CONFIG)
        files = {default: load_yaml(default), **files}
    return parse_config(merge_files(files), files)


def merge_files(files: Mapping[str, dict]) -> dict:
    """The settings of configuration files; later ones override earlier ones."""
    return reduce(merge_settings, files.values(), {})


def command_line_settings(arguments: Sequence[str]) -> dict:
    """The settings of `--config KEY=VALUE …`, where a value is what it is in a configuration file.

    Raises:
        InputError: a value repeats a key.
    """
    pairs = [argument.partition("=") for argument in arguments]
    return reduce(merge_settings, ({key: setting_of_text(key, text)} for key, _, text in pairs), {})


def merge_settings(base: dict, over: dict) -> dict:
    """Settings with what overrides them: mappings merge, also with an empty section; lists are replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict | None) and isinstance(merged.get(key), dict)
        merged[key] = merge_settings(merged[key], value or {}) if both else value
    return merged

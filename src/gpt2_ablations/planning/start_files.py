"""The files for a table of one's own, as a short start with comments: the command `init` writes them."""

import codecs
import csv
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import yaml

from ..common.errors import InputError
from ..common.files import explained, write_text_whole
from ..settings.config import CHECKOUT
from ..settings.dataset_format import DELIMITERS
from ..settings.schema.text_types import normal_path

CONFIG = """\
# Settings that differ from config/config.yaml; config/README.md describes every key.
# Paths are relative to the folder in which snakemake runs.
results: {results}
experiments: {experiments}
models: {models}
comparisons: {comparisons}
published: null  # there are no published figures for this data
keep_models: true  # for `predict` and `export`
dataset:
  sources: {sources}
  sha256: null
{found}"""
EXPERIMENTS = """\
# The rows of the table: options over the defaults. config/README.md describes every option.
defaults:
  model_size: gpt2-small (124M)
rows:
  last_token: {}
  first_token: {trainable_token_pos: first}
  all_layers: {trainable_layers: all}
  lora: {trainable_layers: lora, lora_rank: 16, lora_alpha: 16}
"""
COMPARISONS = """\
# The questions that interpretation.md answers: pairs of rows, the baseline first. Add your own.
first_or_last_token:
  question: Does it matter whether the first or the last token is pooled?
  pairs: [[last_token, first_token]]
  measures: [test_accuracy, training_time]
lora:
  question: Can LoRA replace training all layers?
  pairs: [[all_layers, lora]]
  measures: [test_accuracy, training_time, trained_parameters, memory]
"""
MODELS = "# The models. `source` is an hf:// or https address, or a path; config/README.md describes every key.\n"
ROWS_READ_FIRST = 200


@dataclass(frozen=True)
class FoundFormat:
    """How a file of labelled texts is written, as its content suggests; attributes as `dataset` has them."""

    encoding: str
    delimiter: str
    label_column: str | None
    text_column: str | None
    labels: list[str]


def write_start_files(folder: str, data: str | None) -> list[Path]:
    """Write the files for a table of one's own into a folder.

    Args:
        data: a file of labelled texts, which is looked through; None: the configuration has an example.

    Returns: the files, the configuration first.

    Raises:
        InputError: one of the files exists, or no labels and texts are found in the data.
    """
    try:
        folder, source = normal_path(folder), normal_path(data or "my_texts.csv")
    except ValueError as error:
        raise InputError(f"init: {folder if data is None else f'{folder}, {data}'}: {error}") from None
    names = ("config", "experiments", "models", "comparisons")
    files = {name: Path(folder, f"{name}.yaml") for name in names}
    for file in files.values():
        if file.exists():
            raise InputError(f"{file}: exists already; name another folder")
    found = FoundFormat("utf-8", "comma", "label", "text", ["no", "yes"]) if data is None else find_format(source)
    paths = {name: _yaml(str(file)) for name, file in files.items()}
    paths |= {"results": _yaml(str(Path(folder, "results"))), "sources": _yaml([source])}
    lines = [f"  {key}: {_yaml(value)}\n" for key, value in vars(found).items()]
    texts = {"config": CONFIG.format(found="".join(lines), **paths), "experiments": EXPERIMENTS}
    texts |= {"models": MODELS + _first_entry(CHECKOUT / "config" / "models.yaml"), "comparisons": COMPARISONS}
    for name, file in files.items():
        write_text_whole(file, texts[name])
    return list(files.values())


def find_format(path: str) -> FoundFormat:
    """Look through a file of labelled texts for its delimiter, columns and labels.

    The labels are the two values of a column, the texts the column with the longest fields.

    Raises:
        InputError: the file cannot be read, or has no such columns.
    """
    with explained(path):
        encoding = _encoding(path)
        # If several fit: texts have commas often, semicolons sometimes and tabs hardly ever.
        delimiter = max(("tab", "semicolon", "comma"), key=lambda name: _regularity(path, encoding, name))
        counts: list[Counter[str]] = []
        characters: Counter[int] = Counter()
        with open(path, newline="", encoding=encoding, errors="replace") as file:
            reader = csv.reader(file, delimiter=DELIMITERS[delimiter])
            try:
                header = next(reader, [])
                counts = [Counter() for _ in header]
                for row in filter(None, reader):
                    for column, (field, count) in enumerate(zip(row, counts)):
                        characters[column] += len(field)
                        if len(count) < 3 or field in count:
                            count[field] += 1
            except csv.Error as error:
                raise InputError(f"{path}: not a file of {delimiter}-separated columns ({error})") from None
    candidates = [column for column, count in enumerate(counts) if len(count) == 2 and "" not in count]
    label = min(candidates, key=lambda column: -min(counts[column].values()), default=None)
    text = max((column for column in range(len(header)) if column != label), key=characters.__getitem__, default=None)
    if label is None or text is None or min(counts[label].values()) < 2:
        raise InputError(
            f"{path}: found no column with two labels beside a column of texts; leave --data out, and describe the file"
            " in `dataset`"
        )
    labels = sorted(counts[label])
    if header[label] in labels:  # there is no line of names
        if (label, text, len(header)) != (0, 1, 2):
            raise InputError(f"{path}: the columns have no names; add a first line with a name for each column")
        return FoundFormat(encoding, delimiter, None, None, labels)
    return FoundFormat(encoding, delimiter, header[label], header[text], labels)


def _encoding(path: str) -> str:
    """UTF-8, with or without a byte-order mark; otherwise that of Windows."""
    with open(path, "rb") as file:
        encoding = "utf-8-sig" if file.read(3) == codecs.BOM_UTF8 else "utf-8"
    try:
        with open(path, encoding=encoding) as text:
            while text.read(2**20):
                pass
    except UnicodeDecodeError:
        return "cp1252"
    return encoding


def _regularity(path: str, encoding: str, delimiter: str) -> float:
    """The share of rows, read with a delimiter, that have as many columns as the first; 0 if that has one."""
    with open(path, newline="", encoding=encoding, errors="replace") as file:
        try:
            rows = list(islice(filter(None, csv.reader(file, delimiter=DELIMITERS[delimiter])), ROWS_READ_FIRST))
        except csv.Error:
            return 0
    columns = len(rows[0]) if rows else 0
    return sum(len(row) == columns for row in rows) / len(rows) if columns > 1 else 0


def _first_entry(models: Path) -> str:
    """The text of the first model of a models file."""
    lines = [line for line in models.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    end = next(number for number, line in enumerate(lines) if number and not line.startswith(" "))
    return "\n".join(lines[:end]) + "\n"


def _yaml(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()

"""From the messages file to three balanced splits, sampled as in the reference."""

import csv
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import InputError
from ..common.files import explained, write_whole
from ..settings.constants import CLASSES, SPLITS
from ..settings.dataset_format import DELIMITERS, SMS_FORMAT, DatasetFormat

if TYPE_CHECKING:
    from pandas import DataFrame

SPLIT_SEED = 123
MIN_CLASS_SIZE = 10  # examples of each class before balancing


def split_messages(
    messages_file: str | Path, folder: str | Path, file_format: DatasetFormat = SMS_FORMAT
) -> dict[str, int]:
    """Balance the two classes, shuffle the examples, and split them into 70 / 10 / 20 percent.

    The larger class is sampled down to the size of the smaller one. The files `train.csv`, `validation.csv` and
    `test.csv` have the columns Label (0 or 1) and Text. pandas reads, samples and shuffles, as in the reference,
    because the splits depend on its quoting and its random numbers.

    Args:
        messages_file: the labelled texts.
        folder: of the three files.
        file_format: of `messages_file`.

    Returns: the number of examples by split.

    Raises:
        InputError: the file is missing, is no table of labels and texts, or has too few examples of a class.
    """
    messages = _read_messages(messages_file, file_format)
    import pandas as pd

    # The reference samples ham, because spam is its smaller class. A spam class that is larger is sampled too.
    ham, spam = (messages[messages["Label"] == label] for label in file_format.labels)
    size = min(len(ham), len(spam))

    ham = ham.sample(size, random_state=SPLIT_SEED)
    spam = spam if len(spam) == size else spam.sample(size, random_state=SPLIT_SEED)
    balanced = pd.concat([ham, spam])
    balanced["Label"] = balanced["Label"].map(dict(zip(file_format.labels, CLASSES)))
    # The reference shuffles twice with the same seed: after balancing and before splitting.
    shuffled = balanced.sample(frac=1, random_state=SPLIT_SEED).sample(frac=1, random_state=SPLIT_SEED)
    train_end = int(len(shuffled) * 0.7)
    validation_end = train_end + int(len(shuffled) * 0.1)
    parts = (shuffled[:train_end], shuffled[train_end:validation_end], shuffled[validation_end:])
    for name, part in zip(SPLITS, parts, strict=True):
        with write_whole(Path(folder) / f"{name}.csv") as partial:
            part.to_csv(partial, index=False, lineterminator="\n")
    return {name: len(part) for name, part in zip(SPLITS, parts, strict=True)}


def _read_messages(path: str | Path, file_format: DatasetFormat) -> "DataFrame":
    with explained(path, "make it with `snakemake --cores all split_messages`"):
        content = Path(path).read_bytes()
    return parse_messages(content, path, file_format)


def parse_messages(content: bytes, path: str | Path, file_format: DatasetFormat = SMS_FORMAT) -> "DataFrame":
    """Parse the messages file.

    Args:
        content: the bytes of the file.
        path: of the file, for error messages.
        file_format: of the content.

    Returns: a data frame with the columns Label (a label of `file_format`) and Text, one row for each example.

    Raises:
        InputError: the content is no table of labels and texts, or has too few examples of a class.
    """
    import pandas as pd

    try:
        messages = _read_table(content, path, file_format)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: the file is empty; expected lines of {file_format.expected}") from None
    except pd.errors.ParserError as error:
        raise InputError(
            f"{path}: not a {file_format.delimiter}-separated file ({' '.join(str(error).split())}); expected"
            f" {file_format.expected}"
        ) from None
    if messages.empty:
        raise InputError(f"{path}: the file is empty; expected lines of {file_format.expected}")
    for number, (label, text) in enumerate(zip(messages["Label"], messages["Text"], strict=True), start=1):
        if label not in file_format.labels:
            raise InputError(
                f"{path}: example {number} has the label {label!r}; allowed: {', '.join(file_format.labels)}; name the"
                " two labels of your file in dataset.labels"
            )
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{path}: example {number} is empty; give it a text or remove the line")
    counts = {label: int((messages["Label"] == label).sum()) for label in file_format.labels}
    if min(counts.values()) < MIN_CLASS_SIZE:
        found = " and ".join(f"{count} {label}" for label, count in counts.items())
        raise InputError(
            f"{path}: {found} examples; at least {MIN_CLASS_SIZE} of each are needed for three splits; add examples"
        )
    return messages


def _read_table(content: bytes, path: str | Path, file_format: DatasetFormat) -> "DataFrame":
    import pandas as pd

    separator = DELIMITERS[file_format.delimiter]
    if file_format.label_column is None or file_format.text_column is None:
        with warnings.catch_warnings():
            # If the first line has further columns, pandas warns and drops these columns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            try:
                return pd.read_csv(
                    io.BytesIO(content), sep=separator, header=None, names=["Label", "Text"], dtype=str, index_col=False
                )
            except pd.errors.ParserWarning:
                raise pd.errors.ParserError("more than two columns in line 1") from None
    # The first line is read as data, because pandas renames duplicate columns. Texts such as `NA` remain texts.
    table = pd.read_csv(io.BytesIO(content), sep=separator, header=None, dtype=str, keep_default_na=False)
    names = table.iloc[0].tolist()
    label = _column(names, "label_column", file_format.label_column, path)
    text = _column(names, "text_column", file_format.text_column, path)
    messages = table.iloc[1:, [label, text]].reset_index(drop=True)
    messages.columns = ["Label", "Text"]
    return messages


def _column(names: list[str], key: str, name: str, path: str | Path) -> int:
    """The index of a column that the first line names."""
    if names.count(name) > 1:
        raise InputError(f"{path}: duplicate column '{name}' in the first line; rename one of them")
    if name not in names:
        raise InputError(
            f"{path}: dataset.{key} is '{name}', which is not in the first line; allowed: {', '.join(names)}"
        )
    return names.index(name)


def read_split(path: str | Path) -> tuple[list[int], list[str]]:
    """Read the labels (0 or 1) and texts of a split, in the order of the file.

    Raises:
        InputError: the file is missing or is not a split.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        labels, texts = [int(row["Label"]) for row in rows], [row["Text"] for row in rows]
        if not rows or not set(labels) <= set(CLASSES) or None in texts:
            raise ValueError
        return labels, texts
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make it with `snakemake --cores all split_messages`") from None
    except (KeyError, ValueError, TypeError):
        raise InputError(f"{path}: not a split with columns Label (0 or 1) and Text; delete it and run again") from None

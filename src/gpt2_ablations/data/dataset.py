"""From the messages file to three balanced splits, drawn as the reference draws them."""

import csv
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import InputError
from ..common.files import write_whole
from ..settings.constants import CLASSES, SPLITS
from ..settings.dataset_format import DELIMITERS, SMS_FORMAT, MessagesFormat

if TYPE_CHECKING:
    from pandas import DataFrame

SPLIT_SEED = 123
SMALLEST_CLASS = 10


def split_messages(
    messages_file: str | Path, folder: str | Path, written: MessagesFormat = SMS_FORMAT
) -> dict[str, int]:
    """Draw as many messages of the larger class as the smaller has, shuffle, and cut 70 / 10 / 20 percent.

    Writes `train.csv`, `validation.csv` and `test.csv` (columns Label, the class 0 or 1, and Text) to `folder`.
    pandas draws and shuffles, with its own default quoting, because the split depends on both.

    Args:
        written: how the file is written.

    Returns: the number of messages of each split.

    Raises:
        InputError: the file is no table of labels and messages, or holds too few.
    """
    # The reference balances by drawing from ham; with fewer ham than spam the roles change.
    messages = _read_messages(messages_file, written)
    import pandas as pd

    ham, spam = (messages[messages["Label"] == label] for label in written.labels)
    size = min(len(ham), len(spam))

    ham = ham.sample(size, random_state=SPLIT_SEED)
    spam = spam if len(spam) == size else spam.sample(size, random_state=SPLIT_SEED)
    balanced = pd.concat([ham, spam])
    balanced["Label"] = balanced["Label"].map(dict(zip(written.labels, CLASSES)))
    # The reference shuffles when it balances, and once more with the same seed when it cuts.
    shuffled = balanced.sample(frac=1, random_state=SPLIT_SEED).sample(frac=1, random_state=SPLIT_SEED)
    train_end = int(len(shuffled) * 0.7)
    validation_end = train_end + int(len(shuffled) * 0.1)
    parts = (shuffled[:train_end], shuffled[train_end:validation_end], shuffled[validation_end:])
    for name, part in zip(SPLITS, parts, strict=True):
        with write_whole(Path(folder) / f"{name}.csv") as partial:
            part.to_csv(partial, index=False, lineterminator="\n")
    return {name: len(part) for name, part in zip(SPLITS, parts, strict=True)}


def _read_messages(path: str | Path, written: MessagesFormat) -> "DataFrame":
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make it with `snakemake --cores all split_messages`") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    return parse_messages(content, path, written)


def parse_messages(content: bytes, path: str | Path, written: MessagesFormat = SMS_FORMAT) -> "DataFrame":
    """Labels and texts as a data frame with the columns Label (as the file names them) and Text.

    Args:
        path: where the content comes from, for messages.
        written: how the file is written.

    Raises:
        InputError: the content is no table of labels and messages, or holds too few.
    """
    import pandas as pd

    try:
        messages = _read_table(content, path, written)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: the file is empty; expected lines of {written.expected}") from None
    except pd.errors.ParserError as error:
        raise InputError(
            f"{path}: not a {written.delimiter}-separated file ({' '.join(str(error).split())}); expected"
            f" {written.expected}"
        ) from None
    if messages.empty:
        raise InputError(f"{path}: the file is empty; expected lines of {written.expected}")
    for number, (label, text) in enumerate(zip(messages["Label"], messages["Text"], strict=True), start=1):
        if label not in written.labels:
            raise InputError(f"{path}: message {number} has the label {label!r}; allowed: {', '.join(written.labels)}")
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{path}: message {number} is empty; give it a text or remove the line")
    counts = {label: int((messages["Label"] == label).sum()) for label in written.labels}
    if min(counts.values()) < SMALLEST_CLASS:
        found = " and ".join(f"{count} {label}" for label, count in counts.items())
        raise InputError(
            f"{path}: {found} messages; at least {SMALLEST_CLASS} of each are needed for three splits; add messages"
        )
    return messages


def _read_table(content: bytes, path: str | Path, written: MessagesFormat) -> "DataFrame":
    import pandas as pd

    separator = DELIMITERS[written.delimiter]
    if written.label_column is None or written.text_column is None:
        with warnings.catch_warnings():
            # More columns in the first line are worth a warning to pandas, which then drops them all.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            try:
                return pd.read_csv(
                    io.BytesIO(content), sep=separator, header=None, names=["Label", "Text"], dtype=str, index_col=False
                )
            except pd.errors.ParserWarning:
                raise pd.errors.ParserError("more than two columns in line 1") from None
    # The first line as data: pandas would rename a column that stands twice. Texts such as `NA` are texts.
    table = pd.read_csv(io.BytesIO(content), sep=separator, header=None, dtype=str, keep_default_na=False)
    names = table.iloc[0].tolist()
    label = _column(names, "label_column", written.label_column, path)
    text = _column(names, "text_column", written.text_column, path)
    messages = table.iloc[1:, [label, text]].reset_index(drop=True)
    messages.columns = ["Label", "Text"]
    return messages


def _column(names: list[str], key: str, name: str, path: str | Path) -> int:
    """The place of a column in the first line."""
    if names.count(name) > 1:
        raise InputError(f"{path}: column '{name}' stands twice in the first line; rename one of the two")
    if name not in names:
        raise InputError(
            f"{path}: dataset.{key} is '{name}', which does not stand in the first line; allowed: {', '.join(names)}"
        )
    return names.index(name)


def read_split(path: str | Path) -> tuple[list[int], list[str]]:
    """Labels and texts of one split file.

    Raises:
        InputError: the file is missing or not a split.
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

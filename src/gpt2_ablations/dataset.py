"""From the messages file to three balanced splits, drawn as the document's program draws them."""

import csv
import io
from pathlib import Path

from .errors import InputError
from .files import write_whole

SPLITS = ("train", "validation", "test")
LABELS = {"ham": 0, "spam": 1}
SPLIT_SEED = 123
SMALLEST_CLASS = 10


def split_messages(messages_file: str | Path, folder: str | Path) -> dict[str, int]:
    """Draw as many messages of the larger class as the smaller has, shuffle, and cut 70 / 10 / 20 percent.

    Writes `train.csv`, `validation.csv` and `test.csv` (columns Label, 0 ham and 1 spam, and Text) to `folder`.
    pandas draws and shuffles, with its own default quoting, because the split depends on both.

    Returns: the number of messages of each split.

    Raises:
        InputError: the file is no tab-separated list of labels and messages, or holds too few.
    """
    # The document's program balances by drawing from ham; with fewer ham than spam the roles change.
    messages = _read_messages(messages_file)
    import pandas as pd

    ham, spam = (messages[messages["Label"] == label] for label in LABELS)
    size = min(len(ham), len(spam))

    ham = ham.sample(size, random_state=SPLIT_SEED)
    spam = spam if len(spam) == size else spam.sample(size, random_state=SPLIT_SEED)
    balanced = pd.concat([ham, spam])
    balanced["Label"] = balanced["Label"].map(LABELS)
    # The document's program shuffles when it balances, and once more with the same seed when it cuts.
    shuffled = balanced.sample(frac=1, random_state=SPLIT_SEED).sample(frac=1, random_state=SPLIT_SEED)
    train_end = int(len(shuffled) * 0.7)
    validation_end = train_end + int(len(shuffled) * 0.1)
    parts = (shuffled[:train_end], shuffled[train_end:validation_end], shuffled[validation_end:])
    for name, part in zip(SPLITS, parts, strict=True):
        with write_whole(Path(folder) / f"{name}.csv") as partial:
            part.to_csv(partial, index=None, lineterminator="\n")
    return {name: len(part) for name, part in zip(SPLITS, parts, strict=True)}


def _read_messages(path: str | Path):
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make it with `snakemake --cores all split_messages`") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    return parse_messages(content, path)


def parse_messages(content: bytes, path: str | Path):
    """Labels and texts as a data frame with the columns Label (ham or spam) and Text.

    Args:
        path: where the content comes from, for messages.

    Raises:
        InputError: the content is no tab-separated list of labels and messages, or holds too few.
    """
    import pandas as pd

    try:
        messages = pd.read_csv(
            io.BytesIO(content), sep="\t", header=None, names=["Label", "Text"], keep_default_na=True, index_col=False
        )
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except pd.errors.ParserError as error:
        raise InputError(
            f"{path}: not a tab-separated file ({' '.join(str(error).split())}); expected a label, a tab and a message"
        ) from None
    if messages.empty:
        raise InputError(f"{path}: the file is empty; expected lines of a label, a tab and a message")
    for number, (label, text) in enumerate(zip(messages["Label"], messages["Text"], strict=True), start=1):
        if label not in LABELS:
            raise InputError(f"{path}: message {number} has the label {label!r}; allowed: {', '.join(LABELS)}")
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{path}: message {number} is empty; give it a text or remove the line")
    ham, spam = (int((messages["Label"] == label).sum()) for label in LABELS)
    if min(ham, spam) < SMALLEST_CLASS:
        raise InputError(
            f"{path}: {ham} ham and {spam} spam messages; at least {SMALLEST_CLASS} of each are needed for three"
            " splits; add messages"
        )
    return messages


def read_split(path: str | Path) -> tuple[list[int], list[str]]:
    """Labels and texts of one split file.

    Raises:
        InputError: the file is missing or not a split.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        labels, texts = [int(row["Label"]) for row in rows], [row["Text"] for row in rows]
        if not rows or not set(labels) <= set(LABELS.values()) or None in texts:
            raise ValueError
        return labels, texts
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make it with `snakemake --cores all split_messages`") from None
    except (KeyError, ValueError, TypeError):
        raise InputError(f"{path}: not a split with columns Label (0 or 1) and Text; delete it and run again") from None

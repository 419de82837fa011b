"""From the messages file to three balanced splits, sampled as in the reference."""

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import InputError
from ..common.files import explained, write_whole
from ..common.logs import logger
from ..common.records import BYTE_ORDER_MARK, LineCount, is_blank, read_records
from ..common.text import shorten
from ..settings.constants import CLASSES, SPLITS
from ..settings.dataset_format import DELIMITERS, SMS_FORMAT, DatasetFormat

SPLIT_SEED = 123
MIN_CLASS_SIZE = 10  # examples of each class before balancing
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # UTF-32's begins like it


@dataclass(frozen=True)
class Examples:
    """The N labelled texts of a file, in its order.

    Attributes:
        labels: of a file's format, N.
        texts: N.
        counts: examples by label.
        line_note: why there are fewer examples than lines; None if each example is one line.
    """

    labels: list[str]
    texts: list[str]
    counts: dict[str, int]
    line_note: str | None

    @property
    def split_sizes(self) -> dict[str, int]:
        """The number of examples of each split: 70 / 10 / 20 percent of as many examples of either class."""
        total = len(self.counts) * min(self.counts.values())
        train, validation = int(total * 0.7), int(total * 0.1)
        return dict(zip(SPLITS, (train, validation, total - train - validation), strict=True))


def described(examples: Examples | None) -> list[str]:
    """`Examples: 36 ham, 24 spam; 48 are used: 33 train, 4 validation, 11 test`, and the note about lines, if any."""
    if examples is None:
        return []
    found = ", ".join(f"{count} {label}" for label, count in examples.counts.items())
    sizes = examples.split_sizes
    used = ", ".join(f"{count} {split}" for split, count in sizes.items())
    lines = [f"Examples: {found}; {sum(sizes.values())} are used: {used}.", examples.line_note]
    return [line for line in lines if line]


def split_messages(
    messages_file: str | Path,
    folder: str | Path,
    file_format: DatasetFormat = SMS_FORMAT,
    name: str | None = None,
) -> dict[str, int]:
    """Balance the two classes, shuffle the examples, and split them into 70 / 10 / 20 percent.

    The files `train.csv`, `validation.csv` and `test.csv` have the columns Label (0 or 1) and Text.

    Args:
        messages_file: the labelled texts.
        folder: of the three files.
        file_format: of `messages_file`.
        name: what error messages call the file: the user's, if `messages_file` is a copy of it.

    Returns: the number of examples by split.

    Raises:
        InputError: the file is missing, is no table of labels and texts, or has too few examples of a class.
    """
    with explained(messages_file, "make it with `snakemake --cores all split_messages`"):
        content = Path(messages_file).read_bytes()
    examples = parse_messages(content, name or messages_file, file_format)
    for line in described(examples):
        logger.info(line)
    splits = split_examples(examples, file_format)
    for split, indices in splits.items():
        with (
            write_whole(Path(folder) / f"{split}.csv") as partial,
            open(partial, "w", encoding="utf-8", newline="") as file,
        ):
            plain = csv.writer(file, lineterminator="\n")
            # csv quotes a field with a line feed, and leaves one with a carriage return without quotes.
            quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
            plain.writerow(["Label", "Text"])
            for index in indices:
                label, text = CLASSES[file_format.labels.index(examples.labels[index])], examples.texts[index]
                (quoted if "\r" in text else plain).writerow([label, text])
    return {split: len(indices) for split, indices in splits.items()}


def split_examples(examples: Examples, file_format: DatasetFormat) -> dict[str, list[int]]:
    """The indices of the examples of each split, in the split's order.

    The larger class is sampled down to the size of the smaller one. pandas samples and shuffles, as in the reference,
    because the splits depend on its random numbers.
    """
    import pandas as pd

    labels = pd.Series(examples.labels, dtype=object)
    # The reference samples ham, because spam is its smaller class. A spam class that is larger is sampled too.
    ham, spam = (labels[labels == label] for label in file_format.labels)
    size = min(len(ham), len(spam))

    ham = ham.sample(size, random_state=SPLIT_SEED)
    spam = spam if len(spam) == size else spam.sample(size, random_state=SPLIT_SEED)
    # The reference shuffles twice with the same seed: after balancing and before splitting.
    shuffled = pd.concat([ham, spam]).sample(frac=1, random_state=SPLIT_SEED).sample(frac=1, random_state=SPLIT_SEED)
    indices, splits = shuffled.index.tolist(), {}
    for split, count in examples.split_sizes.items():
        splits[split], indices = indices[:count], indices[count:]
    return splits


def parse_messages(content: bytes, name: object, file_format: DatasetFormat = SMS_FORMAT) -> Examples:
    """Parse the messages file.

    Args:
        content: the bytes of the file.
        name: of the file, for error messages.
        file_format: of the content.

    Raises:
        InputError: the content is no table of labels and texts, or has too few examples of a class.
    """
    text = _decoded(content, name, file_format.encoding)
    quoted, empty = file_format.quoting == "standard", f"{name}: the file is empty; expected lines of"
    # Line ends within quotes are part of the text, as they are in the file.
    lines = io.StringIO(text, newline="")
    advice = "close it, or set dataset.quoting: none to read quotes as they are"
    records = read_records(lines, name, DELIMITERS[file_format.delimiter], quoted, advice)
    width, label_index, text_index = 2, 0, 1
    if file_format.label_column is not None and file_format.text_column is not None:
        header = next(records, None)
        if header is None:
            raise InputError(f"{empty} {file_format.expected}")
        names = header.fields
        width = len(names)
        label_index = _column(names, "label_column", file_format.label_column, name)
        text_index = _column(names, "text_column", file_format.text_column, name)
    labels: list[str] = []
    texts: list[str] = []
    count = LineCount()
    for record in records:
        if is_blank(record.fields):
            continue
        where = f"{name}: line {record.first_line}"
        if len(record.fields) > width:
            raise InputError(
                f"{where} has {len(record.fields)} {file_format.delimiter}-separated fields, not {width}; expected"
                f" {file_format.expected}; put a text that holds a {file_format.delimiter} in double quotes"
            )
        fields = record.fields + [""] * (width - len(record.fields))
        label, text = fields[label_index], fields[text_index]
        if label not in file_format.labels:
            raise InputError(
                f"{where} has the label {shorten(label, 40)!r}; allowed: {', '.join(file_format.labels)}; name the two"
                " labels of your file in dataset.labels"
            )
        if not text.strip():
            raise InputError(f"{where} has an empty text; give it a text or remove the line")
        count.add(record)
        labels.append(label)
        texts.append(text)
    if not labels:
        raise InputError(f"{empty} {file_format.expected}")
    counts = {label: labels.count(label) for label in file_format.labels}
    if min(counts.values()) < MIN_CLASS_SIZE:
        found = " and ".join(f"{count} {label}" for label, count in counts.items())
        raise InputError(
            f"{name}: {found} examples; at least {MIN_CLASS_SIZE} of each are needed for three splits; add examples"
        )
    return Examples(labels, texts, counts, count.note("examples", "dataset.quoting: none"))


def _decoded(content: bytes, name: object, encoding: str) -> str:
    try:
        text = content.decode(encoding)
        text.encode("utf-8")  # some encodings have half characters, which no file can hold
        return text.removeprefix(BYTE_ORDER_MARK)
    except ValueError as error:
        where = "the file"
        if isinstance(error, UnicodeDecodeError):
            line = content.count(b"\n", 0, error.start) + 1
            where = f"byte {error.start} (line {line})"
        likely = _likely_encoding(content, encoding)
        raise InputError(
            f"{name}: {where} is not {encoding}; set dataset.encoding to the file's, such as {likely}"
        ) from None


def _likely_encoding(content: bytes, tried: str) -> str:
    """The encoding of a text that is not of the tried one: what its first bytes say, or the usual one of Windows."""
    marked = next((encoding for mark, encoding in MARKS.items() if content.startswith(mark)), None)
    for encoding in (marked, "utf-8", "cp1252"):
        try:
            if encoding and encoding != tried:
                content.decode(encoding)
                return encoding
        except ValueError:
            continue
    return "latin-1"


def _column(names: Sequence[str], key: str, name: str, file: object) -> int:
    """The index of a column that the first line names."""
    if names.count(name) > 1:
        raise InputError(f"{file}: duplicate column '{name}' in the first line; rename one of them")
    if name not in names:
        allowed = ", ".join(filter(None, names))
        raise InputError(f"{file}: dataset.{key} is '{name}', which is not in the first line; allowed: {allowed}")
    return names.index(name)


def read_split(path: str | Path) -> tuple[list[int], list[str]]:
    """Read the labels (0 or 1) and texts of a split, in the order of the file.

    Raises:
        InputError: the file is missing or is not a split.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *records = read_records(file, path)
        label, text = header.fields.index("Label"), header.fields.index("Text")
        labels = [int(record.fields[label]) for record in records]
        if not records or not set(labels) <= set(CLASSES):
            raise ValueError
        return labels, [record.fields[text] for record in records]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make it with `snakemake --cores all split_messages`") from None
    except (IndexError, ValueError, InputError):
        raise InputError(f"{path}: not a split with columns Label (0 or 1) and Text; delete it and run again") from None

"""Reads the texts to classify from a file or standard input, and writes predictions as text, CSV or JSON lines."""

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TextIO

from ..common.errors import InputError, printable
from ..common.files import explained
from ..common.logs import logger
from ..common.records import BYTE_ORDER_MARK, LineCount, read_records
from ..settings.dataset_format import DELIMITERS
from .prediction import Prediction

FORMATS = ("text", "csv", "json")
COLUMNS = ("index", "label", "probability", "logit_0", "logit_1", "text")
STANDARD_INPUT = "-"
# The delimiters of tables, by the end of a file's name.
TABLES = {".csv": "comma", ".tsv": "tab"}


def read_texts(
    file: str,
    column: str | None = None,
    delimiter: str | None = None,
    quoting: str = "standard",
    encoding: str = "utf-8",
) -> Iterator[str]:
    """Read texts one at a time: the lines of a file, or the fields of one column of a CSV file.

    Prints to standard error why there are fewer texts than lines, if a quote encloses a line end.

    Args:
        file: a path, or `-` for standard input.
        column: a column name in the file's first line; None if each line is a text.
        delimiter: between columns, a key of `DELIMITERS`; None: as the file's name says, or else a comma.
        quoting: `standard`, or `none` if quotes are characters like others.
        encoding: a text encoding of Python's. A byte-order mark is skipped.

    Raises:
        InputError: the file cannot be read or is a table whose column is not named, its encoding or its quotes are
            wrong, or the column does not appear exactly once.
    """
    name = "standard input" if file == STANDARD_INPUT else file
    with explained(name):
        try:
            with nullcontext(sys.stdin.buffer) if file == STANDARD_INPUT else open(file, "rb") as binary:
                lines = io.TextIOWrapper(binary, encoding=encoding, newline="")
                kind = delimiter or TABLES.get(Path(name).suffix.lower())
                if column is None and kind is None:
                    yield from _lines(lines)
                else:
                    yield from _fields(lines, name, column, DELIMITERS[kind or "comma"], quoting)
        except UnicodeError:
            raise InputError(
                f"{name}: not {encoding} text; name the file's encoding with --encoding, such as cp1252 or utf-16"
            ) from None


def typed_texts(arguments: list[str]) -> list[str]:
    """Texts of the command line, which are UTF-8 also where the locale is not.

    Raises:
        InputError: a text is not in the locale's encoding, and not UTF-8 either.
    """
    # Python keeps bytes that the locale's encoding lacks as surrogates, which are in no encoding.
    try:
        return [os.fsencode(text).decode("utf-8") if _has_surrogates(text) else text for text in arguments]
    except UnicodeDecodeError:
        raise InputError("predict: a text is neither in the locale's encoding nor UTF-8; use --file") from None


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _lines(lines: TextIO) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield (line if number else line.removeprefix(BYTE_ORDER_MARK)).rstrip("\r\n")


def _fields(lines: TextIO, name: str, column: str | None, delimiter: str, quoting: str) -> Iterator[str]:
    advice = "close it, or read quotes as they are with --quoting none"
    records = read_records(lines, name, delimiter, quoting == "standard", advice)
    first = next(records, None)
    header = first.fields if first else []
    if column is None:
        raise InputError(
            f"{name}: a table; name the column of its texts with --column; found: {', '.join(header)} (to classify"
            " whole lines, give them to standard input)"
        )
    if header.count(column) != 1:
        raise InputError(
            f"{name}: --column is '{column}', found {header.count(column)} times in the first line; allowed:"
            f" {', '.join(header)}"
        )
    index, count = header.index(column), LineCount()
    for record in records:
        count.add(record)
        yield record.fields[index] if index < len(record.fields) else ""
    if note := count.note("texts", "--quoting none"):
        logger.info(note)


def write_predictions(predictions: Iterable[Prediction], output_format: str, out: TextIO) -> None:
    """Write predictions, one line each, as they arrive. CSV and JSON are UTF-8 whatever the locale.

    Args:
        output_format: `text`: label, probability and text, separated by tabs; `csv`: `COLUMNS`, with a header;
            `json`: an object with the keys `COLUMNS`.
    """
    if output_format != "text" and isinstance(out, io.TextIOWrapper):
        out.reconfigure(encoding="utf-8")
    table = csv.writer(out, lineterminator="\n")
    if output_format == "csv":
        table.writerow(COLUMNS)
    for prediction in predictions:
        index = prediction.index
        logits = [f"{logit:.9g}" for logit in prediction.logits]
        if output_format == "csv":
            table.writerow([index, prediction.label, f"{prediction.probability:.9g}", *logits, prediction.text])
        elif output_format == "json":
            values = [index, prediction.label, prediction.probability, *map(float, logits), prediction.text]
            print(json.dumps(dict(zip(COLUMNS, values, strict=True)), ensure_ascii=False), file=out)
        else:
            print(f"{prediction.label}\t{prediction.probability:.2%}\t{printable(prediction.text)}", file=out)
    out.flush()

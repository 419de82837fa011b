"""Reads the texts to classify from a file or standard input, and writes predictions as text, CSV or JSON lines."""

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from ..common.errors import InputError, printable
from ..common.files import explained
from .prediction import Prediction

FORMATS = ("text", "csv", "json")
COLUMNS = ("index", "label", "probability", "logit_0", "logit_1", "text")
STANDARD_INPUT = "-"


def read_texts(file: str, column: str | None) -> Iterator[str]:
    """Read texts one at a time: the lines of a file, or the fields of one column of a CSV file.

    Args:
        file: a path, or `-` for standard input. UTF-8. With `column`, a name that ends in `.tsv` means tab-separated.
        column: a column name in the file's first line; None if each line is a text.

    Raises:
        InputError: the file cannot be read, is not UTF-8 or not CSV, or the column does not appear exactly once.
    """
    name = "standard input" if file == STANDARD_INPUT else file
    with explained(name):
        if file == STANDARD_INPUT:
            yield from _texts(io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline=""), name, column)
        else:
            with open(file, encoding="utf-8-sig", newline="") as opened:
                yield from _texts(opened, name, column)


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


def _texts(opened: TextIO, name: str, column: str | None) -> Iterator[str]:
    if column is None:
        for line in opened:
            yield line.rstrip("\r\n")
        return
    lines = csv.reader(opened, delimiter="\t" if Path(name).suffix == ".tsv" else ",")
    try:
        header = next(lines, [])
        if header.count(column) != 1:
            raise InputError(
                f"{name}: --column is '{column}', found {header.count(column)} times in the first line; allowed:"
                f" {', '.join(header)}"
            )
        index = header.index(column)
        for fields in lines:
            if fields:
                yield fields[index] if index < len(fields) else ""
    except csv.Error as error:
        raise InputError(f"{name}: line {lines.line_num} is not CSV ({error}); correct the line") from None


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
    for index, prediction in enumerate(predictions):
        logits = [f"{logit:.9g}" for logit in prediction.logits]
        if output_format == "csv":
            table.writerow([index, prediction.label, f"{prediction.probability:.9g}", *logits, prediction.text])
        elif output_format == "json":
            values = [index, prediction.label, prediction.probability, *map(float, logits), prediction.text]
            print(json.dumps(dict(zip(COLUMNS, values, strict=True)), ensure_ascii=False), file=out)
        else:
            print(f"{prediction.label}\t{prediction.probability:.2%}\t{printable(prediction.text)}", file=out)
    out.flush()

"""Reads tables of delimited text as other programs write them: any line end, byte-order mark, quoting, field length."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .errors import InputError

# Python refuses fields of more than 131,072 characters otherwise.
csv.field_size_limit(2**31 - 1)
BYTE_ORDER_MARK = "\ufeff"


class Record(NamedTuple):
    """The fields of a record, and the numbers of its first and last line, from 1."""

    first_line: int
    last_line: int
    fields: list[str]


def read_records(
    lines: Iterable[str], name: object, delimiter: str = ",", quoted: bool = True, advice: str = "close it"
) -> Iterator[Record]:
    """The records of a table. Lines without a character are skipped.

    Quotes work as in pandas: one at the beginning of a field encloses delimiters and line ends.

    Args:
        lines: with their line ends as they are in the file (`newline=""`).
        name: of the file, for error messages.
        quoted: whether quotes enclose fields; otherwise they are characters like others.
        advice: what to do about a quote that is not closed.

    Raises:
        InputError: a quote is never closed.
    """
    at_end = False

    def then_end() -> Iterator[str]:
        nonlocal at_end
        for number, line in enumerate(lines):
            yield line if number else line.removeprefix(BYTE_ORDER_MARK)
        # A record that continues on a line after the last one is not closed.
        at_end = True
        yield "\n"

    reader = csv.reader(then_end(), delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    last_line = 0
    try:
        for fields in reader:
            first_line, last_line = last_line + 1, reader.line_num
            if at_end and fields:
                raise InputError(f"{name}: line {first_line} opens a quote that no line closes; {advice}")
            if not is_blank(fields) or len(fields) > 1:
                yield Record(first_line, last_line, fields)
    except csv.Error as error:
        raise InputError(f"{name}: line {reader.line_num} is not CSV ({error}); correct the line") from None


def is_blank(fields: Iterable[str]) -> bool:
    """Whether a record holds nothing, as the empty rows do that spreadsheets write."""
    return not any(map(str.strip, fields))


@dataclass
class LineCount:
    """Counts records and their lines."""

    lines: int = 0
    records: int = 0
    longer: int = 0
    first: Record | None = None

    def add(self, record: Record) -> None:
        """Count a record."""
        self.records += 1
        self.lines += record.last_line - record.first_line + 1
        if record.last_line > record.first_line:
            self.longer += 1
            self.first = self.first or record

    def note(self, noun: str, setting: str) -> str | None:
        """Why there are fewer records than lines; None if there are not.

        Args:
            noun: what a record is, in the plural.
            setting: what makes each line a record.
        """
        if self.first is None:
            return None
        more = f", and {self.longer - 1} more such" if self.longer > 1 else ""
        return (
            f"{self.lines} lines, {self.records} {noun}: line {self.first.first_line} opens a quote that line"
            f" {self.first.last_line} closes{more}; {setting} reads each line by itself"
        )

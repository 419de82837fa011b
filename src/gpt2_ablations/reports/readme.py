"""Writes the table into the README, between two markers."""

import difflib
from pathlib import Path

from ..common.errors import InputError
from ..common.files import write_text_whole
from ..common.text import counted

BEGIN, END = "<!-- table -->", "<!-- /table -->"


def readme_with(readme: Path, block: str) -> tuple[str, str]:
    """The text of a README, and the same text with the block between the markers.

    Raises:
        InputError: the file cannot be read, or the markers are not on lines of their own.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{readme}: cannot be read ({error.strerror}); check the path") from None
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not begin or not end:
        raise InputError(f"{readme}: the lines {BEGIN} and {END} are missing; add them where the table belongs")
    return text, f"{before}{begin}{block.strip()}\n{end}{after}"


def update_readme(readme: Path, block: str) -> bool:
    """Write the block into the README.

    Returns: whether the file changed.

    Raises:
        InputError: the file cannot be read or has no markers.
    """
    current, updated = readme_with(readme, block)
    if current != updated:
        write_text_whole(readme, updated)
    return current != updated


def readme_difference(readme: Path, block: str) -> str:
    """A unified diff from the README to its updated text; empty if it is up to date.

    Raises:
        InputError: the file cannot be read or has no markers.
    """
    current, updated = readme_with(readme, block)
    lines = difflib.unified_diff(current.splitlines(), updated.splitlines(), str(readme), "updated", lineterm="")
    return "\n".join(lines)


def readme_block(table: str, finished: int, rows: int) -> str:
    """The text between the markers: the table, and how many of the rows are reproduced.

    Args:
        finished: the number of rows that have run.
        rows: the number of rows of the experiments file.
    """
    if finished == rows:
        return table
    return f"{table}\nReproduced so far: {finished} of {counted(rows, 'row')}.\n"

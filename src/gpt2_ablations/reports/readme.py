"""The table in the README, between two markers."""

import difflib
from pathlib import Path

from ..common.errors import InputError
from ..common.files import write_text_whole

BEGIN, END = "<!-- table -->", "<!-- /table -->"


def readme_with(readme: Path, block: str) -> tuple[str, str]:
    """A README as it is, and as it should be.

    Raises:
        InputError: the file is missing, or lacks the two markers in a line each.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{readme}: cannot be read ({error.strerror})") from None
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not begin or not end:
        raise InputError(f"{readme}: needs the lines {BEGIN} and {END}, between which the table goes; add them")
    return text, f"{before}{begin}{block.strip()}\n{end}{after}"


def update_readme(readme: Path, block: str) -> bool:
    """Write the block into the README if it is not there already.

    Returns: whether the file changed.
    """
    found, wanted = readme_with(readme, block)
    if found != wanted:
        write_text_whole(readme, wanted)
    return found != wanted


def readme_difference(readme: Path, block: str) -> str:
    """A unified diff from the README to what it should be; empty if it is up to date."""
    found, wanted = readme_with(readme, block)
    lines = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), str(readme), "as the results have it", lineterm=""
    )
    return "\n".join(lines)


def readme_block(table: str, finished: int, rows: int) -> str:
    """What stands between the markers: the table, and how much of it there is."""
    if finished == rows:
        return table
    return f"{table}\nReproduced so far: {finished} of {rows} rows.\n"

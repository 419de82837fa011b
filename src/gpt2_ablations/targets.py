"""The rows that a call of Snakemake asks for by name: `row_11`, or a file of `results/rows/11/seed-123`."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from .errors import InputError
from .paths import Paths
from .validation import allowed_names


def check_targets(arguments: Iterable[str], rows: Iterable[str], experiments: str, paths: Paths) -> None:
    """Stop at a row that is not there. Snakemake would say that no rule makes it, or print a traceback.

    While a Snakefile is read, Snakemake does not say what its targets are: these are all arguments of the command line.

    Args:
        rows: those of the file `experiments`.

    Raises:
        InputError: an argument names a row that is not there.
    """
    rows = list(rows)
    for argument in arguments:
        row = _row_of(argument, paths)
        if row is not None and row not in rows:
            raise InputError(f"{argument}: row '{row}' is not in {experiments}; {allowed_names(row, rows)}")


def _row_of(argument: str, paths: Paths) -> str | None:
    if rule := re.fullmatch(r"row_([A-Za-z0-9_-]+)", argument):
        # What exists is a file or folder that an option names.
        return None if Path(argument).exists() else rule[1]
    file = Path(os.path.normpath(argument))
    if len(file.parts) < 3 or not file.parent.name.startswith("seed-"):
        return None
    row, seed = file.parts[-3], file.parent.name.removeprefix("seed-")
    return row if file.parent == paths.row(row, seed) else None

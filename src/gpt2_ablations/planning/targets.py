"""The rows that a call of Snakemake asks for by name: `row_11`, or a file of `results/rows/11/seed-123`."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..settings.config import ROW_ID, named_row
from ..settings.paths import Paths
from .workflow import Workflow

# What follows this option, whose short form is the second, are files to forget, of rows that are gone too.
FORGET = ("--cleanup-metadata", "--cm")


def check_targets(plan: Workflow, arguments: Sequence[str]) -> None:
    """Stop at a row that is not there. Snakemake would say that no rule makes it, or print a traceback.

    While a Snakefile is read, Snakemake does not say what its targets are.

    Args:
        arguments: all of the command line.

    Raises:
        InputError: an argument names a row that is not there.
    """
    if any(option in arguments for option in FORGET):
        return
    for argument in arguments:
        row = _row_of(argument, plan.paths)
        if row is not None:
            named_row(row, plan.experiments, plan.config.experiments, where=f"{argument}: ")


def _row_of(argument: str, paths: Paths) -> str | None:
    name = argument.removeprefix("row_")
    if name != argument and ROW_ID.fullmatch(name):
        # What exists is a file or folder that an option names.
        return None if Path(argument).exists() else name
    file = Path(os.path.normpath(argument))
    if len(file.parts) < 3 or not file.parent.name.startswith("seed-"):
        return None
    row, seed = file.parts[-3], file.parent.name.removeprefix("seed-")
    return row if file.parent == paths.row(row, seed) else None

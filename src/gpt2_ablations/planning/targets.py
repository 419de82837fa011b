"""The rows that an invocation names as its targets: `row_11`, or a file in `results/rows/11/seed-123`."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..settings.paths import Paths
from ..settings.rows import ROW_ID, named_row
from .workflow import Workflow

# The files after this option, here with its short form, are forgotten. Their rows may have been removed.
FORGET = ("--cleanup-metadata", "--cm")


def check_targets(workflow: Workflow, arguments: Sequence[str]) -> None:
    """Refuse a row that does not exist. Snakemake itself would report a missing rule, or print a traceback.

    Snakemake does not tell a Snakefile its targets, so they are taken from the command line.

    Args:
        arguments: all arguments of the command line.

    Raises:
        InputError: an argument names a row that does not exist.
    """
    if any(option in arguments for option in FORGET):
        return
    for argument in arguments:
        row = _row_of(argument, workflow.paths)
        if row is not None:
            named_row(row, workflow.experiments, workflow.config.experiments, where=f"{argument}: ")


def _row_of(argument: str, paths: Paths) -> str | None:
    """The row that an argument names; None if it is no target of this workflow."""
    name = argument.removeprefix("row_")
    if name != argument and ROW_ID.fullmatch(name):
        # An existing path is the value of an option.
        return None if Path(argument).exists() else name
    file = Path(os.path.normpath(argument))
    if len(file.parts) < 3 or not file.parent.name.startswith("seed-"):
        return None
    row, seed = file.parts[-3], file.parent.name.removeprefix("seed-")
    return row if file.parent == paths.row(row, seed) else None

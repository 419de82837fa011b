"""Types of texts in configuration files: paths, sources, names and hashes."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError
    return value


def _path(value: str) -> str:
    # Snakemake takes braces for wildcards.
    if not value.isprintable() or not {"{", "}"}.isdisjoint(value):
        raise ValueError("allowed: a path of printable characters without braces")
    return value


def _source(value: str) -> str:
    if "://" not in value or value.lower().startswith("file:"):
        return _path(value)
    if not value.isprintable():
        raise ValueError("allowed: an address of printable characters")
    return value


def folder_name(value: str) -> str:
    """A folder that commands do not take for an option."""
    if str(Path(value)).startswith("-"):
        raise ValueError("allowed: a folder whose name does not begin with '-'")
    return value


# One line that cannot command a terminal.
Printable = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
PathText = Annotated[str, Field(min_length=1), AfterValidator(_path)]
Source = Annotated[str, Field(min_length=1), AfterValidator(_source)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

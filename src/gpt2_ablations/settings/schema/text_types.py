"""Types of texts in configuration files: paths, sources, names and hashes."""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from ...common.errors import outside_locale

_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError
    return value


def normal_path(value: str) -> str:
    """The one form of a path that all rules and commands use, whichever way it was written.

    `~` and environment variables are replaced. Double and trailing slashes, `./` and `..` are removed. The form of a
    form is itself: jobs read paths that have their form already.

    Raises:
        ValueError: there is no such variable, or Snakemake could not handle the path.
        InputError: the locale's encoding lacks a character of the path.
    """
    path = os.path.expandvars(os.path.expanduser(value))
    if path.startswith("~"):
        raise ValueError("there is no such home folder; a file of this name is ./~…")
    if unset := _VARIABLE.search(path):
        raise ValueError(f"the environment variable {unset[1].strip('{}')} is not set; set it, or write the path out")
    # Snakemake takes braces for wildcards, and warns about spaces around a path.
    if not path.isprintable() or not {"{", "}"}.isdisjoint(path) or path != path.strip() or not path:
        raise ValueError("allowed: a path of printable characters without braces, and without spaces around it")
    if "://" in path:
        raise ValueError("allowed: a path, not an address")
    normal = os.path.normpath(path)
    try:
        if os.path.realpath(normal) != os.path.realpath(path):  # `..` after a symbolic link
            normal = str(Path(path))
    except UnicodeEncodeError as error:
        raise outside_locale(error) from None
    normal = re.sub("^//+", "/", normal)
    # `./~` is a file of this name, and `x/ ` a folder whose name is a space.
    return os.path.abspath(normal) if normal[0] in "~ " else normal


def _source(value: str) -> str:
    if "://" not in value:
        return normal_path(value)
    if not value.isprintable():
        raise ValueError("allowed: an address of printable characters")
    if value.lower().startswith("file:") and not {"{", "}"}.isdisjoint(value):
        raise ValueError("allowed: the address of a path without braces")
    return value


def folder_name(value: str) -> str:
    """A folder that commands do not take for an option."""
    if value.startswith("-"):
        raise ValueError("allowed: a folder whose name does not begin with '-'")
    return value


# One line that cannot command a terminal.
Printable = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
PathText = Annotated[str, Field(min_length=1), AfterValidator(normal_path)]
Source = Annotated[str, Field(min_length=1), AfterValidator(_source)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$"), AfterValidator(str.lower)]

"""This workflow as a module of another workflow, which gives settings instead of configuration files."""

import os
from pathlib import Path
from typing import Any

from ..common.errors import InputError
from ..settings.config import DEFAULT_CONFIG, merge_settings
from ..settings.schema.yaml_files import load_yaml

# The name of the other workflow's settings in messages.
MODULE_CONFIG = "the module's config"


def module_config(given: dict[str, Any], checkout: Path) -> tuple[dict[str, Any], dict[str, dict]]:
    """The settings of a module: the given ones over the defaults of this checkout.

    Given paths are relative to the working directory, as all paths are. Paths of the defaults are this checkout's.

    Returns: the merged settings, and the content of each of their sources by name.

    Raises:
        InputError: the defaults cannot be read.
    """
    defaults = load_yaml(checkout / DEFAULT_CONFIG)
    for key in ("experiments", "models", "published", "comparisons"):
        defaults[key] = os.path.relpath(checkout / defaults[key])
    return merge_settings(defaults, given), {os.path.relpath(checkout / DEFAULT_CONFIG): defaults, MODULE_CONFIG: given}


def check_module(prefix: str | None) -> None:
    """Check how the other workflow uses this one.

    Args:
        prefix: of the module statement, which Snakemake puts before the paths of rules but not of jobs' settings.

    Raises:
        InputError: there is a prefix.
    """
    if prefix is not None:
        raise InputError(f"module: prefix is '{prefix}'; leave it out, and set `results` in the module's config")

"""This workflow as a module of another one, which hands over settings in place of configuration files."""

import os
from pathlib import Path
from typing import Any

from ..common.errors import InputError
from ..settings.config import merge_settings
from ..settings.yaml_files import load_yaml

DEFAULTS = "config/config.yaml"
# What messages call the settings of the other workflow.
MODULE_CONFIG = "the module's config"


def module_config(given: dict[str, Any], checkout: Path) -> tuple[dict[str, Any], dict[str, dict]]:
    """The settings of a module: those that are given over this checkout's defaults.

    Paths that are given are relative to the working directory, as all paths are; the defaults are this checkout's.

    Returns: the merged settings, and what each of their sources holds.

    Raises:
        InputError: the defaults cannot be read.
    """
    defaults = load_yaml(checkout / DEFAULTS)
    for key in ("experiments", "models", "published", "comparisons"):
        defaults[key] = os.path.relpath(checkout / defaults[key])
    return merge_settings(defaults, given), {os.path.relpath(checkout / DEFAULTS): defaults, MODULE_CONFIG: given}


def check_module(prefix: str | None) -> None:
    """Check how the other workflow uses this one.

    Raises:
        InputError: paths get a prefix, of which the jobs do not know.
    """
    if prefix is not None:
        raise InputError(f"module: prefix is '{prefix}'; leave it out, and set `results` in the module's config")

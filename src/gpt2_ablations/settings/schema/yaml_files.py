"""Reads YAML strictly: duplicate keys are refused, and keys are text as written (`1`, `01`, `yes`)."""

from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import yaml

from ...common.errors import InputError
from ...common.files import explained


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        self.flatten_mapping(node)
        mapping, lines = {}, {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise InputError(f"line {line}: a key must be plain text")
            key = key_node.value
            if key in mapping:
                raise InputError(f"line {line}: duplicate key '{key}' (first in line {lines[key]}); keep one of them")
            mapping[key], lines[key] = self.construct_object(value_node, deep=deep), line
        return mapping


def _mapping(loader: _StrictLoader, node: yaml.Node) -> dict:
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG,
    _mapping,
)


@lru_cache(maxsize=8)
def _parsed(text: str) -> object:
    """The content of a YAML text. A file of 1,000 rows takes a second, and it is read twice: rows, then labels."""
    return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 a SafeLoader


def load_yaml(path: str | Path, copy: Path | None = None) -> dict:
    """The mapping in a YAML file, with text keys.

    Args:
        path: of the file; messages name it.
        copy: read this file instead.

    Raises:
        InputError: the file is missing, is not UTF-8 or not YAML, repeats a key, or is no mapping.
    """
    with explained(path, "check the path or restore the file"):
        text = Path(copy or path).read_text(encoding="utf-8")
    try:
        content = deepcopy(_parsed(text))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply; write it flat") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise InputError(f"{path}: {line}not valid YAML ({problem}); fix the syntax") from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise InputError(f"{path}: expected a mapping of keys to values, found {found}")
    return content

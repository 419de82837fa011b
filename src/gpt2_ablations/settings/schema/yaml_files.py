"""Reads YAML strictly: duplicate keys are refused; keys, ids, names and paths are text as written (`01`)."""

import re
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import yaml

from ...common.errors import InputError
from ...common.files import explained

_TAG = "tag:yaml.org,2002:"
# Keys whose values, and the values of whose lists, are text.
_TEXTS = {"rows", "pairs", "labels", "label", "label_column", "text_column", "note", "sha256", "encoding"}
_TEXTS |= {"results", "experiments", "models", "published", "comparisons", "sources", "source"}


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        lines = {}
        for key_node, value_node in node.value:
            line, key = key_node.start_mark.line + 1, key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                raise InputError(f"line {line}: a key must be plain text")
            if key_node.tag != f"{_TAG}merge" and key in lines:
                raise InputError(f"line {line}: duplicate key '{key}' (first in line {lines[key]}); keep one of them")
            lines[key] = line
            if key in _TEXTS:
                _keep_text(value_node, set())
        # A key of the mapping itself comes after those that it merges. Each is kept once, for merges of merges.
        self.flatten_mapping(node)
        node.value = list({key_node.value: (key_node, value_node) for key_node, value_node in node.value}.values())
        return {key_node.value: self.construct_object(value_node, deep=deep) for key_node, value_node in node.value}

    def construct_yaml_int(self, node):
        # YAML 1.1 takes 010 for the octal number 8.
        decimal = re.fullmatch(r"[-+]?[0-9_]+", node.value)
        return int(node.value.replace("_", "")) if decimal else super().construct_yaml_int(node)


def _keep_text(node: yaml.Node, seen: set[int]) -> None:
    """Keep a value, and those in its lists, as they are written. null remains null."""
    if isinstance(node, yaml.ScalarNode) and node.tag != f"{_TAG}null":
        node.tag = f"{_TAG}str"
    elif isinstance(node, yaml.SequenceNode) and id(node) not in seen:
        seen.add(id(node))
        for child in node.value:
            _keep_text(child, seen)


def _mapping(loader: _StrictLoader, node: yaml.Node) -> dict:
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_StrictLoader.add_constructor(f"{_TAG}int", _StrictLoader.construct_yaml_int)
# YAML 1.1 takes 1e-3 for a text.
_StrictLoader.add_implicit_resolver(
    f"{_TAG}float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
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


def setting_of_text(key: str, text: str) -> object:
    """The value that a key has in YAML if this text follows it; the text itself if that is not YAML.

    Raises:
        InputError: the text repeats a key.
    """
    try:
        content = deepcopy(_parsed(f"{key}: {text}"))
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    if isinstance(content, dict) and content.keys() == {key} and " #" not in text:
        return content[key]
    return text

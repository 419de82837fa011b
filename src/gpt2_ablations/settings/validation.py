"""Turns what pydantic finds wrong into one line a user can act on."""

import difflib
import reprlib
from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..common.errors import InputError

UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")


def input_error(error: ValidationError, where: str, known_keys: Iterable[str] = ()) -> InputError:
    """The first mistake of a validation as an InputError, with a count of the others.

    Args:
        where: the file, and the row or model, e.g. "config/experiments.yaml: row 3".
        known_keys: the keys allowed at this level, for the message about an unknown one.
    """
    line = f"{where}: {_sentence(first_mistake(error), list(known_keys))}"
    if error.error_count() > 1:
        others = error.error_count() - 1
        line += f" (and {others} more mistake{'s' if others > 1 else ''})"
    return InputError(line)


def first_mistake(error: ValidationError) -> ErrorDetails:
    """The mistake to fix first: a misspelt key, which also shows as a missing one, before all others."""
    return min(error.errors(include_url=False), key=lambda mistake: mistake["type"] not in UNKNOWN_KEY)


def allowed_names(found: str, names: Iterable[str]) -> str:
    """`allowed: a, b, c`, led by the closest name if `found` looks like a misprint of it."""
    names = list(names)
    close = difflib.get_close_matches(str(found), names, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}allowed: {', '.join(names)}"


def _sentence(mistake: ErrorDetails, known_keys: list[str]) -> str:
    # Union branches ("literal[...]", "int") are pydantic's own path elements, not keys of the user's.
    path = ".".join(str(part) for part in mistake["loc"] if "[" not in str(part))
    found, kind, context = mistake["input"], mistake["type"], mistake.get("ctx", {})
    if kind in UNKNOWN_KEY:
        return f"unknown key '{path}'; {allowed_names(path, known_keys)}"
    if kind in ("missing", "missing_argument"):
        return f"key '{path}' is missing; add it"
    if kind == "value_error":
        text = str(context.get("error", mistake["msg"]))
        return f"{path} is {_show(found)}; {text}" if path else text
    if kind == "too_short":
        return f"{path} is {_show(found)}; it must hold at least one entry"
    if kind == "literal_error":
        return f"{path} is {_show(found)}; allowed: {context['expected']}"
    requirement = mistake["msg"].removeprefix("Input should be ")
    return f"{path} is {_show(found)}; it must be {requirement}"


# YAML can name one list many times over: written out in full, a few lines of it would fill the memory.
_SHORTENED = reprlib.Repr()
_SHORTENED.maxlevel, _SHORTENED.maxdict, _SHORTENED.maxlist = 3, 8, 8
_SHORTENED.maxstring = _SHORTENED.maxlong = _SHORTENED.maxother = 100


def _show(value: object) -> str:
    try:
        text = _SHORTENED.repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."

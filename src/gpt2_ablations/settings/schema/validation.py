"""Turns what pydantic finds wrong into one line that a user can act on."""

import difflib
import reprlib
from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ...common.errors import InputError
from .options import Schema, allowed_values, field_at, keys_at

UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")


def input_error(error: ValidationError, where: str, schema: Schema) -> InputError:
    """The first mistake of a validation as an InputError, with a count of the others.

    Args:
        where: the file, and the row or model, such as `config/experiments.yaml: row 3`.
        schema: what was validated: its fields say what is allowed.
    """
    line = f"{where}: {_sentence(first_mistake(error), schema)}"
    if error.error_count() > 1:
        others = error.error_count() - 1
        line += f" (and {others} more mistake{'s' if others > 1 else ''})"
    return InputError(line)


def first_mistake(error: ValidationError) -> ErrorDetails:
    """The mistake to fix first: a misspelt key, which also appears as a missing one, before all others."""
    return min(error.errors(include_url=False), key=lambda mistake: mistake["type"] not in UNKNOWN_KEY)


def allowed_names(found: str, names: Iterable[str]) -> str:
    """`allowed: a, b, c`, preceded by the closest name if `found` looks like a misspelling of it."""
    names = list(names)
    return f"{did_you_mean(found, names)}allowed: {', '.join(names)}"


def did_you_mean(found: str, names: Iterable[str]) -> str:
    """`did you mean 'a'? ` for the name that `found` looks like; empty if there is none."""
    close = difflib.get_close_matches(str(found), list(names), n=1)
    return f"did you mean '{close[0]}'? " if close else ""


def _sentence(mistake: ErrorDetails, schema: Schema) -> str:
    # Union branches ("literal[...]", "int") are pydantic's own path elements, not keys of the user's.
    keys = [str(part) for part in mistake["loc"] if "[" not in str(part)]
    path, found, kind = ".".join(keys), mistake["input"], mistake["type"]
    if kind in UNKNOWN_KEY:
        return f"unknown key '{path}'; {allowed_names(keys[-1], keys_at(schema, keys))}"
    if kind in ("missing", "missing_argument"):
        return f"key '{path}' is missing; add it"
    special = str(mistake.get("ctx", {}).get("error", "")) if kind == "value_error" else ""
    if special:
        return f"{path} is {_show(found)}; {special}" if path else special
    field = field_at(schema, keys)
    allowed = allowed_values(field) if field is not None else None
    if allowed is None:
        # pydantic's `Input should be a valid list`, `String should have at least 1 character`
        return f"{path or 'a key'} is {_show(found)}; it must {mistake['msg'].rpartition(' should ')[2]}"
    return f"{path} is {_show(found)}; allowed: {allowed}"


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

"""Options described once, where they are declared: a description, the allowed values and an example of each field.

Error messages, `train --help` and the tables of config/README.md are made of these descriptions.
"""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, Field
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

# A pydantic model or dataclass, or the fields of one.
Schema = Any


def option(description: str, *, example: Any, allowed: str | None = None, **constraints: Any) -> Any:
    """A pydantic field that describes itself.

    Args:
        description: what the option does, in a sentence without a full stop at its end.
        allowed: its values in words; None: what the type and the constraints say (choices, truth values, integers).
        constraints: as `pydantic.Field` takes them.
    """
    extra: JsonDict | None = None if allowed is None else {"allowed": allowed}
    return Field(description=description, examples=[example], json_schema_extra=extra, **constraints)


def fields_of(schema: Schema) -> Mapping[str, FieldInfo]:
    """The fields of a pydantic model or dataclass, by name."""
    if isinstance(schema, Mapping):
        return schema
    return getattr(schema, "model_fields", None) or getattr(schema, "__pydantic_fields__", {})


def field_at(schema: Schema, path: list[str]) -> FieldInfo | None:
    """The field at a path such as `["dataset", "sources"]`; None if there is none."""
    fields, field = fields_of(schema), None
    for key in path:
        if key not in fields:
            return field
        field = fields[key]
        nested = _nested(field)
        fields = fields_of(nested) if nested else {}
    return field


def keys_at(schema: Schema, path: list[str]) -> list[str]:
    """The keys that are allowed beside the last one of a path."""
    for key in path[:-1]:
        field = fields_of(schema).get(key)
        schema = _nested(field) if field is not None else None
        if schema is None:
            return []
    return list(fields_of(schema))


def _nested(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def allowed_values(field: FieldInfo) -> str | None:
    """The allowed values of a field in words: `first, last, flexible`; None if they are not described."""
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "allowed" in extra:
        return str(extra["allowed"])
    parts = _alternatives(field.annotation)
    texts = [_allowed_by_type(part, field.metadata) for part in parts if part is not type(None)]
    if None in texts:
        return None
    return ", or ".join([*filter(None, texts), *["null"] * (type(None) in parts)])


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for argument in get_args(annotation) for part in _alternatives(argument)]
    return [annotation]


def _allowed_by_type(kind: Any, metadata: list[Any]) -> str | None:
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if kind is bool:
        return "true, false"
    if kind is int:
        least = next((limit.ge for limit in metadata if isinstance(limit, annotated_types.Ge)), None)
        most = next((limit.le for limit in metadata if isinstance(limit, annotated_types.Le)), None)
        return (
            "an integer" + (f" from {least}" if least is not None else "") + (f" to {most}" if most is not None else "")
        )
    return None


@dataclass(frozen=True)
class OptionText:
    """An option as the manual shows it."""

    name: str
    default: str
    allowed: str
    example: str
    description: str


def describe(schema: Schema, defaults: Mapping[str, Any], prefix: str = "") -> list[OptionText]:
    """The options of a schema and of the sections in it, in the order of their declaration.

    Args:
        defaults: values by name; a field that is not among them has the default of its declaration.
        prefix: of the names, such as `dataset.`.
    """
    options: list[OptionText] = []
    for name, field in fields_of(schema).items():
        if (nested := _nested(field)) is not None:
            options += describe(nested, defaults.get(name, {}), f"{prefix}{name}.")
            continue
        default = defaults.get(name, "required" if field.is_required() else field.get_default())
        examples = field.examples or [None]
        options.append(
            OptionText(
                name=prefix + name,
                default=value_text(default),
                allowed=allowed_values(field) or "",
                example=value_text(examples[0]),
                description=field.description or "",
            )
        )
    return options


def value_text(value: Any) -> str:
    """A value as YAML writes it in a line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(value_text, value))}]"
    return str(value)

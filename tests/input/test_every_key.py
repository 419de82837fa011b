"""Every key of every configuration file, from the schema: missing, misspelt, of the wrong type, out of range."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
import pytest
import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.settings.config import Config, parse_config
from gpt2_ablations.settings.experiment import Experiment
from gpt2_ablations.settings.models import ModelConfig, load_models
from gpt2_ablations.settings.published import Published, load_published
from gpt2_ablations.settings.questions import Question, load_questions
from gpt2_ablations.settings.rows import load_experiments
from gpt2_ablations.settings.schema.yaml_files import load_yaml, setting_of_text

from .conftest import PUBLISHED

# Values that a user may write where another type is expected.
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    float("nan"),
    float("inf"),
    10**30,
    "",
    "text",
    "line\nbreak",
    [],
    [None],
    [[]],
    ["text"],
    {},
    {"a": 1},
]
ADVICE = ("allowed: ", "it must ", "add it", "keep ", "name ", "; use ", "give ")


@dataclass(frozen=True)
class Key:
    """A key of a configuration file.

    Attributes:
        where: the path to the mapping that holds it.
        prefix: what error messages name between the file and the key.
    """

    file: str
    where: tuple[str, ...]
    name: str
    field: FieldInfo
    prefix: str = ""

    @property
    def shown(self) -> str:
        """The key as error messages name it."""
        section = self.where if self.file == "config.yaml" else ()
        return ".".join([*section, self.name])

    def __str__(self) -> str:
        return "-".join([self.file, *self.where, self.name])


def keys_of(fields: dict[str, FieldInfo], file: str, where: tuple[str, ...], prefix: str = "") -> Iterator[Key]:
    """The keys of a schema, those of nested sections included."""
    for name, field in fields.items():
        yield Key(file, where, name, field, prefix)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys_of(field.annotation.model_fields, file, (*where, name), prefix)


OPTIONS = Experiment.__pydantic_fields__
KEYS = [
    # The workflow itself writes `snapshot`.
    *keys_of({name: field for name, field in Config.model_fields.items() if name != "snapshot"}, "config.yaml", ()),
    *keys_of(ModelConfig.model_fields, "models.yaml", ("tiny",), "tiny: "),
    *keys_of(Question.model_fields, "comparisons.yaml", ("layers",), "layers: "),
    *keys_of(OPTIONS, "rows.yaml", ("rows", "1"), "row 1: "),
    *keys_of(OPTIONS, "rows.yaml", ("defaults",), "defaults: "),
]
STRICT = ConfigDict(strict=True)


def refuses(field: FieldInfo, value: object) -> bool:
    """Whether the schema refuses a value."""
    annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    own = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    try:
        TypeAdapter(annotation, config=None if own else STRICT).validate_python(value)
    except ValidationError:
        return True
    return False


def as_read(name: str, value: object) -> object:
    """A value of a key as it is read: `results: 1` is a text."""
    return setting_of_text(name, yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n"))


def out_of_range(annotation: Any) -> Iterator[object]:
    """Values just outside the limits that an annotation states, at any depth."""
    if isinstance(annotation, FieldInfo):
        for part in (annotation.annotation, *annotation.metadata):
            yield from out_of_range(part)
        return
    match annotation:
        case annotated_types.Ge(ge=limit):
            yield limit - 1
        case annotated_types.Gt(gt=limit) | annotated_types.Lt(lt=limit):
            yield limit
        case annotated_types.Le(le=limit):
            yield limit + 1
        case annotated_types.MinLen(min_length=1):
            yield from ("", [])
    if getattr(annotation, "pattern", None):
        yield "0123"
    if get_origin(annotation) is Literal:
        yield from (f"{choice}x" for choice in get_args(annotation))
    elif get_origin(annotation) is list:
        yield from ([value] for value in out_of_range(get_args(annotation)[0]))
    else:
        for part in get_args(annotation):
            yield from out_of_range(part)


def holder(project, key: Key) -> dict:
    mapping = project.contents[key.file]
    for part in key.where:
        mapping = mapping[part]
    return mapping


def load(file: str) -> None:
    """Read a configuration file as `check` does, but without the default settings."""
    match file:
        case "config.yaml":
            content = load_yaml(file)
            parse_config(content, {file: content})
        case "models.yaml":
            load_models(file)
        case "comparisons.yaml":
            load_questions(file, ["1", "2"])
        case "rows.yaml":
            load_experiments(file, load_models("models.yaml"), "models.yaml")
        case "published.csv":
            load_published(file)


def refused(file: str) -> str:
    """The error with which a configuration file is refused."""
    with pytest.raises(InputError) as raised:
        load(file)
    line = str(raised.value)
    assert line.isprintable()
    return line


def refusal(project, key: Key) -> str:
    project.save(key.file)
    line = refused(key.file)
    assert line.startswith(f"{key.file}: {key.prefix}"), line
    assert any(phrase in line for phrase in ADVICE), line
    return line


def test_a_project_without_a_mistake_passes(project):
    answer = project.check()
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("OK: 2 rows (2 selected), 1 seed\n")


def test_the_files_of_the_tests_hold_every_key(project):
    for key in KEYS:
        if key.file != "rows.yaml":
            assert key.name in holder(project, key), key


@pytest.mark.parametrize("key", [key for key in KEYS if key.field.is_required()], ids=str)
def test_a_missing_key_is_named(project, key):
    del holder(project, key)[key.name]
    assert f"key '{key.shown}' is missing; add it" in refusal(project, key)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_misspelt_key_is_named_with_the_allowed_keys(project, key):
    mapping = holder(project, key)
    mapping[f"{key.name}s"] = mapping.pop(key.name, 1)
    line = refusal(project, key)
    assert f"unknown key '{key.shown}s'; " in line
    assert key.name in line.partition("allowed: ")[2].partition(" (and ")[0].split(", ")


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_value_of_the_wrong_type_is_named(project, key):
    wrong = [value for value in VALUES if refuses(key.field, as_read(key.name, value))]
    assert len(wrong) >= 3, "the key accepts nearly every value, so this would test nothing"
    for value in wrong:
        holder(project, key)[key.name] = value
        line = refusal(project, key)
        assert key.name in line or "no_padding needs" in line, (value, line)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_value_out_of_range_is_named_with_its_key(project, key):
    for value in out_of_range(key.field):
        holder(project, key)[key.name] = value
        line = refusal(project, key)
        shown = value[0] if isinstance(value, list) and value else value
        assert key.name in line and repr(shown) in line, (value, line)


def test_limits_are_found_in_the_schema():
    values = {str(key): list(out_of_range(key.field)) for key in KEYS}
    assert values["config.yaml-seeds"] == [[], "", [-1], [2**63]] or [-1] in values["config.yaml-seeds"]
    assert 0 in values["models.yaml-tiny-n_layer"] and 0 in values["rows.yaml-rows-1-batch_size"]
    assert "cpux" in values["config.yaml-device"] and "0123" in values["models.yaml-tiny-sha256"]


COLUMNS = Published.model_fields


def published(project, header: list[str], *lines: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *lines])
    project.write("published.csv", text.getvalue())
    line = refused("published.csv")
    assert line.startswith("published.csv: "), line
    return line


HEADER, LINE = (line.split(",") for line in PUBLISHED)


@pytest.mark.parametrize("column", [name for name, field in COLUMNS.items() if field.is_required()])
def test_a_missing_column_is_named(project, column):
    index = HEADER.index(column)
    line = published(project, HEADER[:index] + HEADER[index + 1 :], LINE[:index] + LINE[index + 1 :])
    assert line == f"published.csv: column '{column}' is missing; add it"


@pytest.mark.parametrize("column", COLUMNS)
def test_a_misspelt_or_repeated_column_is_named(project, column):
    misspelt = [f"{name}s" if name == column else name for name in HEADER]
    assert f"unknown column '{column}s'; did you mean '{column}'?" in published(project, misspelt, LINE)
    assert f"duplicate column '{column}'; keep one of the two" in published(project, [*HEADER, column], [*LINE, "1"])


@pytest.mark.parametrize("column", COLUMNS)
def test_a_wrong_cell_is_named_with_its_line(project, column):
    index, number = HEADER.index(column), COLUMNS[column].annotation is not str
    wrong = ["x", "nan", "inf", "-1", "1e400"] if number else [""] if column == "row" else []
    for cell in wrong:
        line = published(project, HEADER, [*LINE[:index], cell, *LINE[index + 1 :]])
        assert line.startswith(f"published.csv: line 2: {column} is {cell!r}; allowed: "), line


def test_a_line_with_a_missing_field_and_a_duplicate_row_are_named(project):
    assert "line 2: 8 fields, the first line has 9" in published(project, HEADER, LINE[:-1])
    assert "line 3: duplicate row 1; keep one of the two" in published(project, HEADER, LINE, LINE)

"""The questions a table is to answer: which rows each compares, and on what measures."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..common.errors import InputError
from .validation import input_error
from .yaml_files import load_yaml

Measure = Literal["test_accuracy", "train_validation_gap", "training_time", "trained_parameters", "memory"]


def _pairs(value: Any) -> Any:
    """Rows as text: YAML reads `[1, 2]` as numbers."""
    pairs = value if isinstance(value, list) else []
    if not pairs or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError("allowed: a list of pairs of row ids, the reference first, such as [[1, 2], [1, 3]]")
    for pair in pairs:
        if any(isinstance(row, bool) or not isinstance(row, (int, str)) for row in pair):
            raise ValueError(f"{pair} is no pair of row ids")
    as_text = [(str(reference), str(other)) for reference, other in pairs]
    for index, (reference, other) in enumerate(as_text):
        if reference == other:
            raise ValueError(f"row {reference} is compared with itself; name two rows")
        if as_text[index] in as_text[:index]:
            raise ValueError(f"the pair [{reference}, {other}] stands twice; keep it once")
    return as_text


def _measures(value: Any) -> Any:
    if isinstance(value, list) and len(set(map(str, value))) != len(value):
        raise ValueError("a measure stands twice; keep it once")
    return value


class Question(BaseModel):
    """A question, in a sentence, and the pairs of rows that answer it: the reference first."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    question: str = Field(min_length=1)
    pairs: Annotated[list[tuple[str, str]], BeforeValidator(_pairs)]
    measures: Annotated[list[Measure], Field(min_length=1), BeforeValidator(_measures)]

    @property
    def rows(self) -> set[str]:
        """All rows the question asks about."""
        return {row for pair in self.pairs for row in pair}


def load_questions(path: str | Path, rows: Collection[str]) -> tuple[dict[str, Question], int]:
    """The questions by id, in the file's order, and how many others ask about rows that this table lacks.

    A table of one's own need not have the reference's rows.

    Args:
        rows: all rows of the experiments file.

    Raises:
        InputError: the file cannot be read, or a key or value is wrong.
    """
    questions = {}
    for name, entry in load_yaml(path).items():
        where = f"{path}: {name}"
        if not isinstance(entry, dict):
            raise InputError(f"{where}: expected a mapping with {', '.join(Question.model_fields)}, found {entry!r}")
        try:
            question = Question.model_validate(entry)
        except ValidationError as error:
            raise input_error(error, where, Question.model_fields) from None
        questions[name] = question
    answerable = {name: question for name, question in questions.items() if question.rows <= set(rows)}
    return answerable, len(questions) - len(answerable)

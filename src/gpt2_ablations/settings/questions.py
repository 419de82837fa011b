"""The questions of the comparisons file: the pairs of rows to compare, and the measures to report."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ..common.errors import InputError
from .rows import ROW_ID
from .schema.options import option
from .schema.validation import input_error
from .schema.yaml_files import load_yaml

Measure = Literal["test_accuracy", "train_validation_gap", "training_time", "trained_parameters", "memory"]
PAIRS_ALLOWED = "a list of pairs of row ids, the baseline first, such as [[1, 2], [1, 3]]"


def _pairs(value: Any) -> Any:
    """Pairs of row ids as text."""
    pairs = value if isinstance(value, list) else []
    if not pairs or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError(f"allowed: {PAIRS_ALLOWED}")
    for pair in pairs:
        if any(type(row) not in (int, str) or not ROW_ID.fullmatch(str(row)) for row in pair):
            raise ValueError(f"{pair} is not a pair of row ids; write it as [1, 2]")
    as_text = [(str(baseline), str(other)) for baseline, other in pairs]
    for index, (baseline, other) in enumerate(as_text):
        if baseline == other:
            raise ValueError(f"row {baseline} is compared with itself; name two rows")
        if as_text[index] in as_text[:index]:
            raise ValueError(f"duplicate pair [{baseline}, {other}]; keep one of the two")
    return as_text


def _measures(value: Any) -> Any:
    if isinstance(value, list) and len(set(map(str, value))) != len(value):
        raise ValueError("duplicate measure; keep one of the two")
    return value


class Question(BaseModel):
    """A question, and the pairs of rows that answer it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    question: Annotated[str, option("The question, in a sentence", allowed="a text", example="Is it so?", min_length=1)]
    pairs: Annotated[
        list[tuple[str, str]],
        option("Pairs of rows to compare, the baseline first", allowed=PAIRS_ALLOWED, example=[[1, 2], [1, 3]]),
        BeforeValidator(_pairs),
    ]
    measures: Annotated[
        list[Measure],
        option(
            "Measures to report for each pair",
            allowed=f"a list of one or more of {', '.join(get_args(Measure))}",
            example=["test_accuracy", "training_time"],
            min_length=1,
        ),
        BeforeValidator(_measures),
    ]

    @property
    def rows(self) -> set[str]:
        """The ids of all rows in the question's pairs."""
        return {row for pair in self.pairs for row in pair}


def load_questions(path: str | Path, rows: Collection[str]) -> tuple[dict[str, Question], int]:
    """Read the comparisons file.

    Questions about rows that do not exist are left out, because a user's table need not have the reference's rows.

    Args:
        rows: the ids of all rows of the experiments file.

    Returns: the questions by id, in the order of the file, and the number of questions that are left out.

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
            raise input_error(error, where, Question) from None
        questions[name] = question
    answerable = {name: question for name, question in questions.items() if question.rows <= set(rows)}
    return answerable, len(questions) - len(answerable)

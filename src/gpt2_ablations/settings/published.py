"""The published figures of the rows, from a CSV file."""

import io
import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ..common.errors import InputError
from ..common.files import explained
from ..common.records import is_blank, read_records
from .constants import Split
from .schema.options import option
from .schema.validation import allowed_names, input_error


def _number_or_none(text: Any) -> Any:
    return None if text == "" else text


Percentage = Annotated[
    float | None,
    option(
        "Accuracy in percent, as printed",
        allowed="a number from 0 to 100, or an empty field",
        example=95.00,
        ge=0,
        le=100,
        allow_inf_nan=False,
    ),
    BeforeValidator(_number_or_none),
]
Minutes = Annotated[
    float | None,
    option(
        "Training time in minutes",
        allowed="a number above 0, or an empty field",
        example=0.28,
        gt=0,
        allow_inf_nan=False,
    ),
    BeforeValidator(_number_or_none),
]
PublishedTotal = Annotated[
    int | None,
    option(
        "Number of examples of the split; empty: that of the run",
        allowed="an integer from 1, or an empty field",
        example=300,
        ge=1,
    ),
    BeforeValidator(_number_or_none),
]


def possible_count(percentage: float, total: int) -> int | None:
    """The count out of `total` that is printed as this percentage with two decimals; None if there is none.

    With more than 10,000 examples several counts are printed alike; the nearest is returned.
    """
    count = math.floor(percentage * total / 100 + 0.5)
    # Halves may have been rounded either way.
    printed_alike = abs(100 * count / total - percentage) <= 0.005 + 1e-9
    return count if printed_alike and 0 <= count <= total else None


class Published(BaseModel):
    """The published figures of a row; None where a figure is not published."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    row: Annotated[str, option("Row id", allowed="a row id of the experiments file", example="1", min_length=1)]
    train_acc: Percentage
    val_acc: Percentage
    test_acc: Percentage
    minutes: Minutes
    device: Annotated[str, option("Device of the training", allowed="a text, or an empty field", example="A100")]
    train_total: PublishedTotal = None
    val_total: PublishedTotal = None
    test_total: PublishedTotal = None

    def percentage(self, split: Split) -> float | None:
        """The accuracy on a split, in percent."""
        return getattr(self, f"{split}_acc")

    def total(self, split: Split) -> int | None:
        """The number of examples of a split."""
        return getattr(self, f"{split}_total")

    def correct(self, split: Split, total: int | None) -> int | None:
        """The number of correctly classified examples out of `total`; None if no count gives the percentage."""
        percentage = self.percentage(split)
        return None if percentage is None or total is None else possible_count(percentage, total)


def load_published(path: str | Path) -> dict[str, Published]:
    """Read the published figures, by row id.

    Raises:
        InputError: the file cannot be read, or a column or value is wrong.
    """
    with explained(path, "check the path or restore the file"):
        text = Path(path).read_bytes().decode("utf-8")
    records = [r for r in read_records(io.StringIO(text, newline=""), path) if not is_blank(r.fields)]
    if not records:
        raise InputError(f"{path}: empty or not a CSV file; its first line must be {_HEADER}")
    header = records[0].fields
    _check_header(path, header)
    published: dict[str, Published] = {}
    for number, _, line in records[1:]:
        where = f"{path}: line {number}"
        if len(line) != len(header):
            raise InputError(f"{where}: {len(line)} fields, the first line has {len(header)}; one for each column")
        try:
            entry = Published.model_validate(dict(zip(header, line)))
        except ValidationError as error:
            raise input_error(error, where, Published) from None
        if entry.row in published:
            raise InputError(f"{where}: duplicate row {entry.row}; keep one of the two")
        published[entry.row] = entry
    return published


_HEADER = ",".join(name for name, field in Published.model_fields.items() if field.is_required())


def _check_header(path: str | Path, header: list[str]) -> None:
    for index, column in enumerate(header):
        if column not in Published.model_fields:
            raise InputError(f"{path}: unknown column '{column}'; {allowed_names(column, Published.model_fields)}")
        if column in header[:index]:
            raise InputError(f"{path}: duplicate column '{column}'; keep one of the two")
    for column in _HEADER.split(","):
        if column not in header:
            raise InputError(f"{path}: column '{column}' is missing; add it")

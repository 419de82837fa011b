"""The figures a document printed for its rows, from a CSV file."""

import csv
import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..common.errors import InputError
from .constants import Split
from .validation import allowed_names, input_error


def _number_or_none(text: Any) -> Any:
    return None if text == "" else text


Percentage = Annotated[float | None, Field(ge=0, le=100, allow_inf_nan=False), BeforeValidator(_number_or_none)]
Minutes = Annotated[float | None, Field(gt=0, allow_inf_nan=False), BeforeValidator(_number_or_none)]
Total = Annotated[int | None, Field(ge=1), BeforeValidator(_number_or_none)]


class Published(BaseModel):
    """A row's printed figures: accuracies in percent, training time in minutes; None where none is printed.

    The totals are the numbers of messages the percentages are of. If they are not given, the run's are taken.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    row: str = Field(min_length=1)
    train_acc: Percentage
    val_acc: Percentage
    test_acc: Percentage
    minutes: Minutes
    device: str
    train_total: Total = None
    val_total: Total = None
    test_total: Total = None

    def percentage(self, split: Split) -> float | None:
        return getattr(self, f"{split}_acc")

    def total(self, split: Split) -> int | None:
        return getattr(self, f"{split}_total")

    def count(self, split: Split, total: int | None) -> int | None:
        """The messages classified rightly, of `total`; None if the percentage is no such count or not known."""
        from .published import possible_count

        percentage = self.percentage(split)
        return None if percentage is None or total is None else possible_count(percentage, total)


def load_published(path: str | Path) -> dict[str, Published]:
    """The published figures by row id.

    Raises:
        InputError: the file cannot be read, or a column or value is wrong.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path or restore the file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except (ValueError, csv.Error):
        raise InputError(f"{path}: empty or no CSV file; its first line must be {_HEADER}") from None
    _check_header(path, header)
    published: dict[str, Published] = {}
    for number, line in enumerate(lines, start=2):
        where = f"{path}: line {number}"
        if len(line) != len(header):
            raise InputError(f"{where}: {len(line)} fields, the first line has {len(header)}; give each column a field")
        try:
            entry = Published.model_validate(dict(zip(header, line)))
        except ValidationError as error:
            raise input_error(error, where, Published.model_fields) from None
        if entry.row in published:
            raise InputError(f"{where}: row {entry.row} stands twice; keep one of the two")
        published[entry.row] = entry
    return published


_HEADER = ",".join(name for name, field in Published.model_fields.items() if field.is_required())


def _check_header(path: str | Path, header: list[str]) -> None:
    for index, column in enumerate(header):
        if column not in Published.model_fields:
            raise InputError(f"{path}: unknown column '{column}'; {allowed_names(column, Published.model_fields)}")
        if column in header[:index]:
            raise InputError(f"{path}: column '{column}' stands twice; keep one of the two")
    for column in _HEADER.split(","):
        if column not in header:
            raise InputError(f"{path}: column '{column}' is missing; add it")


def possible_count(percentage: float, total: int) -> int | None:
    """The count out of `total` that is printed as this percentage with two decimals; None if there is none.

    Above 10,000 messages several counts print alike; the nearest is given.
    """
    count = math.floor(percentage * total / 100 + 0.5)
    # Halves may have been rounded either way.
    rounded_alike = abs(100 * count / total - percentage) <= 0.005 + 1e-9
    return count if rounded_alike and 0 <= count <= total else None

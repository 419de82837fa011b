"""Reads the two tables of a run, predictions.csv and history.csv, and checks them."""

import math
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np

from ..common.errors import InputError
from ..common.records import read_records
from ..common.text import counted

CURVES = ("train_loss", "val_loss", "train_acc", "val_acc")


@dataclass(frozen=True)
class Predictions:
    """Labels and predicted classes of the test examples: 0 or 1, int8 [N] each, in the order of the split."""

    labels: np.ndarray
    classes: np.ndarray

    @property
    def is_correct(self) -> np.ndarray:
        """Which examples are classified correctly, bool [N]."""
        return self.labels == self.classes


@dataclass(frozen=True)
class Curve:
    """The evaluated points of one column of a history, float64 [points] each.

    Attributes:
        epochs: the number of epochs completed at each point, with fractions.
        values: losses in nats, or accuracies as fractions.
    """

    epochs: np.ndarray
    values: np.ndarray


def read_predictions(path: Path, expected: int) -> Predictions:
    """Read a predictions.csv.

    Args:
        expected: the number of test examples.

    Raises:
        InputError: the file is missing or damaged.
    """
    lines = _read_columns(path, ("index", "label", "prediction"))
    values = np.empty((len(lines), 2), dtype=np.int8)
    for number, (index, label, prediction) in enumerate(lines):
        if index != str(number) or label not in ("0", "1") or prediction not in ("0", "1"):
            raise _damaged(path, f"line {number + 2} holds index {index}, label {label}, prediction {prediction}")
        values[number] = label == "1", prediction == "1"
    if len(lines) != expected:
        raise _damaged(path, f"it holds {counted(len(lines), 'example')}, metrics.json counts {expected}")
    return Predictions(values[:, 0], values[:, 1])


def read_history(path: Path) -> dict[str, Curve]:
    """Read the evaluated losses and accuracies of a history.csv.

    Returns: the curves by column: `train_loss`, `val_loss`, `train_acc`, `val_acc`.

    Raises:
        InputError: the file is missing or damaged.
    """
    lines = _read_columns(path, ("epoch", *CURVES))
    # All epochs have the same number of steps.
    steps_per_epoch = sum(line[0] == "1" for line in lines) or 1
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in CURVES}
    for number, (_, *texts) in enumerate(lines):
        for name, text in zip(CURVES, texts):
            if text:
                value = _finite(text)
                if value is None:
                    raise _damaged(path, f"{name} in line {number + 2} is {text!r}")
                points[name].append(((number + 1) / steps_per_epoch, value))
    return {name: Curve(*np.array(of_name, dtype=float).reshape(-1, 2).T) for name, of_name in points.items()}


def _read_columns(path: Path, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Some columns of a CSV file with a header, line by line."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = (record.fields for record in read_records(file, path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, although metrics.json exists; run the row again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the file") from None
    except UnicodeDecodeError:
        raise _damaged(path, "it is not UTF-8") from None
    except (ValueError, InputError):
        raise _damaged(path, "it is empty or not a CSV file") from None
    missing = [column for column in columns if column not in header]
    if missing:
        raise _damaged(path, f"its columns are {','.join(header)!r}, without {missing[0]}")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise _damaged(path, f"line {number} has {len(line)} fields, expected {len(header)}")
    return list(map(itemgetter(*map(header.index, columns)), lines))


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _damaged(path: Path, found: str) -> InputError:
    return InputError(f"{path}: damaged ({found}); delete its folder and run the row again")

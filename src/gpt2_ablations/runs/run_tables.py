"""A run's two tables, read back and checked: predictions.csv and history.csv."""

import csv
import math
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np

from ..common.errors import InputError

CURVES = ("train_loss", "val_loss", "train_acc", "val_acc")


@dataclass(frozen=True)
class Predictions:
    """Labels and predicted classes of the test messages, 0 or 1, int8 [N] each, in the split's order."""

    labels: np.ndarray
    classes: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """Which messages are classified rightly, bool [N]."""
        return self.labels == self.classes


@dataclass(frozen=True)
class Curve:
    """Points of a history: epochs passed, from 0, and the value there; float64 [points] each."""

    epochs: np.ndarray
    values: np.ndarray


def read_predictions(path: Path, total: int) -> Predictions:
    """The labels and predictions of a predictions.csv.

    Args:
        total: how many test messages there must be.

    Raises:
        InputError: the file is missing or damaged.
    """
    lines = _read_columns(path, ("index", "label", "prediction"))
    values = np.empty((len(lines), 2), dtype=np.int8)
    for number, (index, label, prediction) in enumerate(lines):
        if index != str(number) or label not in ("0", "1") or prediction not in ("0", "1"):
            raise _damaged(path, f"line {number + 2} says index {index}, label {label}, prediction {prediction}")
        values[number] = label == "1", prediction == "1"
    if len(lines) != total:
        raise _damaged(path, f"it holds {len(lines)} messages, metrics.json counts {total}")
    return Predictions(values[:, 0], values[:, 1])


def read_history(path: Path) -> dict[str, Curve]:
    """The evaluated losses and accuracies of a history.csv, by `train_loss val_loss train_acc val_acc`.

    Raises:
        InputError: the file is missing or damaged.
    """
    lines = _read_columns(path, ("epoch", *CURVES))
    # All epochs have equally many steps.
    steps_an_epoch = sum(line[0] == "1" for line in lines) or 1
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in CURVES}
    for number, (_, *texts) in enumerate(lines):
        for name, text in zip(CURVES, texts):
            if text:
                value = _finite(text)
                if value is None:
                    raise _damaged(path, f"{name} in line {number + 2} is {text!r}")
                points[name].append(((number + 1) / steps_an_epoch, value))
    return {name: Curve(*np.array(found, dtype=float).reshape(-1, 2).T) for name, found in points.items()}


def _read_columns(path: Path, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Some columns of a CSV file with a header."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, though metrics.json is there; run the row again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the file") from None
    except UnicodeDecodeError:
        raise _damaged(path, "it is not UTF-8") from None
    except (ValueError, csv.Error):
        raise _damaged(path, "it is empty or no CSV file") from None
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

"""Compares a row's files with a trace of the reference."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.device import DEVICE

# Rows that train all layers or adapt them all: rounding errors grow over hundreds of updates of every layer.
WHOLE_MODEL_ROWS = {"5", "9", "10", "11", "12"}


@dataclass(frozen=True)
class Tolerance:
    """How far losses and test logits may be from the trace, and by how many texts the accuracies."""

    loss: float = 1e-5
    logit: float = 1e-4
    texts: int = 0


def tolerance(suite: str, row: str) -> Tolerance:
    """The tolerance for a row of the synthetic or the real suite, in float32."""
    if DEVICE.type == "cuda":
        # A GPU sums in another order; it is held to ten times what holds for the frozen rows on the CPU.
        return Tolerance(loss=1e-4, logit=1e-3, texts=1 if suite == "real" else 0)
    if suite == "real" and row in WHOLE_MODEL_ROWS:
        return Tolerance(loss=2e-4, logit=2e-3, texts=1)
    return Tolerance()


def read_csv(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file as mappings."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def assert_equals_trace(folder: Path, trace: dict, allowed: Tolerance) -> None:
    """Compare metrics.json, history.csv and predictions.csv of a run with a trace."""
    metrics = json.loads((folder / "metrics.json").read_text())
    history, predictions = read_csv(folder / "history.csv"), read_csv(folder / "predictions.csv")
    assert metrics["context_length"] == trace["context_length"]
    assert metrics["trainable_parameters"] == trace["trainable_parameters"]
    assert [float(line["batch_loss"]) for line in history] == pytest.approx(
        trace["batch_loss"], rel=0, abs=allowed.loss
    )

    evaluated = [line for line in history if line["train_loss"]]
    assert [int(line["step"]) for line in evaluated] == [entry["step"] for entry in trace["evaluations"]]
    for column in ("train_loss", "val_loss"):
        expected = [entry[column] for entry in trace["evaluations"]]
        assert [float(line[column]) for line in evaluated] == pytest.approx(expected, rel=0, abs=allowed.loss), column

    logits = [float(line[column]) for line in predictions for column in ("logit_0", "logit_1")]
    assert logits == pytest.approx([logit for pair in trace["test_logits"] for logit in pair], rel=0, abs=allowed.logit)

    # One text more or less is allowed only if its two logits are almost equal.
    ties = sum(abs(a - b) < 2e-3 for a, b in trace["test_logits"])
    for split, total in (("train", "train_total"), ("val", "val_total"), ("test", "test_total")):
        texts = min(allowed.texts, ties) if split == "test" else allowed.texts
        off = metrics[f"{split}_correct"] - trace["final"][f"{split}_acc"] * metrics[total]
        assert abs(off) <= texts + 1e-4, split
    epochs = [line for line in history if line["train_acc"]]
    for column in ("train_acc", "val_acc"):
        expected = [entry[column] for entry in trace["epochs"]]
        # 5 batches: 40 texts, or 5 at batch size 1.
        slack = allowed.texts / 40 + 1e-8
        assert [float(line[column]) for line in epochs] == pytest.approx(expected, rel=0, abs=slack), column

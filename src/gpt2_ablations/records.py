"""What a finished run leaves behind: metrics.json, history.csv and predictions.csv."""

import csv
import json
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from .files import write_text_whole, write_whole
from .training import Result

SPLIT_PREFIX = {"train": "train", "validation": "val", "test": "test"}
HISTORY_COLUMNS = ("step", "epoch", "batch_loss", "train_loss", "val_loss", "train_acc", "val_acc")


def accuracies(result: Result) -> dict:
    """Each split's accuracy as a fraction, and its counts."""
    metrics: dict = {}
    for split, prefix in SPLIT_PREFIX.items():
        correct, total = result.correct[split]
        metrics |= {f"{prefix}_acc": correct / total, f"{prefix}_correct": correct, f"{prefix}_total": total}
    return metrics


def library_versions() -> dict[str, str]:
    """The versions of the libraries a run's numbers depend on."""
    return {"torch": torch.__version__} | {name: version(name) for name in ("safetensors", "numpy")}


def write_run(folder: Path, metrics: dict, result: Result, test_labels: Tensor) -> None:
    """Write a run's three files, each whole or not at all; metrics.json comes last and means that the run is done."""
    with write_whole(folder / "history.csv") as partial, open(partial, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HISTORY_COLUMNS)
        for line in result.history:
            values = (getattr(line, column) for column in HISTORY_COLUMNS)
            writer.writerow(f"{v:.9g}" if isinstance(v, float) else "" if v is None else v for v in values)
    with write_whole(folder / "predictions.csv") as partial, open(partial, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("index", "label", "prediction", "logit_0", "logit_1"))
        for index, (label, logits) in enumerate(zip(test_labels.tolist(), result.logits, strict=True)):
            writer.writerow((index, label, int(logits.argmax()), *(f"{logit:.9g}" for logit in logits.tolist())))
    write_text_whole(folder / "metrics.json", json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")

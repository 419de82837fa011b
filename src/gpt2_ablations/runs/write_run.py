"""Writes the files of a finished run: metrics.json, history.csv, predictions.csv, and its saved model if asked for."""

import csv
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from ..common.files import write_whole
from ..common.logs import stop_if_superseded
from ..settings.constants import SPLIT_PREFIX
from ..settings.paths import MODEL_FILE
from .result import Result
from .saved_model import SavedModel, write_saved_model

HISTORY_COLUMNS = ("step", "epoch", "batch_loss", "train_loss", "val_loss", "train_acc", "val_acc")


def accuracies(result: Result) -> dict:
    """The accuracies of the three splits as fractions, and their counts, as metrics.json names them."""
    metrics: dict = {}
    for split, prefix in SPLIT_PREFIX.items():
        correct, total = result.correct[split]
        metrics |= {f"{prefix}_acc": correct / total, f"{prefix}_correct": correct, f"{prefix}_total": total}
    return metrics


def library_versions() -> dict[str, str]:
    """The versions of the libraries on which a run's numbers depend."""
    return {"torch": torch.__version__} | {name: version(name) for name in ("safetensors", "numpy")}


def write_run(
    folder: Path,
    metrics: dict,
    result: Result,
    test_labels: Tensor,
    saved: tuple[SavedModel, Mapping[str, Tensor]] | None = None,
) -> None:
    """Write a run's files, all or none. metrics.json is written last: its existence means that the run is finished.

    Two processes that write the same run take turns, so all files come from one of them.

    Args:
        metrics: the content of metrics.json.
        test_labels: int64 [N_test].
        saved: the settings and the trained tensors of the saved model; None saves none. The saved model of an earlier
            run is removed.
    """
    assert result.logits is not None, "the training loop has not ended"
    with _locked(folder), ExitStack() as files:
        # The files get their final names in reverse order, after all are written.
        metrics_file, predictions, history = (
            files.enter_context(write_whole(folder / name))
            for name in ("metrics.json", "predictions.csv", "history.csv")
        )
        with open(history, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HISTORY_COLUMNS)
            for step in result.history:
                values = (getattr(step, column) for column in HISTORY_COLUMNS)
                writer.writerow(f"{v:.9g}" if isinstance(v, float) else "" if v is None else v for v in values)
        with open(predictions, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("index", "label", "prediction", "logit_0", "logit_1"))
            for index, (label, logits) in enumerate(zip(test_labels.tolist(), result.logits, strict=True)):
                writer.writerow((index, label, int(logits.argmax()), *(f"{logit:.9g}" for logit in logits.tolist())))
        if saved is not None:
            write_saved_model(files.enter_context(write_whole(folder / MODEL_FILE)), *saved)
        text = json.dumps(metrics, indent=2, ensure_ascii=False) + "\n"
        metrics_file.write_text(text, encoding="utf-8", newline="\n")
        stop_if_superseded()  # before the files of a newer job are touched
        (folder / "metrics.json").unlink(missing_ok=True)
        (folder / MODEL_FILE).unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait for the lock on the folder and hold it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

"""What a finished run leaves behind: metrics.json, history.csv, predictions.csv, and its layers if they are kept."""

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
    """Each split's accuracy as a fraction, and its counts."""
    metrics: dict = {}
    for split, prefix in SPLIT_PREFIX.items():
        correct, total = result.correct[split]
        metrics |= {f"{prefix}_acc": correct / total, f"{prefix}_correct": correct, f"{prefix}_total": total}
    return metrics


def library_versions() -> dict[str, str]:
    """The versions of the libraries a run's numbers depend on."""
    return {"torch": torch.__version__} | {name: version(name) for name in ("safetensors", "numpy")}


def write_run(
    folder: Path,
    metrics: dict,
    result: Result,
    test_labels: Tensor,
    kept: tuple[SavedModel, Mapping[str, Tensor]] | None = None,
) -> None:
    """Write a run's files, all or none; metrics.json comes last and means that the run is done.

    Two processes that write the same run take turns, so that its files are always of one of them.

    Args:
        kept: the trained layers, if they are to be kept; those of an earlier run are removed.
    """
    assert result.logits is not None, "the run has not ended"
    with _turn(folder), ExitStack() as files:
        # They get their names in reverse order, once all are written.
        done, predictions, history = (
            files.enter_context(write_whole(folder / name))
            for name in ("metrics.json", "predictions.csv", "history.csv")
        )
        with open(history, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HISTORY_COLUMNS)
            for line in result.history:
                values = (getattr(line, column) for column in HISTORY_COLUMNS)
                writer.writerow(f"{v:.9g}" if isinstance(v, float) else "" if v is None else v for v in values)
        with open(predictions, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("index", "label", "prediction", "logit_0", "logit_1"))
            for index, (label, logits) in enumerate(zip(test_labels.tolist(), result.logits, strict=True)):
                writer.writerow((index, label, int(logits.argmax()), *(f"{logit:.9g}" for logit in logits.tolist())))
        if kept is not None:
            write_saved_model(files.enter_context(write_whole(folder / MODEL_FILE)), *kept)
        done.write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        stop_if_superseded()  # before anything of a newer job is touched
        (folder / "metrics.json").unlink(missing_ok=True)
        (folder / MODEL_FILE).unlink(missing_ok=True)


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Wait until no other process holds the folder, and hold it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a disk without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

"""Finished runs, read back: metrics at once, predictions and histories when somebody asks for them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .config import Config
from .errors import InputError
from .paths import Paths
from .run_files import Curve, Predictions, read_history, read_predictions
from .validation import input_error

Split = Literal["train", "val", "test"]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Total = Annotated[int, Field(ge=1)]
Duration = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Megabytes = Annotated[float, Field(ge=0, allow_inf_nan=False)] | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Seconds(_Part):
    features: Duration
    training: Duration


class PeakMemory(_Part):
    host: Megabytes = None
    device: Megabytes = None


class Metrics(_Part):
    """The part of metrics.json that comparisons and pictures use. Accuracies are fractions, memory is in MiB."""

    train_acc: Fraction
    val_acc: Fraction
    test_acc: Fraction
    train_correct: Count
    val_correct: Count
    test_correct: Count
    train_total: Total
    val_total: Total
    test_total: Total
    seconds: Seconds
    device_name: str
    precision: str = "float32"
    context_length: Annotated[int, Field(ge=1)] | None = None
    trainable_parameters: Count | None = None
    peak_memory_mb: PeakMemory = PeakMemory()
    features_peak_memory_mb: Megabytes = None
    note: str | None = None


@dataclass(frozen=True)
class Run:
    """A finished run of a row with one seed."""

    row: str
    seed: int
    folder: Path
    metrics: Metrics

    @property
    def minutes(self) -> float:
        """The table's training time: the frozen part and the training loop."""
        return (self.metrics.seconds.features + self.metrics.seconds.training) / 60

    @property
    def peak_memory_mb(self) -> dict[str, float]:
        """The most that any job of the run held, in MiB, by where: `host`, and `device` on a graphics card."""
        memory = self.metrics.peak_memory_mb
        found = {"host": max(memory.host or 0, self.metrics.features_peak_memory_mb or 0), "device": memory.device}
        return {place: value for place, value in found.items() if value}

    def accuracy(self, split: Split) -> float:
        return getattr(self.metrics, f"{split}_acc")

    def correct(self, split: Split) -> int:
        return getattr(self.metrics, f"{split}_correct")

    def total(self, split: Split) -> int:
        return getattr(self.metrics, f"{split}_total")

    def predictions(self) -> Predictions:
        """The test predictions.

        Raises:
            InputError: predictions.csv is missing or damaged.
        """
        return read_predictions(self.folder / "predictions.csv", self.metrics.test_total)

    def history(self) -> dict[str, Curve]:
        """The evaluated losses and accuracies, by `train_loss val_loss train_acc val_acc`.

        Raises:
            InputError: history.csv is missing or damaged.
        """
        return read_history(self.folder / "history.csv")


Runs = Mapping[str, list[Run]]


def read_runs(config: Config, rows: Iterable[str]) -> dict[str, list[Run]]:
    """The finished runs of each row over the configured seeds; a row without any has an empty list.

    Raises:
        InputError: a metrics.json is damaged.
    """
    paths = Paths(config.results)
    runs: dict[str, list[Run]] = {row: [] for row in rows}
    for row, found in runs.items():
        for seed in config.seeds:
            folder = paths.row(row, seed)
            # metrics.json is written last: without it the run has failed or not ended.
            if (folder / "metrics.json").is_file():
                found.append(Run(row, seed, folder, read_run_metrics(folder / "metrics.json")))
    return runs


def notes(runs: Runs) -> list[str]:
    """What the runs say of themselves, such as that they are a miniature; each text once."""
    return list(dict.fromkeys(run.metrics.note for found in runs.values() for run in found if run.metrics.note))


def read_run_metrics(path: Path) -> Metrics:
    """A run's metrics.

    Raises:
        InputError: the file cannot be read, or lacks a value or holds an impossible one.
    """
    try:
        metrics = Metrics.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the file") from None
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise InputError(f"{path}: not valid JSON; delete its folder and run the row again") from None
        raise InputError(f"{input_error(error, str(path))}; delete its folder and run the row again") from None
    for split in ("train", "val", "test"):
        correct, total = getattr(metrics, f"{split}_correct"), getattr(metrics, f"{split}_total")
        if correct > total:
            raise InputError(
                f"{path}: {split}_correct is {correct} of {split}_total {total}; delete its folder and run the row"
                " again"
            )
    return metrics

"""Reads finished runs: the metrics at once, predictions and histories on demand."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..common.errors import InputError, without_secrets
from ..settings.config import Config
from ..settings.constants import Split
from ..settings.experiment import Experiment
from ..settings.paths import Paths
from ..settings.schema.validation import input_error

if TYPE_CHECKING:
    from .run_tables import Curve, Predictions

Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
Duration = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Megabytes = Annotated[float, Field(ge=0, allow_inf_nan=False)] | None


class _Section(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Seconds(_Section):
    features: Duration
    training: Duration


class PeakMemory(_Section):
    host: Megabytes = None
    device: Megabytes = None


class Metrics(_Section):
    """The values of metrics.json that reports use. Accuracies are fractions, memory is in MiB."""

    train_acc: Fraction
    val_acc: Fraction
    test_acc: Fraction
    train_correct: NonNegativeInt
    val_correct: NonNegativeInt
    test_correct: NonNegativeInt
    train_total: PositiveInt
    val_total: PositiveInt
    test_total: PositiveInt
    seconds: Seconds
    device: str | None = None
    device_name: str
    precision: str = "float32"
    context_length: PositiveInt | None = None
    trainable_parameters: NonNegativeInt | None = None
    peak_memory_mb: PeakMemory = PeakMemory()
    features_peak_memory_mb: Megabytes = None
    threads: PositiveInt | None = None
    note: str | None = None
    settings: dict[str, Any] | None = None
    versions: dict[str, str] = {}

    def differences(self, experiment: Experiment) -> list[str]:
        """The options of the run that differ from the row's, such as `batch_size 8, now 16`.

        An option that the file does not contain was added after the run, which had its default.
        """
        if self.settings is None:
            return []
        ran = {field.name: self.settings.get(field.name, field.default) for field in fields(experiment)}
        now = json.loads(json.dumps(asdict(experiment)))  # lists for tuples, as in the file
        return [f"{name} {value}, now {now[name]}" for name, value in ran.items() if value != now[name]]


@dataclass(frozen=True)
class Run:
    """A finished run of a row with one seed."""

    row: str
    seed: int
    folder: Path
    metrics: Metrics

    @property
    def minutes(self) -> float:
        """The training time of the table: features and training loop."""
        return (self.metrics.seconds.features + self.metrics.seconds.training) / 60

    @property
    def peak_memory_mb(self) -> dict[str, float]:
        """The largest peak memory of the run's jobs in MiB: of the `host`, and on a GPU of the `device`."""
        memory = self.metrics.peak_memory_mb
        peaks = {"host": max(memory.host or 0, self.metrics.features_peak_memory_mb or 0), "device": memory.device}
        return {kind: peak for kind, peak in peaks.items() if peak}

    def accuracy(self, split: Split) -> float:
        """The accuracy on a split, as a fraction."""
        return getattr(self.metrics, f"{split}_acc")

    def correct(self, split: Split) -> int:
        """The number of correctly classified examples of a split."""
        return getattr(self.metrics, f"{split}_correct")

    def total(self, split: Split) -> int:
        """The number of examples of a split."""
        return getattr(self.metrics, f"{split}_total")

    def predictions(self) -> "Predictions":
        """The test predictions.

        Raises:
            InputError: predictions.csv is missing or damaged.
        """
        from .run_tables import read_predictions  # numpy, which the table does without

        return read_predictions(self.folder / "predictions.csv", self.metrics.test_total)

    def history(self) -> "dict[str, Curve]":
        """The evaluated losses and accuracies, by `train_loss`, `val_loss`, `train_acc`, `val_acc`.

        Raises:
            InputError: history.csv is missing or damaged.
        """
        from .run_tables import read_history

        return read_history(self.folder / "history.csv")


class Runs(dict[str, list[Run]]):
    """The finished runs by row. A row without runs has an empty list.

    Attributes:
        outdated: the runs that are left out, by row and seed, with the differences of their settings from the row's.
    """

    def __init__(self, runs: Mapping[str, list[Run]] = MappingProxyType({})):
        super().__init__(runs)
        self.outdated: dict[tuple[str, int], list[str]] = {}


def read_runs(config: Config, experiments: Mapping[str, Experiment]) -> Runs:
    """The finished runs of some rows with the configured seeds.

    A run whose settings differ from those of its row is left out and listed in `outdated`.

    Raises:
        InputError: a metrics.json is damaged.
    """
    paths = Paths(config.results)
    runs = Runs({row: [] for row in experiments})
    for row, experiment in experiments.items():
        for seed in config.seeds:
            folder = paths.row(row, seed)
            # metrics.json is written last: without it the run is unfinished or has failed.
            if not (folder / "metrics.json").is_file():
                continue
            metrics = read_run_metrics(folder / "metrics.json")
            if differences := metrics.differences(experiment):
                runs.outdated[row, seed] = differences
            else:
                runs[row].append(Run(row, seed, folder, metrics))
    return runs


def notes(runs: Runs) -> list[str]:
    """The notes that a report shows: those of the runs, each text once, and one for each group of outdated runs."""
    own_notes = dict.fromkeys(
        without_secrets(run.metrics.note) for of_row in runs.values() for run in of_row if run.metrics.note
    )
    left_out: dict[tuple[str, str], list[int]] = {}
    for (row, seed), differences in runs.outdated.items():
        left_out.setdefault((row, "; ".join(differences)), []).append(seed)
    return [
        *own_notes,
        *(
            f"Row {row} was run with other settings ({differences}). Its results for seed{'s' * (len(seeds) > 1)}"
            f" {', '.join(map(str, seeds))} are left out; `snakemake --cores all row_{row}` runs it again."
            for (row, differences), seeds in left_out.items()
        ),
    ]


def read_run_metrics(path: Path) -> Metrics:
    """Read a run's metrics.json.

    Raises:
        InputError: the file cannot be read, or a value is missing or impossible.
    """
    try:
        metrics = Metrics.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the file") from None
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise InputError(f"{path}: not valid JSON; delete its folder and run the row again") from None
        raise InputError(f"{input_error(error, str(path), Metrics)}; delete its folder and run the row again") from None
    for split in ("train", "val", "test"):
        correct, total = getattr(metrics, f"{split}_correct"), getattr(metrics, f"{split}_total")
        if correct > total:
            raise InputError(
                f"{path}: {split}_correct is {correct}, more than {split}_total {total}; delete its folder and run the"
                " row again"
            )
    return metrics

"""The table: as markdown in the reference's layout, and as data with one line for each row and seed."""

import csv
import io
import statistics
from collections.abc import Mapping

from ..common.errors import InputError
from ..common.markdown import markdown_table
from ..data.dataset import read_split
from ..runs.finished_runs import Run, Runs
from ..settings.config import Config
from ..settings.constants import CLASSES, NO_IGNORE_INDEX, Split
from ..settings.experiment import OPTIONS, Experiment
from ..settings.labels import changes_without_column, display_name
from ..settings.models import ModelConfig
from ..settings.paths import Paths
from .remarks import remarks, spread_over_seeds
from .wording import MISSING, format_accuracy

ACCURACIES: dict[str, Split] = {"Training acc": "train", "Validation acc": "val", "Test acc": "test"}


def table_markdown(
    experiments: Mapping[str, Experiment], runs: Runs, models: Mapping[str, ModelConfig], baseline: str | None = None
) -> str:
    """The table as markdown.

    Below it are the options that no column shows, the baseline, the meaning of ± and the remarks on the runs.

    Args:
        runs: as `read_runs` returns them; a row without runs shows `–`.
        models: the models of the rows.
        baseline: as `majority_baseline` returns it.
    """
    rows = [[row, *_cells(experiment, runs.get(row, []), models).values()] for row, experiment in experiments.items()]
    headers = ["", *_cells(next(iter(experiments.values())), [], models)]
    parts = [markdown_table(headers, rows, first_width=4)]
    changed = {row: changes_without_column(experiment, models) for row, experiment in experiments.items()}
    parts += [f"Row {row}: {words}." for row, words in changed.items() if words]
    parts += [*([baseline] if baseline else []), *spread_over_seeds(runs), *remarks(runs)]
    return "\n\n".join(parts) + "\n"


def majority_baseline(config: Config, runs: Runs) -> str | None:
    """The test accuracy without any training, in a sentence; None if the runs' test split is not there."""
    try:
        labels, _ = read_split(Paths(config.results).split("test"))
    except InputError:
        return None
    if {run.metrics.test_total for of_row in runs.values() for run in of_row} != {len(labels)}:
        return None
    majority = max(CLASSES, key=labels.count)
    count, name = labels.count(majority), config.dataset.labels[majority]
    return (
        f"Baseline: always answering `{name}` is right for {count} of the {len(labels)} test examples"
        f" ({count / len(labels):.2%})."
    )


def _cells(experiment: Experiment, runs: list[Run], models: Mapping[str, ModelConfig]) -> dict[str, str]:
    """The cells of a row after its id, by header."""
    cells = setting_cells(experiment, runs[0].metrics.context_length if runs else None, models)
    for header, split in ACCURACIES.items():
        cells[header] = _accuracy_cell([run.accuracy(split) for run in runs])
    cells["Training time"] = f"{statistics.fmean(run.minutes for run in runs):.2f} min" if runs else MISSING
    cells["CPU/GPU"] = ", ".join(dict.fromkeys(run.metrics.device_name for run in runs)) or MISSING
    return cells


def setting_cells(
    experiment: Experiment, context_length: int | None, models: Mapping[str, ModelConfig]
) -> dict[str, str]:
    """The cells that describe a row's options, by header.

    Args:
        context_length: the measured number of positions; None if it is unknown or not used.
        models: the models of the rows.
    """
    position: str = "last" if experiment.trainable_token_pos == "flexible" else experiment.trainable_token_pos
    if experiment.average_embeddings:
        position += " + pooled embeddings"
    return {
        "Model": display_name(experiment.model_size, models),
        "Weights": experiment.weights,
        "Trainable token position": position,
        "Trainable layers": "LoRA" if experiment.trainable_layers == "lora" else experiment.trainable_layers,
        "Context length": _context_cell(experiment, context_length),
    }


def _context_cell(experiment: Experiment, context_length: int | None) -> str:
    measured = MISSING if context_length is None else context_length
    if experiment.no_padding:
        cell = f"variable: no padding (batch size {experiment.batch_size * experiment.accumulation_steps})"
    elif experiment.trainable_token_pos == "flexible":
        cell = "flexible (last non-padding position)"
    elif experiment.context_length == "longest_training_example":
        cell = f"longest train ex. ({measured})"
    else:
        cell = f"context length ({measured})"
    if experiment.disable_causal_mask:
        cell += "; but no causal mask"
    if experiment.ignore_index != NO_IGNORE_INDEX:
        cell += " and `ignore_index` for padding"
    return cell


def _accuracy_cell(fractions: list[float]) -> str:
    """`96.63%`; over several seeds the mean and the sample standard deviation, `96.63% ± 0.41`; `–` for none."""
    if not fractions:
        return MISSING
    # Not reports.statistics: scipy takes longer to import than the table to write.
    return format_accuracy(statistics.fmean(fractions), statistics.stdev(fractions) if len(fractions) > 1 else None)


def table_csv(experiments: Mapping[str, Experiment], runs: Runs) -> str:
    """The table as CSV: for each row and seed the options, the accuracies as fractions, seconds and device."""
    measured = [f"{split}_acc" for split in ACCURACIES.values()]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["row", "seed", *OPTIONS, *measured, "seconds", "device_name"])
    for row, experiment in experiments.items():
        for run in runs.get(row, []):
            values = (getattr(experiment, option) for option in OPTIONS)
            options = [",".join(map(str, value)) if isinstance(value, tuple) else value for value in values]
            accuracies = [run.accuracy(split) for split in ACCURACIES.values()]
            seconds = round(60 * run.minutes, 3)
            writer.writerow([row, run.seed, *options, *accuracies, seconds, run.metrics.device_name])
    return buffer.getvalue()

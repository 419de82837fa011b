"""The table: as markdown in the reference's layout, and as data with one line for each row and seed."""

import csv
import io
import statistics
from collections.abc import Mapping

from ..common.markdown import markdown_table
from ..runs.finished_runs import Run, Runs, notes
from ..settings.constants import NO_IGNORE_INDEX, Split
from ..settings.experiment import OPTIONS, Experiment
from ..settings.labels import changes_without_column, display_name
from ..settings.models import ModelConfig
from .wording import MISSING, format_accuracy, rows_named

ACCURACIES: dict[str, Split] = {"Training acc": "train", "Validation acc": "val", "Test acc": "test"}


def table_markdown(experiments: Mapping[str, Experiment], runs: Runs, models: Mapping[str, ModelConfig]) -> str:
    """The table as markdown. Below it are the notes of the runs, and the options that no column shows.

    Args:
        runs: as `read_runs` returns them; a row without runs shows `–`.
        models: the models of the rows.
    """
    rows = [[row, *_cells(experiment, runs.get(row, []), models).values()] for row, experiment in experiments.items()]
    headers = ["", *_cells(next(iter(experiments.values())), [], models)]
    parts = [markdown_table(headers, rows, first_width=4), *_remarks(runs)]
    for row, experiment in experiments.items():
        if words := changes_without_column(experiment, models):
            parts.append(f"Row {row}: {words}.")
    return "\n\n".join(parts) + "\n"


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


def _remarks(runs: Runs) -> list[str]:
    """The lines below the table."""
    remarks = notes(runs)
    precisions = {row: {run.metrics.precision for run in of_row} for row, of_row in runs.items()}
    finished = sum(map(bool, runs.values()))
    for precision in sorted(set().union(*precisions.values()) - {"float32"}):
        rows = [row for row, of_row in precisions.items() if precision in of_row]
        remarks.append(f"Matrix products in {precision}: {'all rows' if len(rows) == finished else rows_named(rows)}.")
    return remarks


def table_csv(experiments: Mapping[str, Experiment], runs: Runs) -> str:
    """The table as CSV: for each row and seed the options, the accuracies as fractions, seconds and device."""
    measured = [f"{split}_acc" for split in ACCURACIES.values()]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["row", "seed", *OPTIONS, *measured, "seconds", "device_name"])
    for row, experiment in experiments.items():
        for run in runs.get(row, []):
            options = [getattr(experiment, option) for option in OPTIONS]
            accuracies = [run.accuracy(split) for split in ACCURACIES.values()]
            seconds = round(60 * run.minutes, 3)
            writer.writerow([row, run.seed, *options, *accuracies, seconds, run.metrics.device_name])
    return buffer.getvalue()

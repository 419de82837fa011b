"""The table: the reference's layout as markdown, and the same as data, a line a row and seed."""

import csv
import io
import statistics

from ..common.markdown import markdown_table
from ..runs.finished_runs import Run, Runs, notes
from ..settings.constants import NO_IGNORE_INDEX, Split
from ..settings.experiment import OPTIONS, Experiment

ACCURACIES: dict[str, Split] = {"Training acc": "train", "Validation acc": "val", "Test acc": "test"}
MISSING = "–"


def table_markdown(experiments: dict[str, Experiment], runs: Runs) -> str:
    """The table as markdown, with a line below it for each note or precision the runs name.

    Args:
        runs: as `runs.read_runs` gives; a row without any shows `–`.
    """
    rows = [[row, *_cells(experiment, runs.get(row, [])).values()] for row, experiment in experiments.items()]
    headers = ["", *_cells(next(iter(experiments.values())), [])]
    lines = [markdown_table(headers, rows, first_width=4), *_remarks(runs)]
    return "\n\n".join(lines) + "\n"


def _cells(experiment: Experiment, runs: list[Run]) -> dict[str, str]:
    cells = setting_cells(experiment, runs[0].metrics.context_length if runs else None)
    for header, split in ACCURACIES.items():
        cells[header] = accuracy_text([run.accuracy(split) for run in runs])
    cells["Training time"] = f"{statistics.fmean(run.minutes for run in runs):.2f} min" if runs else MISSING
    cells["CPU/GPU"] = ", ".join(dict.fromkeys(run.metrics.device_name for run in runs)) or MISSING
    return cells


def setting_cells(experiment: Experiment, context_length: int | None) -> dict[str, str]:
    """The table's texts for a row's settings.

    Args:
        context_length: the measured number of positions; None if it is not known or not used.
    """
    position: str = "last" if experiment.trainable_token_pos == "flexible" else experiment.trainable_token_pos
    if experiment.average_embeddings:
        position += " + pooled embeddings"
    return {
        "Model": experiment.model_size,
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


def accuracy_text(fractions: list[float]) -> str:
    """`96.63%`; over several seeds the mean and standard deviation, `96.63% ± 0.41`; `–` for none."""
    if not fractions:
        return MISSING
    text = f"{statistics.fmean(fractions):.2%}"
    return f"{text} ± {100 * statistics.stdev(fractions):.2f}" if len(fractions) > 1 else text


def _remarks(runs: Runs) -> list[str]:
    """What a reader must know of the numbers, a line each."""
    remarks = notes(runs)
    precisions = {row: {run.metrics.precision for run in of_row} for row, of_row in runs.items()}
    for precision in sorted(set().union(*precisions.values()) - {"float32"}):
        rows = [row for row, found in precisions.items() if precision in found]
        which = f"row{'s' if len(rows) > 1 else ''} {', '.join(rows)}"
        if len(rows) == sum(map(bool, runs.values())):
            which = "all rows"
        remarks.append(f"Matrix products in {precision}: {which}.")
    return remarks


def table_csv(experiments: dict[str, Experiment], runs: Runs) -> str:
    """A line for each row and seed: the options, the accuracies as fractions, seconds and device."""
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

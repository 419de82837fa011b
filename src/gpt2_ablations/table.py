"""The table: the document's layout as markdown, and the same as data, a line a row and seed."""

import csv
import io
import statistics
from collections.abc import Mapping

from .config import Config
from .experiment import NO_IGNORE_INDEX, OPTIONS, Experiment
from .markdown import markdown_table
from .paths import Paths
from .records import read_metrics

ACCURACIES = {"Training acc": "train_acc", "Validation acc": "val_acc", "Test acc": "test_acc"}
MISSING = "–"

Runs = Mapping[str, list[dict]]


def read_runs(config: Config, experiments: dict[str, Experiment]) -> dict[str, list[dict]]:
    """The metrics of every row, a list over the configured seeds; rows and seeds that have not run are left out.

    Raises:
        InputError: a metrics file is damaged.
    """
    paths = Paths(config.results)
    files = {row: [paths.row(row, seed) / "metrics.json" for seed in config.seeds] for row in experiments}
    return {row: [read_metrics(file) for file in of_row if file.is_file()] for row, of_row in files.items()}


def table_markdown(experiments: dict[str, Experiment], runs: Runs) -> str:
    """The table as markdown, with a line below it for each note or precision the runs name.

    Args:
        runs: the metrics of each row by seed, as `read_runs` gives; a row without any shows `–`.
    """
    rows = [[row, *_cells(experiment, runs.get(row, [])).values()] for row, experiment in experiments.items()]
    headers = ["", *_cells(next(iter(experiments.values())), [])]
    lines = [markdown_table(headers, rows, first_width=4), *_remarks(runs)]
    return "\n\n".join(lines) + "\n"


def _cells(experiment: Experiment, runs: list[dict]) -> dict[str, str]:
    cells = setting_cells(experiment, runs[0]["context_length"] if runs else None)
    for header, key in ACCURACIES.items():
        cells[header] = accuracy_text([run[key] for run in runs])
    cells["Training time"] = f"{statistics.fmean(map(table_minutes, runs)):.2f} min" if runs else MISSING
    cells["CPU/GPU"] = ", ".join(dict.fromkeys(run["device_name"] for run in runs)) or MISSING
    return cells


def setting_cells(experiment: Experiment, context_length: int | None) -> dict[str, str]:
    """The table's texts for a row's settings.

    Args:
        context_length: the measured number of positions; None if it is not known or not used.
    """
    position = "last" if experiment.trainable_token_pos == "flexible" else experiment.trainable_token_pos
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


def table_minutes(metrics: dict) -> float:
    """The table's training time: the frozen part and the training loop, in minutes."""
    return (metrics["seconds"]["features"] + metrics["seconds"]["training"]) / 60


def _remarks(runs: Runs) -> list[str]:
    """What a reader must know of the numbers, a line each."""
    of_all = [run for of_row in runs.values() for run in of_row]
    remarks = list(dict.fromkeys(run["note"] for run in of_all if run.get("note")))
    for precision in sorted({run["precision"] for run in of_all} - {"float32"}):
        rows = [row for row, of_row in runs.items() if any(run["precision"] == precision for run in of_row)]
        which = f"row{'s' if len(rows) > 1 else ''} {', '.join(rows)}"
        if len(rows) == sum(map(bool, runs.values())):
            which = "all rows"
        remarks.append(f"Matrix products in {precision}: {which}.")
    return remarks


def table_csv(experiments: dict[str, Experiment], runs: Runs) -> str:
    """A line for each row and seed: the options, the accuracies as fractions, seconds and device."""
    measured = ("train_acc", "val_acc", "test_acc")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["row", "seed", *OPTIONS, *measured, "seconds", "device_name"])
    for row, experiment in experiments.items():
        for run in runs.get(row, []):
            options = [getattr(experiment, option) for option in OPTIONS]
            seconds = round(60 * table_minutes(run), 3)
            writer.writerow([row, run["seed"], *options, *(run[key] for key in measured), seconds, run["device_name"]])
    return buffer.getvalue()

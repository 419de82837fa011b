"""Draws the pictures of a results folder, each as SVG and PNG."""

from pathlib import Path

from ...common.errors import InputError
from ...runs.finished_runs import notes, read_runs
from ...settings.config import Config, named_row, select_rows
from ...settings.experiment import Experiment
from ...settings.labels import load_defaults, row_labels
from ...settings.published import load_published
from . import MOST_ROWS

# The pictures of the whole table, by file name without suffix.
FIGURES = ("accuracy", "time", "gap", "loss_curves", "accuracy_curves")


def draw_figures(config: Config, experiments: dict[str, Experiment], folder: Path) -> list[Path]:
    """Draw the pictures of the whole table from the rows that have run; a row that has not run shows as such.

    Args:
        experiments: all rows of the experiments file; `config.rows` selects from them.

    Returns: the files written.

    Raises:
        InputError: a file is damaged.
    """
    from .curves import ACCURACY, LOSS, multiples_figure
    from .row_figures import accuracy_figure, gap_figure, time_figure
    from .style import save_figure, style

    selected = select_rows(config, experiments)
    drawn = dict(list(selected.items())[:MOST_ROWS])
    runs = read_runs(config, drawn)
    labels = row_labels(drawn, load_defaults(config))
    histories = {row: [run.history() for run in found] for row, found in runs.items()}
    remarks = notes(runs)
    if len(drawn) < len(selected):
        remarks.append(f"The first {len(drawn)} of {len(selected)} rows; `rows` in the configuration selects others.")
    with style():
        figures = (
            accuracy_figure(
                runs, labels, load_published(config.published) if config.published is not None else {}, remarks
            ),
            time_figure(runs, labels, drawn, remarks),
            gap_figure(runs, labels, remarks),
            multiples_figure(LOSS, runs, histories, labels, remarks),
            multiples_figure(ACCURACY, runs, histories, labels, remarks),
        )
        return [file for name, figure in zip(FIGURES, figures) for file in save_figure(figure, folder / name, name)]


def draw_row(config: Config, experiments: dict[str, Experiment], row: str, folder: Path) -> list[Path]:
    """Draw the loss and accuracy curves of one row, as `curves_ROW` with both suffixes.

    Returns: the files written.

    Raises:
        InputError: the row does not exist, has not run, or its files are damaged.
    """
    from .curves import row_figure
    from .style import save_figure, style

    experiment = named_row(row, experiments, config.experiments)
    runs = read_runs(config, {row: experiment})
    if not runs[row]:
        raise InputError(f"row {row} has no finished run in {config.results}; run `snakemake --cores all row_{row}`")
    label = row_labels({row: experiment}, load_defaults(config))[row]
    with style():
        figure = row_figure(label, [run.history() for run in runs[row]], notes(runs))
        return save_figure(figure, folder / f"curves_{row}", f"Training of row {label}")

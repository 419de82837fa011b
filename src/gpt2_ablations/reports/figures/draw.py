"""Draws the figures of the whole table, each as SVG and PNG."""

from collections.abc import Mapping
from pathlib import Path

from ...runs.finished_runs import read_runs
from ...settings.config import Config
from ...settings.experiment import Experiment
from ...settings.labels import display_name, load_defaults, row_labels
from ...settings.models import ModelConfig
from ...settings.published import load_published
from ...settings.rows import select_rows
from ..remarks import remarks
from . import MOST_ROWS

# The figures of the whole table, by file name without suffix.
FIGURES = ("accuracy", "time", "gap", "loss_curves", "accuracy_curves")


def draw_figures(
    config: Config, experiments: dict[str, Experiment], models: Mapping[str, ModelConfig], folder: Path
) -> list[Path]:
    """Draw the figures of the whole table. Rows that have not run are marked as such.

    Args:
        experiments: all rows of the experiments file; `config.rows` selects from them.
        models: the models of the rows.

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
    labels = row_labels(drawn, load_defaults(config), models)
    model_names = {row: display_name(experiment.model_size, models) for row, experiment in drawn.items()}
    published = None if config.published is None else load_published(config.published)
    histories = {row: [run.history() for run in of_row] for row, of_row in runs.items()}
    lines = remarks(runs)
    if len(drawn) < len(selected):
        lines.append(f"The first {len(drawn)} of {len(selected)} rows; `rows` in the configuration selects others.")
    with style():
        figures = (
            accuracy_figure(runs, labels, published, lines),
            time_figure(runs, labels, model_names, lines),
            gap_figure(runs, labels, lines),
            multiples_figure(LOSS, runs, histories, labels, lines),
            multiples_figure(ACCURACY, runs, histories, labels, lines),
        )
        return [file for name, figure in zip(FIGURES, figures) for file in save_figure(figure, folder / name, name)]

"""Draws the curves of single rows, each as SVG and PNG."""

from collections.abc import Mapping
from pathlib import Path

from ...common.errors import InputError
from ...runs.finished_runs import read_runs
from ...settings.config import Config
from ...settings.experiment import Experiment
from ...settings.labels import load_defaults, row_label
from ...settings.models import ModelConfig
from ...settings.rows import named_row
from ..remarks import remarks


def draw_row(
    config: Config, experiments: dict[str, Experiment], models: Mapping[str, ModelConfig], row: str, folder: Path
) -> list[Path]:
    """Draw the loss and accuracy curves of one row, as `curves_ROW.svg` and `curves_ROW.png`.

    Args:
        experiments: all rows of the experiments file.
        models: the models of the rows.

    Returns: the files written.

    Raises:
        InputError: the row does not exist, has not run, or its files are damaged.
    """
    from .curves import curves_figure
    from .style import save_figure, style

    experiment = named_row(row, experiments, config.experiments)
    runs = read_runs(config, {row: experiment})
    if not runs[row]:
        raise InputError(f"row {row} has no finished run in {config.results}; run `snakemake --cores all row_{row}`")
    label = row_label(row, experiment, load_defaults(config), models)
    with style():
        figure = curves_figure(label, [run.history() for run in runs[row]], remarks(runs))
        return save_figure(figure, folder / f"curves_{row}", f"Training of row {label}")

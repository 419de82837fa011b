"""Figures of losses and accuracies during training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...common.text import counted
from ...runs.finished_runs import Runs
from ...runs.run_tables import Curve
from ...settings.constants import EVALUATION_BATCHES
from .style import BLUE, GREY, VERMILLION, mark, new_figure, plain_log_ticks, wrap_label

Histories = Sequence[Mapping[str, Curve]]

COLUMNS = 4
PANEL_HEIGHT = 1.75
LABEL_HEIGHT = 2.9  # of the longest label of the vertical axis
SEEDS_DRAWN = 10
MOST_MARKERS = 20
# Smaller losses are drawn at this value: on a logarithmic axis they would leave no room for the others.
SMALLEST_LOSS = 1e-3


@dataclass(frozen=True)
class Quantity:
    """What a panel shows.

    Attributes:
        curves: two columns of the history, training and validation.
        label: of the axis.
        scale: by which values are multiplied.
    """

    name: str
    curves: tuple[str, str]
    label: str
    scale: float = 1


LOSS = Quantity("loss", ("train_loss", "val_loss"), "Loss (cross-entropy, nats)")
ACCURACY = Quantity("accuracy", ("train_acc", "val_acc"), "Accuracy (%)", scale=100)
STYLES = {"training": ("o-", BLUE), "validation": ("s--", VERMILLION)}
LEGEND = {name: mark(*curve_style, ms=4) for name, curve_style in STYLES.items()}
SAMPLED = f"Evaluated on {EVALUATION_BATCHES} batches at a time, as in the reference."


def curves_figure(label: str, histories: Histories, notes: Sequence[str]) -> Figure:
    """Loss and accuracy of one row, side by side.

    Args:
        histories: one for each seed, as `Run.history` returns it.
    """
    lines = [f"{SAMPLED} {_seeds_drawn(len(histories))}", *notes]
    height = 3.6
    figure = new_figure(9, height, f"Training of row {label}", lines, LEGEND)
    bounds = _panel_bounds(figure, height, left=0.07)
    for axes, quantity in zip(figure.subplots(1, 2, gridspec_kw=bounds | {"wspace": 0.2}), (LOSS, ACCURACY)):
        _draw_curves(axes, histories, quantity)
        axes.set_xlabel("Epoch")
        axes.set_ylabel(quantity.label)
        axes.set_xlim(left=-0.1)
        if quantity is LOSS:
            axes.set_ylim(bottom=0)
        axes.grid()
    return figure


def multiples_figure(
    quantity: Quantity, runs: Runs, histories: Mapping[str, Histories], labels: Mapping[str, str], notes: Sequence[str]
) -> Figure:
    """One quantity of every row, in small panels with common axes."""
    columns = min(COLUMNS, len(runs))
    n_lines = -(-len(runs) // columns)
    seeds = max((len(of_row) for of_row in histories.values()), default=0)
    lines = [f"{SAMPLED} {_seeds_drawn(seeds)}", *notes]
    height = 0.6 + max(PANEL_HEIGHT * n_lines, LABEL_HEIGHT)
    figure = new_figure(10, height, f"{quantity.name.capitalize()} of every row during training", lines, LEGEND)
    bounds = _panel_bounds(figure, height - 0.3, left=0.075)
    grid = figure.subplots(
        n_lines, columns, sharex=True, sharey=True, squeeze=False, gridspec_kw=bounds | {"hspace": 0.4, "wspace": 0.08}
    )
    for axes, row in zip(grid.flat, runs):
        _draw_curves(axes, histories[row], quantity, marker_size=2.5)
        axes.set_title(wrap_label(labels[row], 30), size=8.5, loc="left", y=1)
        axes.grid()
        if not histories[row]:
            axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center", color=GREY, style="italic")
    for axes in grid.flat[len(runs) :]:
        axes.set_visible(False)
    for axes in grid.flat[len(runs) - columns : len(runs)]:
        axes.tick_params(labelbottom=True)
    grid[0, 0].set_xlim(left=-0.1)
    if quantity is LOSS:
        grid[0, 0].set_yscale("log")
        plain_log_ticks(grid[0, 0].yaxis, (1, 2, 5))
    figure.supxlabel("Epoch", size=9, y=0.1 / figure.get_figheight())
    label = quantity.label + (", logarithmic" if quantity is LOSS else "")
    figure.supylabel(label, size=9, x=0.008, y=(height + 0.25) / 2 / figure.get_figheight())
    return figure


def _panel_bounds(figure: Figure, height: float, left: float) -> dict[str, float]:
    """Fixed places for panels that are all alike: automatic layout takes longer than to draw them.

    Args:
        height: inches, of the space below the heading.
        left: where the panels begin, as a fraction of the width.
    """
    figure.set_layout_engine("none")
    whole = figure.get_figheight()
    return {"left": left, "right": 0.99, "bottom": 0.55 / whole, "top": (height - 0.12) / whole}


def _seeds_drawn(n: int) -> str:
    if n < 2:
        return ""
    drawn = counted(n, "seed") if n <= SEEDS_DRAWN else f"the first {SEEDS_DRAWN} of {n} seeds"
    return f"Thick lines: mean over the seeds. Thin lines: {drawn}."


def _draw_curves(axes: Axes, histories: Histories, quantity: Quantity, marker_size: float = 4) -> None:
    """Draw the training and validation curves: the mean over seeds, and with several seeds a thin line for each."""
    for name, (line_style, color) in zip(quantity.curves, STYLES.values()):
        curves = [history[name] for history in histories]
        if len(curves) > 1:
            for curve in curves[:SEEDS_DRAWN]:
                axes.plot(curve.epochs, _values(curve, quantity), line_style[1:], color=color, lw=0.6, alpha=0.45)
        mean = _mean_curve(curves)
        if mean is not None:
            # Not every point has a marker: many markers would hide the line.
            every = -(-len(mean.epochs) // MOST_MARKERS)
            axes.plot(
                mean.epochs, _values(mean, quantity), line_style, color=color, lw=1.5, ms=marker_size, markevery=every
            )


def _mean_curve(curves: list[Curve]) -> Curve | None:
    """The mean of curves; None if there are no curves, or if they were evaluated at different steps."""
    if not curves or any(not np.array_equal(curve.epochs, curves[0].epochs) for curve in curves):
        return None
    return Curve(curves[0].epochs, np.mean([curve.values for curve in curves], axis=0))


def _values(curve: Curve, quantity: Quantity) -> np.ndarray:
    return np.maximum(curve.values, SMALLEST_LOSS) if quantity is LOSS else quantity.scale * curve.values

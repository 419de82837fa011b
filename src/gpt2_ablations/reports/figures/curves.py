"""Pictures of how losses and accuracies change while rows train."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...runs.finished_runs import Runs
from ...runs.run_tables import Curve
from ..wording import counted
from .style import BLUE, GREY, VERMILLION, mark, new_figure, plain_log_ticks, wrap_label

Histories = Sequence[Mapping[str, Curve]]

COLUMNS = 4
PANEL_HEIGHT = 1.75
SEEDS_DRAWN = 10
MOST_MARKERS = 20
# Losses below this are drawn on it: the logarithm of a vanishing loss would leave no room for the others.
SMALLEST_LOSS = 1e-3


@dataclass(frozen=True)
class Quantity:
    """What a panel shows: two curves of the history, and how their axis reads."""

    name: str
    curves: tuple[str, str]
    label: str
    scale: float = 1


LOSS = Quantity("loss", ("train_loss", "val_loss"), "Loss (cross-entropy, nats)")
ACCURACY = Quantity("accuracy", ("train_acc", "val_acc"), "Accuracy (%)", scale=100)
LOOKS = {"training": ("o-", BLUE), "validation": ("s--", VERMILLION)}
LEGEND = {name: mark(*look, ms=4) for name, look in LOOKS.items()}
SAMPLED = "Measured on 5 batches at a time, as the reference does."


def row_figure(label: str, histories: Histories, notes: Sequence[str]) -> Figure:
    """Loss and accuracy of one row, side by side.

    Args:
        histories: of each seed, as `Run.history` gives.
    """
    lines = [f"{SAMPLED} {_seeds_drawn(len(histories))}", *notes]
    figure = new_figure(9, 3.6, f"Training of row {label}", lines, LEGEND)
    for axes, quantity in zip(figure.subplots(1, 2), (LOSS, ACCURACY)):
        _draw(axes, histories, quantity)
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
    """One quantity of every row, a small panel each, on common axes."""
    columns = min(COLUMNS, len(runs))
    n_lines = -(-len(runs) // columns)
    seeds = max((len(of_row) for of_row in histories.values()), default=0)
    lines = [f"{SAMPLED} {_seeds_drawn(seeds)}", *notes]
    height = 0.6 + PANEL_HEIGHT * n_lines
    figure = new_figure(10, height, f"{quantity.name.capitalize()} of every row while it trains", lines, LEGEND)
    # Many panels are slow to lay out automatically, and they are all alike.
    figure.set_layout_engine("none")
    whole = figure.get_figheight()
    bounds = {"left": 0.075, "right": 0.99, "bottom": 0.55 / whole, "top": (height - 0.42) / whole}
    grid = figure.subplots(
        n_lines, columns, sharex=True, sharey=True, squeeze=False, gridspec_kw=bounds | {"hspace": 0.4, "wspace": 0.08}
    )
    for axes, row in zip(grid.flat, runs):
        _draw(axes, histories[row], quantity, marker_size=2.5)
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
    figure.supxlabel("Epoch", size=9, y=0.1 / whole)
    figure.supylabel(quantity.label + (", logarithmic" if quantity is LOSS else ""), size=9, x=0.008)
    return figure


def _seeds_drawn(n: int) -> str:
    if n < 2:
        return ""
    drawn = f"{counted(n, 'seed')}" if n <= SEEDS_DRAWN else f"the first {SEEDS_DRAWN} of {n} seeds"
    return f"Thick: mean over the seeds. Thin: {drawn}."


def _draw(axes: Axes, histories: Histories, quantity: Quantity, marker_size: float = 4) -> None:
    """The training and validation curves; of several seeds each, thinly, and their mean."""
    for curve, (look, color) in zip(quantity.curves, LOOKS.values()):
        found = [history[curve] for history in histories]
        if len(found) > 1:
            for seed in found[:SEEDS_DRAWN]:
                axes.plot(seed.epochs, _values(seed, quantity), look[1:], color=color, lw=0.6, alpha=0.45)
        mean = _mean(found)
        if mean is not None:
            # Of many points some are marked: all of them would hide the line.
            every = -(-len(mean.epochs) // MOST_MARKERS)
            axes.plot(mean.epochs, _values(mean, quantity), look, color=color, lw=1.5, ms=marker_size, markevery=every)


def _mean(curves: list[Curve]) -> Curve | None:
    """The mean of curves; None if there is none, or if they were not measured at the same steps."""
    if not curves or any(not np.array_equal(curve.epochs, curves[0].epochs) for curve in curves):
        return None
    return Curve(curves[0].epochs, np.mean([curve.values for curve in curves], axis=0))


def _values(curve: Curve, quantity: Quantity) -> np.ndarray:
    return np.maximum(curve.values, SMALLEST_LOSS) if quantity is LOSS else quantity.scale * curve.values

"""Figures with one mark for each row: accuracy, training time, and the gap between training and validation."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...common.text import counted
from ...runs.finished_runs import Run, Runs
from ...settings.published import Published
from ..statistics import mean_and_sd, wilson_interval
from ..wording import format_signed, listing
from .place_labels import place_labels
from .style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    mark,
    name_rows,
    new_figure,
    plain_log_ticks,
    wrap_label,
)

ROW_HEIGHT = 0.32
HOLLOW: dict[str, Any] = {"mfc": "none", "ms": 7, "mew": 1.5}
EDGED: dict[str, Any] = {"mec": BLACK, "mew": 0.7}
KEY_WIDTH = 48
# Marker and colour of each model.
MODEL_STYLES = [("o", BLUE), ("s", ORANGE), ("^", GREEN), ("D", VERMILLION), ("v", PURPLE), ("P", SKY), ("X", BLACK)]


def accuracy_figure(
    runs: Runs, labels: Mapping[str, str], published: Mapping[str, Published] | None, notes: Sequence[str]
) -> Figure:
    """Test accuracy of every row with its 95% interval, single seeds, and the published value.

    Args:
        labels: of the rows.
        published: by row; None if the configuration names no published figures.
        notes: lines below the title.
    """
    several = any(len(of_row) > 1 for of_row in runs.values())
    title = "Test accuracy of every row"
    value = "mean over seeds" if several else "test accuracy" if published is None else "reproduced"
    legend = {f"{value}, with 95% interval": mark("o-", BLUE, ms=6)}
    if several:
        legend["single seeds"] = mark("|", BLACK, ms=7)
    subtitle = _sample(runs)
    if published is None:
        subtitle += " No published figures."
    else:
        legend["published"] = mark("D", VERMILLION, **HOLLOW)
    figure = new_figure(8.5, 0.7 + ROW_HEIGHT * len(runs), title, [subtitle, *notes], legend)
    axes = figure.subplots()
    for y, (row, of_row) in enumerate(runs.items()):
        if of_row:
            _accuracy_with_interval(axes, y, of_row, several)
        entry = published.get(row) if published else None
        if entry is not None and entry.test_acc is not None:
            axes.plot(entry.test_acc, y, "D", color=VERMILLION, zorder=4, **HOLLOW)
    _mark_missing(axes, runs)
    axes.set_xlabel("Test accuracy (%)")
    axes.set_xlim(right=100.6)
    name_rows(axes, [labels[row] for row in runs])
    return figure


def _sample(runs: Runs) -> str:
    """The number of test examples and seeds, and the meaning of the bars."""
    totals = sorted({run.metrics.test_total for of_row in runs.values() for run in of_row})
    seeds = max((len(of_row) for of_row in runs.values()), default=0)
    if not totals:
        return "No row has run yet."
    examples = " or ".join(map(str, totals))
    spread = ", without the spread over seeds" if seeds > 1 else ""
    return f"{examples} test examples, {counted(seeds, 'seed')}. Bars: Wilson's 95% interval over the examples{spread}."


def _means(runs: Runs) -> str:
    return " Means over the seeds." if any(len(of_row) > 1 for of_row in runs.values()) else ""


def _accuracy_with_interval(axes: Axes, y: float, of_row: list[Run], several: bool) -> None:
    percentages = [100 * run.metrics.test_acc for run in of_row]
    mean, _ = mean_and_sd(percentages)
    total = of_row[0].metrics.test_total
    # Seeds share their test examples, so more seeds do not narrow the interval.
    low, high = wilson_interval(round(mean / 100 * total), total)
    errors = [[max(mean - 100 * low, 0)], [max(100 * high - mean, 0)]]
    axes.errorbar(mean, y, xerr=errors, fmt="o", color=BLUE, ms=6, capsize=3, zorder=3)
    if several:
        axes.plot(percentages, [y + 0.28] * len(percentages), "|", color=BLACK, ms=5, zorder=3)


def _mark_missing(axes: Axes, runs: Runs) -> None:
    for y, of_row in enumerate(runs.values()):
        if not of_row:
            axes.text(0.01, y, "not run", transform=axes.get_yaxis_transform(), va="center", color=GREY, style="italic")


def gap_figure(runs: Runs, labels: Mapping[str, str], notes: Sequence[str]) -> Figure:
    """Training and validation accuracy of every row, joined by a line, with the gap between them in points."""
    lines = [
        "Over all examples of the split, after the last epoch. Right: training minus validation, in percentage points."
        + _means(runs)
    ]
    legend = {"training": mark("o", BLUE, ms=5.5), "validation": mark("s", ORANGE, ms=8, **EDGED)}
    title = "Training and validation accuracy of every row"
    figure = new_figure(8.5, 0.7 + ROW_HEIGHT * len(runs), title, [*lines, *notes], legend)
    axes = figure.subplots()
    for y, of_row in enumerate(runs.values()):
        if of_row:
            train, val = (100 * mean_and_sd([run.accuracy(split) for run in of_row])[0] for split in ("train", "val"))
            axes.plot([train, val], [y, y], "-", color=GREY, lw=2, zorder=2)
            axes.plot(val, y, "s", color=ORANGE, ms=8, zorder=3, **EDGED)
            axes.plot(train, y, "o", color=BLUE, ms=5.5, zorder=4)
            gap = format_signed(train - val, 1)
            axes.text(1.01, y, gap, transform=axes.get_yaxis_transform(), va="center", family="DejaVu Sans Mono")
    _mark_missing(axes, runs)
    axes.set_xlabel("Accuracy (%)")
    axes.set_xlim(right=100.6)
    name_rows(axes, [labels[row] for row in runs])
    return figure


def time_figure(runs: Runs, labels: Mapping[str, str], model_names: Mapping[str, str], notes: Sequence[str]) -> Figure:
    """Training time against test accuracy: a numbered mark for each row, and a key of all rows next to it.

    Args:
        labels: of the rows.
        model_names: the displayed name of each row's model.
        notes: lines below the title.
    """
    present = {row: of_row for row, of_row in runs.items() if of_row}
    devices = listing(list(dict.fromkeys(run.metrics.device_name for of_row in present.values() for run in of_row)))
    lines = [f"Features and training loop, on {devices}.{_means(runs)}" if devices else "No row has run yet."]
    models = list(dict.fromkeys(model_names[row] for row in present))
    styles = {model: MODEL_STYLES[index % len(MODEL_STYLES)] for index, model in enumerate(models)}
    legend = {model: mark(*model_style, ms=7, **EDGED) for model, model_style in styles.items()}
    height = max(4.6, 0.8 + 0.21 * len(runs))
    figure = new_figure(10, height, "Training time and test accuracy", [*lines, *notes], legend)
    axes, key = figure.subplots(1, 2, width_ratios=[2.3, 1])
    points = {}
    for row, of_row in present.items():
        minutes, _ = mean_and_sd([run.minutes for run in of_row])
        points[row] = max(minutes, 1e-3), 100 * mean_and_sd([run.metrics.test_acc for run in of_row])[0]
        marker, color = styles[model_names[row]]
        axes.plot(*points[row], marker, color=color, ms=7, zorder=3, **EDGED)
    axes.set_xscale("log")
    plain_log_ticks(axes.xaxis, (1, 2, 3, 5))
    axes.set_xlabel("Training time (min, logarithmic)")
    axes.set_ylabel("Test accuracy (%)")
    axes.margins(0.12)
    axes.grid()
    _draw_key(key, runs, labels)
    place_labels(figure, axes, points)
    return figure


def _draw_key(key: Axes, runs: Runs, labels: Mapping[str, str]) -> None:
    """Draw the list of the rows that the numbers in the figure refer to."""
    key.axis("off")
    key.set_ylim(len(runs) - 0.5, -0.5)
    for y, (row, of_row) in enumerate(runs.items()):
        state = "" if of_row else " (not run)"
        text = wrap_label(labels[row], KEY_WIDTH - len(state), lines=1) + state
        key.text(0, y, text, va="center", size=8.5, color=BLACK if of_row else GREY)

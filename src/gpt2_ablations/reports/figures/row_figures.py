"""Pictures with one mark a row: accuracy, time against accuracy, and the gap between training and validation."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...runs.finished_runs import Run, Runs
from ...settings.experiment import Experiment
from ...settings.published import Published
from ..statistics import mean_and_sd, wilson_interval
from ..wording import counted, listing, signed
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
# One look for each model size.
MODEL_LOOKS = [("o", BLUE), ("s", ORANGE), ("^", GREEN), ("D", VERMILLION), ("v", PURPLE), ("P", SKY), ("X", BLACK)]


def accuracy_figure(
    runs: Runs, labels: Mapping[str, str], published: Mapping[str, Published], notes: Sequence[str]
) -> Figure:
    """Test accuracy of every row with its 95% interval, single seeds, and the published value."""
    several = any(len(found) > 1 for found in runs.values())
    title = "Test accuracy of every row"
    reproduced = "mean over seeds" if several else "reproduced"
    legend = {f"{reproduced}, with 95% interval": mark("o-", BLUE, ms=6)}
    if several:
        legend["single seeds"] = mark("|", BLACK, ms=7)
    legend["published"] = mark("D", VERMILLION, **HOLLOW)
    figure = new_figure(8.5, 0.7 + ROW_HEIGHT * len(runs), title, [_sample(runs), *notes], legend)
    axes = figure.subplots()
    for y, (row, found) in enumerate(runs.items()):
        if found:
            _accuracy_with_interval(axes, y, found, several)
        printed = published[row].test_acc if row in published else None
        if printed is not None:
            axes.plot(printed, y, "D", color=VERMILLION, zorder=4, **HOLLOW)
    _name_missing(axes, runs)
    axes.set_xlabel("Test accuracy (%)")
    axes.set_xlim(right=100.6)
    name_rows(axes, [labels[row] for row in runs])
    return figure


def _sample(runs: Runs) -> str:
    """What an accuracy is of, and what its interval means."""
    totals = sorted({run.metrics.test_total for found in runs.values() for run in found})
    seeds = max((len(found) for found in runs.values()), default=0)
    if not totals:
        return "No row has run yet."
    messages = " or ".join(map(str, totals))
    return f"{messages} test messages, {counted(seeds, 'seed')}. Bars: Wilson's 95% interval for that many messages."


def _accuracy_with_interval(axes: Axes, y: float, found: list[Run], several: bool) -> None:
    percentages = [100 * run.metrics.test_acc for run in found]
    mean, _ = mean_and_sd(percentages)
    total = found[0].metrics.test_total
    # Seeds share their messages: more of them do not narrow what this many messages can tell.
    low, high = wilson_interval(round(mean / 100 * total), total)
    errors = [[max(mean - 100 * low, 0)], [max(100 * high - mean, 0)]]
    axes.errorbar(mean, y, xerr=errors, fmt="o", color=BLUE, ms=6, capsize=3, zorder=3)
    if several:
        axes.plot(percentages, [y + 0.28] * len(percentages), "|", color=BLACK, ms=5, zorder=3)


def _name_missing(axes: Axes, runs: Runs) -> None:
    for y, found in enumerate(runs.values()):
        if not found:
            axes.text(0.01, y, "not run", transform=axes.get_yaxis_transform(), va="center", color=GREY, style="italic")


def gap_figure(runs: Runs, labels: Mapping[str, str], notes: Sequence[str]) -> Figure:
    """Training and validation accuracy of every row, joined, with the gap between them in points."""
    lines = ["Over all messages of the split, after the last epoch. Right: training minus validation, in points."]
    legend = {"training": mark("o", BLUE, ms=5.5), "validation": mark("s", ORANGE, ms=8, **EDGED)}
    title = "Training and validation accuracy of every row"
    figure = new_figure(8.5, 0.7 + ROW_HEIGHT * len(runs), title, [*lines, *notes], legend)
    axes = figure.subplots()
    for y, found in enumerate(runs.values()):
        if found:
            train, val = (100 * mean_and_sd([run.accuracy(split) for run in found])[0] for split in ("train", "val"))
            axes.plot([train, val], [y, y], "-", color=GREY, lw=2, zorder=2)
            axes.plot(val, y, "s", color=ORANGE, ms=8, zorder=3, **EDGED)
            axes.plot(train, y, "o", color=BLUE, ms=5.5, zorder=4)
            gap = signed(train - val, 1)
            axes.text(1.01, y, gap, transform=axes.get_yaxis_transform(), va="center", family="DejaVu Sans Mono")
    _name_missing(axes, runs)
    axes.set_xlabel("Accuracy (%)")
    axes.set_xlim(right=100.6)
    name_rows(axes, [labels[row] for row in runs])
    return figure


def time_figure(
    runs: Runs, labels: Mapping[str, str], experiments: Mapping[str, Experiment], notes: Sequence[str]
) -> Figure:
    """Training time against test accuracy: a numbered mark a row, with a key of all rows beside it."""
    present = {row: found for row, found in runs.items() if found}
    devices = listing(list(dict.fromkeys(run.metrics.device_name for found in present.values() for run in found)))
    lines = [f"Frozen part and training loop, on {devices}." if devices else "No row has run yet."]
    models = list(dict.fromkeys(experiments[row].model_size for row in present))
    looks = {model: MODEL_LOOKS[index % len(MODEL_LOOKS)] for index, model in enumerate(models)}
    legend = {model: mark(*look, ms=7, **EDGED) for model, look in looks.items()}
    height = max(4.6, 0.8 + 0.21 * len(runs))
    figure = new_figure(10, height, "Training time and test accuracy", [*lines, *notes], legend)
    axes, key = figure.subplots(1, 2, width_ratios=[2.3, 1])
    points = {}
    for row, found in present.items():
        minutes, _ = mean_and_sd([run.minutes for run in found])
        points[row] = max(minutes, 1e-3), 100 * mean_and_sd([run.metrics.test_acc for run in found])[0]
        marker, color = looks[experiments[row].model_size]
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
    """The rows that the numbers in the picture stand for."""
    key.axis("off")
    key.set_ylim(len(runs) - 0.5, -0.5)
    for y, (row, found) in enumerate(runs.items()):
        state = "" if found else " (not run)"
        text = wrap_label(labels[row], KEY_WIDTH - len(state), lines=1) + state
        key.text(0, y, text, va="center", size=8.5, color=BLACK if found else GREY)

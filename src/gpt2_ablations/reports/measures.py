"""The measures of a comparison: the values of both rows, and their difference or ratio."""

from collections.abc import Callable

from ..runs.finished_runs import Run
from .paired import PairedResult
from .statistics import mean_and_sd
from .wording import MISSING, format_accuracy, format_count, format_ratio, format_signed


def format_interval(result: PairedResult) -> str:
    """The 95% interval of the difference in test accuracy, in points."""
    return f"{format_signed(100 * result.low)} to {format_signed(100 * result.high)}"


def _test_accuracy(result: PairedResult) -> list[str]:
    cells = [_accuracy_cell(runs) for runs in (result.baseline, result.other)]
    difference = f"{format_signed(100 * result.difference)} points, 95% interval {format_interval(result)}"
    return ["Test accuracy", *cells, difference]


def _accuracy_cell(runs: list[Run]) -> str:
    mean, sd = mean_and_sd([run.accuracy("test") for run in runs])
    count = format_count(_mean(runs, lambda run: run.correct("test")), runs[0].total("test"))
    return f"{format_accuracy(mean, sd)} ({count})"


def _train_validation_gap(result: PairedResult) -> list[str]:
    gaps = [
        100 * _mean(runs, lambda run: run.accuracy("train") - run.accuracy("val"))
        for runs in (result.baseline, result.other)
    ]
    cells = [f"{format_signed(gap)} points" for gap in gaps]
    return ["Training minus validation accuracy", *cells, f"{format_signed(gaps[1] - gaps[0])} points"]


def _training_time(result: PairedResult) -> list[str]:
    return _ratio_line("Training time", result, lambda run: run.minutes, "{:.2f} min")


def _trained_parameters(result: PairedResult) -> list[str]:
    return _ratio_line("Trained parameters", result, lambda run: run.metrics.trainable_parameters, "{:,.0f}")


def _memory(result: PairedResult) -> list[str]:
    # On a GPU the device's memory is the limit; elsewhere only the host's is measured.
    runs = [*result.baseline, *result.other]
    kind = next((kind for kind in ("device", "host") if all(kind in run.peak_memory_mb for run in runs)), None)
    if kind is None:
        return ["Peak memory", MISSING, MISSING, MISSING]
    return _ratio_line(f"Peak memory ({kind})", result, lambda run: run.peak_memory_mb[kind], "{:,.0f} MiB")


def _ratio_line(title: str, result: PairedResult, value: Callable[[Run], float | None], form: str) -> list[str]:
    """A measure of both rows, the mean over seeds, and the ratio of the other row to the baseline."""
    values = [[value(run) for run in runs] for runs in (result.baseline, result.other)]
    known = [[one for one in of_row if one is not None] for of_row in values]
    if known != values:
        return [title, MISSING, MISSING, MISSING]
    baseline, other = (mean_and_sd(of_row)[0] for of_row in known)
    return [title, form.format(baseline), form.format(other), format_ratio(other / baseline) if baseline else MISSING]


def _mean(runs: list[Run], value: Callable[[Run], float]) -> float:
    return mean_and_sd([value(run) for run in runs])[0]


# Each gives a line of a table: title, the baseline's value, the other row's value, their difference or ratio.
MEASURES: dict[str, Callable[[PairedResult], list[str]]] = {
    "test_accuracy": _test_accuracy,
    "train_validation_gap": _train_validation_gap,
    "training_time": _training_time,
    "trained_parameters": _trained_parameters,
    "memory": _memory,
}

"""What a pair of rows is compared on: for each measure a value of either row, and their difference or ratio."""

from collections.abc import Callable

from ..runs.finished_runs import Run
from ..settings.constants import Split
from .paired import PairedResult
from .statistics import mean_and_sd
from .wording import MISSING, accuracy, count, ratio, signed


def interval(result: PairedResult) -> str:
    """The 95% interval of the difference in test accuracy, in points."""
    return f"{signed(100 * result.low)} to {signed(100 * result.high)}"


def _test_accuracy(result: PairedResult) -> list[str]:
    cells = [_accuracy_cell(runs, "test") for runs in (result.reference, result.other)]
    return ["Test accuracy", *cells, f"{signed(100 * result.difference)} points, 95% interval {interval(result)}"]


def _accuracy_cell(runs: list[Run], split: Split) -> str:
    mean, sd = mean_and_sd([run.accuracy(split) for run in runs])
    return f"{accuracy(mean, sd)} ({count(_mean(runs, lambda run: run.correct(split)), runs[0].total(split))})"


def _train_validation_gap(result: PairedResult) -> list[str]:
    gaps = [
        100 * _mean(runs, lambda run: run.accuracy("train") - run.accuracy("val"))
        for runs in (result.reference, result.other)
    ]
    cells = [f"{signed(gap)} points" for gap in gaps]
    return ["Training minus validation accuracy", *cells, f"{signed(gaps[1] - gaps[0])} points"]


def _training_time(result: PairedResult) -> list[str]:
    return _ratio_row("Training time", result, lambda run: run.minutes, "{:.2f} min")


def _trained_parameters(result: PairedResult) -> list[str]:
    return _ratio_row("Trained parameters", result, lambda run: run.metrics.trainable_parameters, "{:,.0f}")


def _memory(result: PairedResult) -> list[str]:
    # On a GPU its own memory is what limits; otherwise there is only the host's.
    runs = [*result.reference, *result.other]
    place = next((place for place in ("device", "host") if all(place in run.peak_memory_mb for run in runs)), None)
    if place is None:
        return ["Peak memory", MISSING, MISSING, MISSING]
    return _ratio_row(f"Peak memory ({place})", result, lambda run: run.peak_memory_mb[place], "{:,.0f} MiB")


def _ratio_row(title: str, result: PairedResult, value: Callable[[Run], float | None], form: str) -> list[str]:
    """A measure of both rows, the mean over seeds, and the ratio of the other to the reference."""
    values = [[value(run) for run in runs] for runs in (result.reference, result.other)]
    known = [[one for one in of_row if one is not None] for of_row in values]
    if known != values:
        return [title, MISSING, MISSING, MISSING]
    reference, other = (mean_and_sd(of_row)[0] for of_row in known)
    return [title, form.format(reference), form.format(other), ratio(other / reference) if reference else MISSING]


def _mean(runs: list[Run], value: Callable[[Run], float]) -> float:
    return mean_and_sd([value(run) for run in runs])[0]


MEASURES: dict[str, Callable[[PairedResult], list[str]]] = {
    "test_accuracy": _test_accuracy,
    "train_validation_gap": _train_validation_gap,
    "training_time": _training_time,
    "trained_parameters": _trained_parameters,
    "memory": _memory,
}

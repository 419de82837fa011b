"""What every report says about its runs as a whole: notes, in which different ways they were made, and what ± means."""

from collections.abc import Callable

from ..common.text import counted, listed
from ..runs.finished_runs import Run, Runs, notes


def remarks(runs: Runs) -> list[str]:
    """The notes of the runs, any precision other than float32, and different devices, threads and versions of torch."""
    lines = notes(runs)
    precisions = _rows_by(lambda run: run.metrics.precision, runs)
    for precision in sorted(precisions.keys() - {"float32"}):
        rows = "all rows" if len(precisions) == 1 else _named(precisions[precision])
        lines.append(f"Matrix products in {precision}: {rows}.")
    made_with = {
        "Devices": _rows_by(_device, runs),
        "Threads": _rows_by(_threads, runs),
        "Versions of torch": _rows_by(_torch_version, runs),
    }
    different = {what: values for what, values in made_with.items() if len(values) > 1}
    for what, values in different.items():
        lines.append(f"{what}: {'; '.join(f'{value} ({_named(rows)})' for value, rows in values.items())}.")
    if different or len(precisions) > 1:
        lines.append("These rows differ in rounding, and their training times do not compare.")
    return lines


def _device(run: Run) -> str:
    return run.metrics.device_name + (f", {run.metrics.device}" if run.metrics.device else "")


def _threads(run: Run) -> str | None:
    return str(run.metrics.threads) if run.metrics.threads else None


def _torch_version(run: Run) -> str | None:
    return run.metrics.versions.get("torch")


def _rows_by(value: Callable[[Run], str | None], runs: Runs) -> dict[str, list[str]]:
    """The rows with a run of each value. A run that does not state its value does not count."""
    found: dict[str, dict[str, None]] = {}
    for row, of_row in runs.items():
        for run in of_row:
            if (stated := value(run)) is not None:
                found.setdefault(stated, {})[row] = None
    return {stated: list(rows) for stated, rows in found.items()}


def _named(rows: list[str]) -> str:
    return f"row{'s' * (len(rows) > 1)} {listed(rows)}"


def spread_over_seeds(runs: Runs) -> list[str]:
    """A sentence on what `95.00% ± 0.51` means, if a row has several seeds."""
    numbers = sorted({len(of_row) for of_row in runs.values() if len(of_row) > 1})
    if not numbers:
        return []
    seeds = f"{numbers[0]} to {numbers[-1]} seeds" if len(numbers) > 1 else counted(numbers[0], "seed")
    return [f"Values are means over {seeds}; ± is the standard deviation over them, in percentage points."]

"""Compares the test predictions of two rows, example by example."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..common.errors import InputError
from ..runs.finished_runs import Run, Runs
from ..runs.run_tables import Predictions
from .statistics import LEVEL, bootstrap_interval, paired_p


@dataclass(frozen=True)
class PairedResult:
    """Two rows on the same test examples, with the seeds that both have run.

    Attributes:
        baseline, other: the runs of the two rows, with the same seeds in the same order.
        difference, low, high: test accuracy of the other row minus that of the baseline, and its 95% interval;
            fractions.
        p: of McNemar's exact test, or of its extension to several seeds.
        for_other, for_baseline: the number of examples that the one row classifies correctly with more seeds than the
            other row.
    """

    baseline: list[Run]
    other: list[Run]
    difference: float
    low: float
    high: float
    p: float
    for_other: int
    for_baseline: int

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.baseline]

    @property
    def verdict(self) -> str:
        """Whether the other row is `better`, `worse` or `not distinguishable`.

        A difference needs both a p-value below 5%, which is exact, and an interval without zero, which accounts for
        the seeds.
        """
        if self.p >= LEVEL or self.low <= 0 <= self.high:
            return "not distinguishable"
        return "better" if self.difference > 0 else "worse"


PredictionReader = Callable[[Run], Predictions]


def prediction_reader() -> PredictionReader:
    """A function that returns the predictions of a run and reads each file once: many pairs share a baseline."""
    cached: dict[tuple[str, int], Predictions] = {}

    def read(run: Run) -> Predictions:
        key = run.row, run.seed
        if key not in cached:
            cached[key] = run.predictions()
        return cached[key]

    return read


def compare_rows(baseline: str, other: str, runs: Runs, read: PredictionReader) -> PairedResult | None:
    """The paired comparison of two rows; None if they have no seed in common.

    Raises:
        InputError: predictions are damaged, or are of different test examples.
    """
    by_seed = {run.seed: run for run in runs.get(other, [])}
    pairs = [(run, by_seed[run.seed]) for run in runs.get(baseline, []) if run.seed in by_seed]
    if not pairs:
        return None
    labels = read(pairs[0][0]).labels
    for run in (run for pair in pairs for run in pair):
        if not np.array_equal(read(run).labels, labels):
            raise InputError(
                f"{run.folder / 'predictions.csv'}: its labels differ from those of {pairs[0][0].folder}; run both rows"
                " again on the same dataset"
            )
    correct = [np.array([read(run).is_correct for run in side]) for side in zip(*pairs)]  # 2 x bool [seeds, examples]
    net = (correct[1].astype(int) - correct[0].astype(int)).sum(axis=0)
    low, high = bootstrap_interval(*correct)
    return PairedResult(
        baseline=[pair[0] for pair in pairs],
        other=[pair[1] for pair in pairs],
        difference=float(correct[1].mean() - correct[0].mean()),
        low=low,
        high=high,
        p=paired_p(*correct),
        for_other=int((net > 0).sum()),
        for_baseline=int((net < 0).sum()),
    )

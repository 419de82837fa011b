"""Compares the test predictions of two rows message by message."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..common.errors import InputError
from ..runs.finished_runs import Run, Runs
from ..runs.run_tables import Predictions
from .statistics import LEVEL, bootstrap_interval, paired_p


@dataclass(frozen=True)
class PairedResult:
    """Two rows on the same test messages, with the seeds that both have run.

    difference, low, high: test accuracy of the other row minus the reference's, with its 95% interval; fractions.
    p: exact McNemar, or its extension to several seeds.
    for_other, for_reference: messages that the one row classifies rightly with more seeds than the other.
    """

    reference: list[Run]
    other: list[Run]
    difference: float
    low: float
    high: float
    p: float
    for_other: int
    for_reference: int

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.reference]

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `not distinguishable`, of the other row.

        Both the p-value, which is exact, and the interval, which knows of the seeds, must speak for a difference.
        """
        if self.p >= LEVEL or self.low <= 0 <= self.high:
            return "not distinguishable"
        return "better" if self.difference > 0 else "worse"


PredictionReader = Callable[[Run], Predictions]


def prediction_reader() -> PredictionReader:
    """A function that reads the predictions of a run once: a reference row is asked for again and again."""
    known: dict[tuple[str, int], Predictions] = {}

    def read(run: Run) -> Predictions:
        key = run.row, run.seed
        if key not in known:
            known[key] = run.predictions()
        return known[key]

    return read


def compare_rows(reference: str, other: str, runs: Runs, read: PredictionReader) -> PairedResult | None:
    """The paired comparison of two rows; None if they have no seed in common.

    Raises:
        InputError: predictions are damaged, or are of different test messages.
    """
    by_seed = {run.seed: run for run in runs.get(other, [])}
    pairs = [(run, by_seed[run.seed]) for run in runs.get(reference, []) if run.seed in by_seed]
    if not pairs:
        return None
    labels = read(pairs[0][0]).labels
    for run in (run for pair in pairs for run in pair):
        if not np.array_equal(read(run).labels, labels):
            raise InputError(
                f"{run.folder / 'predictions.csv'}: its labels are not those of {pairs[0][0].folder}: other test"
                " messages; run both rows again on one dataset"
            )
    correct = [np.array([read(run).correct for run in side]) for side in zip(*pairs)]  # 2 x bool [seeds, messages]
    net = (correct[1].astype(int) - correct[0].astype(int)).sum(axis=0)
    low, high = bootstrap_interval(*correct)
    return PairedResult(
        reference=[pair[0] for pair in pairs],
        other=[pair[1] for pair in pairs],
        difference=float(correct[1].mean() - correct[0].mean()),
        low=low,
        high=high,
        p=paired_p(*correct),
        for_other=int((net > 0).sum()),
        for_reference=int((net < 0).sum()),
    )

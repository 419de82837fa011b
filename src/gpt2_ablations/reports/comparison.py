"""comparison.md: the published figures next to the reproduced ones."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..common.markdown import markdown_table
from ..common.text import counted
from ..runs.finished_runs import Run, Runs, read_runs
from ..settings.config import Config
from ..settings.constants import Split
from ..settings.experiment import Experiment
from ..settings.labels import load_defaults, row_labels
from ..settings.models import ModelConfig
from ..settings.published import Published, load_published
from ..settings.rows import select_rows
from .remarks import remarks, spread_over_seeds
from .statistics import mean_and_sd, within_sampling_error
from .wording import (
    MISSING,
    block_quotes,
    format_accuracy,
    format_count,
    format_number,
    format_ratio,
    format_signed,
    listing,
    rows_named,
)

SPLITS: dict[Split, str] = {"test": "Test", "val": "Validation", "train": "Training"}
NO_PUBLISHED = "The configuration names no published figures (`published: null`), so nothing is compared."
NONE_OF_THESE = "{} has no figures for the rows of this table, so nothing is compared."
HOW_TO_READ = """\
Each difference is the reproduced value minus the published value, in percentage points and in examples. {details} \
"Within sampling error" is the result of Fisher's exact test on \
the two counts: "yes" means that p is at least 5%. Both counts are of the same examples, but the published figures do \
not say which examples were classified correctly, so the test treats the counts as two independent samples. This makes \
it lenient: a "no" is stronger evidence than a "yes". A difference of fewer than six examples cannot be significant, \
whichever examples they are."""


@dataclass(frozen=True)
class SplitComparison:
    """One accuracy of one row: the published value and the runs that reproduce it."""

    split: Split
    published: Published | None
    runs: list[Run]

    @property
    def published_percentage(self) -> float | None:
        return self.published.percentage(self.split) if self.published else None

    @property
    def published_total(self) -> int | None:
        """The number of examples of the published percentage: the published one, otherwise that of the run."""
        total = self.published.total(self.split) if self.published else None
        return total or (self.runs[0].total(self.split) if self.runs else None)

    @property
    def published_correct(self) -> int | None:
        """The published percentage as a count; None if no count gives it."""
        return self.published.correct(self.split, self.published_total) if self.published else None

    @property
    def impossible(self) -> bool:
        """Whether no count out of the total gives the published percentage."""
        known = self.published_percentage is not None and self.published_total is not None
        return known and self.published_correct is None

    @property
    def mean_accuracy(self) -> float:
        """The reproduced accuracy as a fraction, the mean over seeds."""
        return mean_and_sd([run.accuracy(self.split) for run in self.runs])[0]

    @property
    def mean_correct(self) -> float:
        """The reproduced number of correctly classified examples, the mean over seeds."""
        return mean_and_sd([run.correct(self.split) for run in self.runs])[0]

    @property
    def difference_in_points(self) -> float | None:
        """Reproduced minus published, in percentage points; from the counts, because printed values are rounded."""
        if not self.runs or self.published_percentage is None:
            return None
        if self.published_correct is None or self.published_total is None:
            return 100 * self.mean_accuracy - self.published_percentage
        return 100 * (self.mean_accuracy - self.published_correct / self.published_total)

    @property
    def difference_in_examples(self) -> float | None:
        """Reproduced minus published, in examples; None unless both splits have the same number of examples."""
        same_size = all(run.total(self.split) == self.published_total for run in self.runs)
        if not self.runs or self.published_correct is None or not same_size:
            return None
        return self.mean_correct - self.published_correct

    @property
    def within(self) -> bool | None:
        """Whether sampling error can explain the difference; None if one of the counts is missing."""
        if not self.runs or self.published_correct is None or self.published_total is None:
            return None
        total = self.runs[0].total(self.split)
        # Seeds share their test examples, so their mean counts as one sample.
        correct = round(self.mean_accuracy * total)
        return within_sampling_error(correct, total, self.published_correct, self.published_total)


def comparison_markdown(config: Config, experiments: dict[str, Experiment], models: Mapping[str, ModelConfig]) -> str:
    """The text of comparison.md, from the runs that have finished.

    Args:
        experiments: all rows of the experiments file; `config.rows` selects from them.
        models: the models of the rows.

    Raises:
        InputError: a file is damaged.
    """
    selected = select_rows(config, experiments)
    runs = read_runs(config, selected)
    parts = ["# Published and reproduced", *block_quotes(remarks(runs))]
    if config.published is None:
        parts += [NO_PUBLISHED, _bullets(_rows_that_ran(runs, config.seeds))]
        return "\n\n".join(parts) + "\n"
    published = load_published(config.published)
    if not published.keys() & selected.keys():
        parts += [NONE_OF_THESE.format(config.published), _bullets(_rows_that_ran(runs, config.seeds))]
        return "\n\n".join(parts) + "\n"
    labels = row_labels(selected, load_defaults(config), models)
    comparisons = {
        split: {row: SplitComparison(split, published.get(row), runs[row]) for row in selected} for split in SPLITS
    }
    summary = [*_rows_that_ran(runs, config.seeds), *_verdicts(comparisons), *_irregularities(comparisons)]
    details = " ".join([*spread_over_seeds(runs), *_one_example(runs)])
    parts += [_bullets(summary), HOW_TO_READ.format(details=details)]
    for split, title in SPLITS.items():
        parts += [f"## {title} accuracy", _accuracy_table(comparisons[split], labels)]
    parts += ["## Training time", "Features and training loop, in minutes.", _time_table(published, runs, labels)]
    return "\n\n".join(parts) + "\n"


def _one_example(runs: Runs) -> list[str]:
    """A sentence on what one test example is in percentage points, for each size of the test split."""
    totals = {run.total("test") for of_row in runs.values() for run in of_row}
    return [f"With {n} test examples, one example is {100 / n:.2f} percentage points." for n in sorted(totals)]


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _rows_that_ran(runs: Runs, seeds: list[int]) -> list[str]:
    """Which rows ran, and with how many of the seeds."""
    missing = [row for row, of_row in runs.items() if not of_row]
    partly = [row for row, of_row in runs.items() if 0 < len(of_row) < len(seeds)]
    lines = [f"{len(runs) - len(missing)} of {counted(len(runs), 'row')} ran, with {counted(len(seeds), 'seed')}."]
    if missing:
        lines.append(f"Not run yet, or failed: {rows_named(missing)}.")
    if partly:
        lines.append(f"With fewer seeds: {rows_named(partly)}.")
    return lines


def _verdicts(comparisons: dict[Split, dict[str, SplitComparison]]) -> list[str]:
    """How many published values are within sampling error, one line for each split."""
    lines = []
    for split, title in SPLITS.items():
        verdicts = {row: comparison.within for row, comparison in comparisons[split].items()}
        tested = [row for row, within in verdicts.items() if within is not None]
        outside = [row for row in tested if not verdicts[row]]
        if tested:
            lines.append(
                f"{title} accuracy: {len(tested) - len(outside)} of {counted(len(tested), 'published value')} within"
                f" sampling error of the reproduced value{f'; outside: {rows_named(outside)}' if outside else ''}."
            )
    return lines


def _irregularities(comparisons: dict[Split, dict[str, SplitComparison]]) -> list[str]:
    """Published values that no count gives, and splits whose size differs from the published one."""
    lines = []
    for split, title in SPLITS.items():
        for row, comparison in comparisons[split].items():
            percentage, total = comparison.published_percentage, comparison.published_total
            if comparison.impossible and percentage is not None and total is not None:
                lines.append(_impossible(row, title, percentage, total))
        lines += _other_sizes(title, comparisons[split])
    return lines


def _impossible(row: str, title: str, percentage: float, total: int) -> str:
    below = min(int(percentage * total / 100), total - 1)
    nearest = listing([f"{n} of {total} are {n / total:.2%}" for n in (below, below + 1)])
    return f"**Impossible published value**: row {row}, {title.lower()} accuracy {percentage:.2f}%; {nearest}."


def _other_sizes(title: str, comparisons: dict[str, SplitComparison]) -> list[str]:
    """A line for each group of rows whose split has another size than the published one."""
    rows_by_size: dict[tuple[int, int | None], list[str]] = {}
    for row, comparison in comparisons.items():
        if comparison.runs and comparison.published_percentage is not None:
            size = comparison.runs[0].total(comparison.split), comparison.published_total
            if size[0] != size[1]:
                rows_by_size.setdefault(size, []).append(row)
    return [
        f"{title} accuracy of {rows_named(rows)}: {counted(reproduced, 'example')} here, {published} in the published"
        " figures. The difference is given in points only."
        for (reproduced, published), rows in rows_by_size.items()
    ]


def _accuracy_table(comparisons: dict[str, SplitComparison], labels: dict[str, str]) -> str:
    headers = ["Row", "Published", "Reproduced", "Difference in points", "In examples", "Within sampling error"]
    rows = []
    for row, comparison in comparisons.items():
        points, examples = comparison.difference_in_points, comparison.difference_in_examples
        rows.append(
            [
                labels[row],
                _published_cell(comparison),
                _reproduced_cell(comparison),
                MISSING if points is None else format_signed(points),
                MISSING if examples is None else format_signed(examples, 0 if float(examples).is_integer() else 1),
                {True: "yes", False: "no", None: MISSING}[comparison.within],
            ]
        )
    return markdown_table(headers, rows)


def _published_cell(comparison: SplitComparison) -> str:
    if comparison.published_percentage is None:
        return MISSING
    text = f"{comparison.published_percentage:.2f}%"
    if comparison.published_total is None:
        return text
    if comparison.published_correct is None:
        return f"{text} (impossible: no count of {comparison.published_total})"
    return f"{text} ({format_count(comparison.published_correct, comparison.published_total)})"


def _reproduced_cell(comparison: SplitComparison) -> str:
    if not comparison.runs:
        return MISSING
    mean, sd = mean_and_sd([run.accuracy(comparison.split) for run in comparison.runs])
    totals = {run.total(comparison.split) for run in comparison.runs}
    correct = comparison.mean_correct
    counts = format_count(correct, totals.pop()) if len(totals) == 1 else format_number(correct)
    return f"{format_accuracy(mean, sd)} ({counts})"


def _time_table(published: dict[str, Published], runs: Runs, labels: dict[str, str]) -> str:
    rows = []
    for row, of_row in runs.items():
        entry = published.get(row)
        published_minutes = entry.minutes if entry else None
        minutes = mean_and_sd([run.minutes for run in of_row])[0] if of_row else None
        rows.append(
            [
                labels[row],
                MISSING if published_minutes is None else f"{published_minutes:.2f} min",
                MISSING if minutes is None else f"{minutes:.2f} min",
                MISSING if minutes is None or published_minutes is None else format_ratio(minutes / published_minutes),
                (entry.device if entry else "") or MISSING,
                ", ".join(dict.fromkeys(run.metrics.device_name for run in of_row)) or MISSING,
            ]
        )
    headers = ["Row", "Published", "Reproduced", "Reproduced / published", "Published on", "Reproduced on"]
    return markdown_table(headers, rows)

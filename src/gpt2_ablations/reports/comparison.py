"""comparison.md: the published figures beside the reproduced ones."""

from dataclasses import dataclass

from ..common.markdown import markdown_table
from ..runs.finished_runs import Run, Runs, notes, read_runs
from ..settings.config import Config, select_rows
from ..settings.constants import Split
from ..settings.experiment import Experiment
from ..settings.labels import load_defaults, row_labels
from ..settings.published import Published, load_published
from .statistics import mean_and_sd, within_sampling_error
from .wording import MISSING, accuracy, count, counted, listing, number, quoted, ratio, rows_named, signed

SPLITS: dict[Split, str] = {"test": "Test", "val": "Validation", "train": "Training"}
HOW_TO_READ = """\
Differences are reproduced minus published, over several seeds those of the mean. One message of 300 is 0.33 points. \
"Within sampling error" asks whether the two counts may differ by chance (Fisher's exact test, p at least 5%). Both \
count the same messages, but which of them were published as right is unknown, so the test takes them for independent \
samples. That is lenient: a "no" weighs more than a "yes". Fewer than six messages of difference could not be \
significant whichever messages they are."""


@dataclass(frozen=True)
class SplitComparison:
    """One accuracy of one row: what is published and what was reproduced, over one or several seeds."""

    split: Split
    published: Published | None
    runs: list[Run]

    @property
    def percentage(self) -> float | None:
        return self.published.percentage(self.split) if self.published else None

    @property
    def published_total(self) -> int | None:
        """The messages that the published percentage is of: as published, otherwise this run's."""
        known = self.published.total(self.split) if self.published else None
        return known or (self.runs[0].total(self.split) if self.runs else None)

    @property
    def published_count(self) -> int | None:
        return self.published.count(self.split, self.published_total) if self.published else None

    @property
    def impossible(self) -> bool:
        """Whether the published percentage is no number of messages out of the total."""
        known = self.percentage is not None and self.published_total is not None
        return known and self.published_count is None

    @property
    def fraction(self) -> float:
        """The reproduced accuracy, over seeds the mean."""
        return mean_and_sd([run.accuracy(self.split) for run in self.runs])[0]

    @property
    def correct(self) -> float:
        """The reproduced number of messages classified rightly, over seeds the mean."""
        return mean_and_sd([run.correct(self.split) for run in self.runs])[0]

    @property
    def points(self) -> float | None:
        """Reproduced minus published, in percentage points; from the counts, because printed values are rounded."""
        if not self.runs or self.percentage is None:
            return None
        if self.published_count is None or self.published_total is None:
            return 100 * self.fraction - self.percentage
        return 100 * (self.fraction - self.published_count / self.published_total)

    @property
    def messages(self) -> float | None:
        """Reproduced minus published, in messages; None unless both are of equally many."""
        same_size = all(run.total(self.split) == self.published_total for run in self.runs)
        if not self.runs or self.published_count is None or not same_size:
            return None
        return self.correct - self.published_count

    @property
    def within(self) -> bool | None:
        """Whether sampling error can explain the difference; None where one side has no count."""
        if not self.runs or self.published_count is None or self.published_total is None:
            return None
        total = self.runs[0].total(self.split)
        # Seeds share their messages, so their mean counts once.
        return within_sampling_error(round(self.fraction * total), total, self.published_count, self.published_total)


def comparison_markdown(config: Config, experiments: dict[str, Experiment]) -> str:
    """The text of comparison.md, from the rows that have run.

    Args:
        experiments: all rows of the experiments file; `config.rows` selects from them.

    Raises:
        InputError: a file is damaged.
    """
    selected = select_rows(config, experiments)
    runs = read_runs(config, selected)
    published = load_published(config.published) if config.published is not None else {}
    labels = row_labels(selected, load_defaults(config))
    comparisons = {
        split: {row: SplitComparison(split, published.get(row), runs[row]) for row in selected} for split in SPLITS
    }
    summary = [*_ran(runs, config.seeds), *_verdicts(comparisons), *_oddities(comparisons)]
    parts = [
        "# Published and reproduced",
        *quoted(notes(runs)),
        "\n".join(f"- {line}" for line in summary),
        HOW_TO_READ,
    ]
    for split, title in SPLITS.items():
        parts += [f"## {title} accuracy", _accuracy_table(comparisons[split], labels)]
    parts += ["## Training time", _time_table(published, runs, labels)]
    return "\n\n".join(parts) + "\n"


def _ran(runs: Runs, seeds: list[int]) -> list[str]:
    """Which rows ran, and with how many of the seeds."""
    missing = [row for row, found in runs.items() if not found]
    partly = [row for row, found in runs.items() if 0 < len(found) < len(seeds)]
    lines = [f"{len(runs) - len(missing)} of {counted(len(runs), 'row')} ran, with {counted(len(seeds), 'seed')}."]
    if missing:
        lines.append(f"Not run yet, or failed: {rows_named(missing)}.")
    if partly:
        lines.append(f"With fewer seeds: {rows_named(partly)}.")
    return lines


def _verdicts(comparisons: dict[Split, dict[str, SplitComparison]]) -> list[str]:
    """How many published values are within sampling error, a line for each split."""
    lines = []
    for split, title in SPLITS.items():
        verdicts = {row: comparison.within for row, comparison in comparisons[split].items()}
        tested = [row for row, within in verdicts.items() if within is not None]
        outside = [row for row in tested if not verdicts[row]]
        if tested:
            lines.append(
                f"{title} accuracy: {len(tested) - len(outside)} of {len(tested)} published values lie within sampling"
                f" error of the reproduced ones{f'; outside: {rows_named(outside)}' if outside else ''}."
            )
    return lines


def _oddities(comparisons: dict[Split, dict[str, SplitComparison]]) -> list[str]:
    """Published values that no count gives, and splits of another size."""
    lines = []
    for split, title in SPLITS.items():
        for row, found in comparisons[split].items():
            if found.impossible and found.percentage is not None and found.published_total is not None:
                lines.append(_impossible(row, title, found.percentage, found.published_total))
        lines += _other_size(title, comparisons[split])
    return lines


def _impossible(row: str, title: str, percentage: float, total: int) -> str:
    below = min(int(percentage * total / 100), total - 1)
    near = listing([f"{n} of {total} are {n / total:.2%}" for n in (below, below + 1)])
    return f"**Impossible published value**: row {row}, {title.lower()} accuracy {percentage:.2f}%; {near}."


def _other_size(title: str, comparisons: dict[str, SplitComparison]) -> list[str]:
    """A line about rows whose split is not as large as the published one."""
    sizes: dict[tuple[int, int | None], list[str]] = {}
    for row, found in comparisons.items():
        if found.runs and found.percentage is not None:
            size = found.runs[0].total(found.split), found.published_total
            if size[0] != size[1]:
                sizes.setdefault(size, []).append(row)
    return [
        f"{title} accuracy of {rows_named(rows)}: of {ours} messages here and of {theirs} in the published figures, so"
        " that the difference is given in points only."
        for (ours, theirs), rows in sizes.items()
    ]


def _accuracy_table(comparisons: dict[str, SplitComparison], labels: dict[str, str]) -> str:
    headers = ["Row", "Published", "Reproduced", "Difference in points", "In messages", "Within sampling error"]
    rows = []
    for row, found in comparisons.items():
        points, messages = found.points, found.messages
        rows.append(
            [
                labels[row],
                _published_cell(found),
                _reproduced_cell(found),
                MISSING if points is None else signed(points),
                MISSING if messages is None else signed(messages, 0 if float(messages).is_integer() else 1),
                {True: "yes", False: "no", None: MISSING}[found.within],
            ]
        )
    return markdown_table(headers, rows)


def _published_cell(found: SplitComparison) -> str:
    if found.percentage is None:
        return MISSING
    text = f"{found.percentage:.2f}%"
    if found.published_total is None:
        return text
    if found.published_count is None:
        return f"{text} (impossible: no count of {found.published_total})"
    return f"{text} ({count(found.published_count, found.published_total)})"


def _reproduced_cell(found: SplitComparison) -> str:
    if not found.runs:
        return MISSING
    mean, sd = mean_and_sd([run.accuracy(found.split) for run in found.runs])
    totals = {run.total(found.split) for run in found.runs}
    counts = count(found.correct, totals.pop()) if len(totals) == 1 else number(found.correct)
    return f"{accuracy(mean, sd)} ({counts})"


def _time_table(published: dict[str, Published], runs: Runs, labels: dict[str, str]) -> str:
    rows = []
    for row, found in runs.items():
        entry = published.get(row)
        theirs = entry.minutes if entry else None
        ours = mean_and_sd([run.minutes for run in found])[0] if found else None
        rows.append(
            [
                labels[row],
                MISSING if theirs is None else f"{theirs:.2f} min",
                MISSING if ours is None else f"{ours:.2f} min",
                MISSING if ours is None or theirs is None else ratio(ours / theirs),
                (entry.device if entry else "") or MISSING,
                ", ".join(dict.fromkeys(run.metrics.device_name for run in found)) or MISSING,
            ]
        )
    headers = ["Row", "Published", "Reproduced", "Reproduced / published", "Published on", "Reproduced on"]
    return markdown_table(headers, rows)

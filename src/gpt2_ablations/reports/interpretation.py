"""interpretation.md: answers to the questions of the comparisons file, with statistical tests."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..common.markdown import markdown_table
from ..common.text import counted
from ..runs.finished_runs import Runs, read_runs
from ..settings.config import Config
from ..settings.experiment import Experiment
from ..settings.labels import load_defaults, row_labels
from ..settings.models import ModelConfig
from ..settings.questions import Question, load_questions
from ..settings.rows import select_rows
from .measures import MEASURES, format_interval
from .paired import PairedResult, compare_rows, prediction_reader
from .remarks import remarks, spread_over_seeds
from .statistics import LEVEL, holm
from .wording import MISSING, block_quotes, format_p, format_p_equals, format_signed, listing, rows_named

SEEDS_LISTED = 10
HOW_TO_READ = """\
Each question compares rows with a baseline row on the same test examples. Differences are in percentage points. The \
interval is a 95% paired bootstrap interval over {over}. {spread}{test} A row is called better or worse if p is below \
5% and the interval excludes zero. Its difference "remains" if p is also below 5% after Holm's correction. Training \
times, in minutes, include the features and the training loop. Memory, in MiB, is the largest peak of a row's jobs."""
ONE_SEED = """\
The p-value is that of McNemar's exact test, which uses only the examples that exactly one of the two rows classifies \
correctly."""
MANY_SEEDS = """\
The p-value is that of the exact sign-flip test over examples, which extends McNemar's test to several seeds: an \
example counts once, with its results over all seeds. The p-value holds for the models as trained here; only the \
interval accounts for other seeds."""


@dataclass(frozen=True)
class PairAnswer:
    """The answer of one pair of rows to a question.

    Attributes:
        result: None if the pair cannot be compared.
        p_holm: p after Holm's correction over all pairs of all questions; None if test accuracy is not compared.
    """

    question: Question
    baseline: str
    other: str
    result: PairedResult | None
    p_holm: float | None = None

    @property
    def test(self) -> PairedResult | None:
        """The result, if the question is about test accuracy."""
        return self.result if "test_accuracy" in self.question.measures else None

    @property
    def remains(self) -> bool:
        """Whether the difference remains significant after Holm's correction."""
        different = self.test is not None and self.test.verdict != "not distinguishable"
        return different and self.p_holm is not None and self.p_holm < LEVEL


def interpretation_markdown(
    config: Config, experiments: dict[str, Experiment], models: Mapping[str, ModelConfig]
) -> str:
    """The text of interpretation.md, from the runs that have finished.

    Args:
        experiments: all rows of the experiments file; `config.rows` selects from them.
        models: the models of the rows.

    Raises:
        InputError: a file is wrong or damaged.
    """
    questions, left_out = load_questions(config.comparisons, experiments)
    needed = {row for question in questions.values() for row in question.rows}
    selected = select_rows(config, experiments)
    runs = read_runs(config, {row: experiment for row, experiment in selected.items() if row in needed})
    labels = row_labels(experiments, load_defaults(config), models)
    answers = _answer_questions(questions, runs)
    tests = [answer.test for answer in _flat(answers) if answer.test]
    many = any(len(test.seeds) > 1 for test in tests)
    over = "the examples and over the seeds" if many else "the examples"
    parts = ["# What the runs say", *block_quotes(remarks(runs)), _summary(answers)]
    if left_out:
        parts.append(
            f"{counted(left_out, 'question')} of {config.comparisons} not answered: {config.experiments} lacks some of"
            " the rows."
        )
    if answers:
        spread = "".join(f"{sentence} " for sentence in spread_over_seeds(runs))
        parts += [
            HOW_TO_READ.format(over=over, spread=spread, test=MANY_SEEDS if many else ONE_SEED),
            _overview(answers),
        ]
    for number, (name, question) in enumerate(questions.items(), start=1):
        parts.append(f"## {number}. {question.question}")
        for answer in answers[name]:
            parts += _answer_text(answer, labels, runs)
    return "\n\n".join(parts) + "\n"


def _answer_questions(questions: dict[str, Question], runs: Runs) -> dict[str, list[PairAnswer]]:
    """The answers to each question, with Holm's correction over all tests of all questions."""
    read = prediction_reader()
    answers = {
        name: [PairAnswer(question, *pair, compare_rows(*pair, runs, read)) for pair in question.pairs]
        for name, question in questions.items()
    }
    corrected = iter(holm([answer.test.p for answer in _flat(answers) if answer.test]))
    return {
        name: [replace(answer, p_holm=next(corrected)) if answer.test else answer for answer in of_question]
        for name, of_question in answers.items()
    }


def _flat(by_question: Mapping[str, list[PairAnswer]]) -> list[PairAnswer]:
    return [answer for of_question in by_question.values() for answer in of_question]


def _summary(by_question: dict[str, list[PairAnswer]]) -> str:
    answers = _flat(by_question)
    tested = [answer for answer in answers if answer.test]
    verdicts = Counter(answer.test.verdict for answer in answers if answer.test)
    different = verdicts["better"] + verdicts["worse"]
    asked = f"{counted(len(by_question), 'question')} with {counted(len(answers), 'comparison')} of two rows"
    if not answers:
        return "No question of the comparisons file is about rows of this table."
    if not tested:
        return f"{asked}; none of the pairs has run yet."
    extent = "all" if len(tested) == len(answers) else f"{len(tested)}"
    remaining = sum(answer.remains for answer in tested)
    return (
        f"{asked}; {extent} could be tested for test accuracy. Taken one at a time, the row is better than its baseline"
        f" in {counted(verdicts['better'], 'comparison')}, worse in {verdicts['worse']} and not distinguishable at this"
        f" sample size in {verdicts['not distinguishable']}.{_corrected(remaining, different)}"
    )


def _corrected(remaining: int, different: int) -> str:
    if not different:
        return ""
    if different == 1:
        return f" After Holm's correction, this difference {'remains' if remaining else 'does not remain'}."
    return f" After Holm's correction, {remaining} of these {different} differences remain."


def _overview(by_question: dict[str, list[PairAnswer]]) -> str:
    """A table with one line for each pair of rows."""
    rows = []
    for number, answers in enumerate(by_question.values(), start=1):
        for answer in answers:
            cells = [str(number), f"{answer.other} against {answer.baseline}"]
            result, p_holm = answer.test, answer.p_holm
            if result is not None and p_holm is not None:
                verdict = result.verdict + (", remains" if answer.remains else "")
                cells += [format_signed(100 * result.difference), format_interval(result), format_p(result.p)]
                cells += [format_p(p_holm), verdict]
            else:
                cells += [MISSING] * 4 + ["not tested" if answer.result else "not run"]
            rows.append(cells)
    headers = ["Question", "Rows", "Difference in points", "95% bootstrap interval", "p", "p after Holm", "The row is"]
    return markdown_table(headers, rows)


def _answer_text(answer: PairAnswer, labels: dict[str, str], runs: Runs) -> list[str]:
    """The paragraphs about one pair: the verdict in a sentence, the measures, and the test."""
    title = f"### {labels[answer.other]}, against {labels[answer.baseline]}"
    result = answer.result
    if result is None:
        missing = [row for row in (answer.baseline, answer.other) if not runs.get(row)]
        reason = f"Missing: {rows_named(missing)}." if missing else "The two rows have no seed in common."
        return [title, f"**No answer yet.** {reason}"]
    headers = ["Measure", f"Row {answer.baseline}", f"Row {answer.other}", "Difference or ratio"]
    rows = [MEASURES[measure](result) for measure in answer.question.measures]
    verdict = [f"**{_verdict_sentence(answer, answer.test)}**"] if answer.test else []
    return [title, *verdict, markdown_table(headers, rows), *_details(answer, result)]


def _verdict_sentence(answer: PairAnswer, result: PairedResult) -> str:
    row, baseline = f"Row {answer.other}", f"row {answer.baseline}"
    if not result.for_other and not result.for_baseline:
        return f"{row} is not distinguishable from {baseline} at this sample size: they agree on every example."
    if result.verdict == "not distinguishable":
        return f"{row} is not distinguishable from {baseline} at this sample size."
    points = f"{abs(100 * result.difference):.2f} points"
    reservation = "" if answer.remains else ", but the difference does not remain after Holm's correction"
    return f"{row} is {result.verdict} than {baseline} by {points}{reservation}."


def _details(answer: PairAnswer, result: PairedResult) -> list[str]:
    """The counts and the test behind the verdict, the devices and the seeds: one paragraph, or none."""
    sentences = []
    if answer.test and answer.p_holm is not None:
        row, baseline = f"row {answer.other}", f"row {answer.baseline}"
        if len(result.seeds) == 1:
            sentences.append(
                f"Examples that only {row} classifies correctly: {result.for_other}; only {baseline}:"
                f" {result.for_baseline}."
            )
        else:
            sentences.append(
                f"Examples that {row} classifies correctly with more seeds than {baseline}: {result.for_other}; with"
                f" fewer: {result.for_baseline}."
            )
        test_name = "McNemar's exact test" if len(result.seeds) == 1 else "Exact sign-flip test"
        sentences.append(
            f"{test_name}: {format_p_equals(result.p)} ({format_p_equals(answer.p_holm)} after Holm's correction)."
        )
    devices = {run.metrics.device_name for run in [*result.baseline, *result.other]}
    if "training_time" in answer.question.measures and len(devices) > 1:
        sentences.append(f"The times were measured on different devices: {listing(sorted(devices))}.")
    if len(result.seeds) > SEEDS_LISTED:
        sentences.append(f"Both rows have {len(result.seeds)} seeds.")
    elif len(result.seeds) > 1:
        sentences.append(f"Seeds: {listing([str(seed) for seed in result.seeds])}.")
    return [" ".join(sentences)] if sentences else []

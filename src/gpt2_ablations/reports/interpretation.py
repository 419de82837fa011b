"""interpretation.md: the questions of the comparisons file, answered with this run's numbers."""

from collections import Counter
from dataclasses import dataclass, replace

from ..common.markdown import markdown_table
from ..runs.finished_runs import Runs, notes, read_runs
from ..settings.config import Config, select_rows
from ..settings.experiment import Experiment
from ..settings.labels import load_defaults, row_labels
from ..settings.questions import Question, load_questions
from .measures import MEASURES, interval
from .paired import PairedResult, compare_rows, prediction_reader
from .statistics import LEVEL, holm
from .wording import MISSING, counted, listing, p_equals, p_value, quoted, rows_named, signed

SEEDS_LISTED = 10
HOW_TO_READ = """\
Each question compares rows with a reference on the same test messages. The interval is a 95% paired bootstrap over \
{over}. The p-value is {test}. A row is called better or worse only if p is below 5% and the interval leaves out zero; \
the difference stands if p is below 5% after Holm's correction too. Times hold the frozen part and the training loop; \
memory is the largest peak of a row's jobs."""
ONE_SEED = "McNemar's exact test: it looks only at the messages that one of the two rows gets right and the other wrong"
MANY_SEEDS = (
    "the exact sign-flip test over messages, which is McNemar's test carried over to several seeds: a message counts"
    " once, with its results over all seeds, and it speaks of the models as trained here, while the interval allows for"
    " other seeds too"
)


@dataclass(frozen=True)
class Answer:
    """One pair of rows of a question. result: None where there is nothing to compare; p_holm: None if not tested."""

    question: Question
    reference: str
    other: str
    result: PairedResult | None
    p_holm: float | None = None

    @property
    def test(self) -> PairedResult | None:
        """The result, if the question is about test accuracy."""
        return self.result if "test_accuracy" in self.question.measures else None

    @property
    def stands(self) -> bool:
        """Whether a difference remains when all comparisons are asked at once."""
        different = self.test is not None and self.test.verdict != "not distinguishable"
        return different and self.p_holm is not None and self.p_holm < LEVEL


def interpretation_markdown(config: Config, experiments: dict[str, Experiment]) -> str:
    """The text of interpretation.md, from the rows that have run.

    Args:
        experiments: all rows of the experiments file; `config.rows` selects from them.

    Raises:
        InputError: a file is wrong or damaged.
    """
    questions, left_out = load_questions(config.comparisons, experiments)
    asked = {row for question in questions.values() for row in question.rows}
    selected = select_rows(config, experiments)
    runs = read_runs(config, {row: experiment for row, experiment in selected.items() if row in asked})
    labels = row_labels(experiments, load_defaults(config))
    answers = _answer(questions, runs)
    many = any(len(answer.test.seeds) > 1 for of_one in answers.values() for answer in of_one if answer.test)
    over = "the messages and over the seeds" if many else "the messages"
    parts = ["# What this run says", *quoted(notes(runs)), _summary(answers)]
    if left_out:
        parts.append(f"{counted(left_out, 'question')} of {config.comparisons} ask about rows that this table lacks.")
    parts += [HOW_TO_READ.format(over=over, test=MANY_SEEDS if many else ONE_SEED), _overview(answers)]
    for number, (name, question) in enumerate(questions.items(), start=1):
        parts.append(f"## {number}. {question.question}")
        for answer in answers[name]:
            parts += _answer_text(answer, labels, runs)
    return "\n\n".join(parts) + "\n"


def _answer(questions: dict[str, Question], runs: Runs) -> dict[str, list[Answer]]:
    """The answers to each question, with Holm's correction over all tests of all questions."""
    read = prediction_reader()
    answers = {
        name: [Answer(question, *pair, compare_rows(*pair, runs, read)) for pair in question.pairs]
        for name, question in questions.items()
    }
    corrected = iter(holm([answer.test.p for of_one in answers.values() for answer in of_one if answer.test]))
    return {
        name: [replace(answer, p_holm=next(corrected)) if answer.test else answer for answer in of_one]
        for name, of_one in answers.items()
    }


def _summary(by_question: dict[str, list[Answer]]) -> str:
    answers = [answer for of_one in by_question.values() for answer in of_one]
    tested = [answer for answer in answers if answer.test]
    verdicts = Counter(answer.test.verdict for answer in answers if answer.test)
    different = verdicts["better"] + verdicts["worse"]
    asked = f"{counted(len(by_question), 'question')} with {counted(len(answers), 'comparison')} of two rows"
    if not tested:
        return f"{asked}; the rows they need have not run yet."
    could = "all" if len(tested) == len(answers) else f"{len(tested)}"
    standing = sum(answer.stands for answer in tested)
    return (
        f"{asked}; {could} could be tested for test accuracy. One at a time, {verdicts['better']} find the row better"
        f" than its reference, {verdicts['worse']} worse, and {verdicts['not distinguishable']} cannot tell them apart"
        f" at this sample size. Asked all at once, {standing} of these {different} differences stand after Holm's"
        " correction."
    )


def _overview(by_question: dict[str, list[Answer]]) -> str:
    """A line for each comparison."""
    rows = []
    for number, answers in enumerate(by_question.values(), start=1):
        for answer in answers:
            cells = [str(number), f"{answer.other} against {answer.reference}"]
            result, p_holm = answer.test, answer.p_holm
            if result is not None and p_holm is not None:
                verdict = result.verdict + (", stands" if answer.stands else "")
                cells += [signed(100 * result.difference), interval(result), p_value(result.p)]
                cells += [p_value(p_holm), verdict]
            else:
                cells += [MISSING] * 4 + ["not tested" if answer.result else "not run"]
            rows.append(cells)
    headers = ["Question", "Rows", "Difference in points", "95% interval", "p", "p after Holm", "The row is"]
    return markdown_table(headers, rows)


def _answer_text(answer: Answer, labels: dict[str, str], runs: Runs) -> list[str]:
    """The paragraphs on one pair: the answer in a sentence, the measures, and how the two rows disagree."""
    title = f"### {labels[answer.other]}, against {labels[answer.reference]}"
    result = answer.result
    if result is None:
        missing = [row for row in (answer.reference, answer.other) if not runs.get(row)]
        why = f"Missing: {rows_named(missing)}." if missing else "The two rows have no seed in common."
        return [title, f"**No answer yet.** {why}"]
    headers = ["Measure", f"Row {answer.reference}", f"Row {answer.other}", "Difference or ratio"]
    rows = [MEASURES[measure](result) for measure in answer.question.measures]
    sentence = [f"**{_sentence(answer, answer.test)}**"] if answer.test else []
    return [title, *sentence, markdown_table(headers, rows), *_remarks(answer, result)]


def _sentence(answer: Answer, result: PairedResult) -> str:
    row, reference = f"Row {answer.other}", f"row {answer.reference}"
    if not result.for_other and not result.for_reference:
        return f"{row} is not distinguishable from {reference} at this sample size: they agree on every message."
    if result.verdict == "not distinguishable":
        return f"{row} is not distinguishable from {reference} at this sample size."
    points = f"{abs(100 * result.difference):.2f} points"
    holds = "" if answer.stands else ", taken by itself; with all questions asked at once this is not certain"
    return f"{row} is {result.verdict} than {reference} by {points}{holds}."


def _remarks(answer: Answer, result: PairedResult) -> list[str]:
    lines = []
    if answer.test and answer.p_holm is not None:
        row, reference = f"row {answer.other}", f"row {answer.reference}"
        if len(result.seeds) == 1:
            lines.append(f"Messages that only {row} gets right: {result.for_other}, only {reference}:")
        else:
            lines.append(f"Messages that {row} gets right with more seeds than {reference}: {result.for_other}, fewer:")
        lines.append(
            f"{result.for_reference}; {_test_name(result)} {p_equals(result.p)} (after Holm's correction"
            f" {p_equals(answer.p_holm)})."
        )
    devices = {run.metrics.device_name for run in [*result.reference, *result.other]}
    if "training_time" in answer.question.measures and len(devices) > 1:
        lines.append(f"The times come from different devices: {listing(sorted(devices))}.")
    if len(result.seeds) > SEEDS_LISTED:
        lines.append(f"{len(result.seeds)} seeds that both rows have.")
    elif len(result.seeds) > 1:
        lines.append(f"Seeds: {listing([str(seed) for seed in result.seeds])}.")
    return [" ".join(lines)] if lines else []


def _test_name(result: PairedResult) -> str:
    return "exact McNemar" if len(result.seeds) == 1 else "exact sign-flip"

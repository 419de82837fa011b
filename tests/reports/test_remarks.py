"""Each report says how its rows were made, if that differs, and what its numbers mean."""

import pytest

from gpt2_ablations.reports.comparison import comparison_markdown
from gpt2_ablations.reports.figures.curves import ACCURACY, LOSS, multiples_figure
from gpt2_ablations.reports.figures.row_figures import accuracy_figure, gap_figure, time_figure
from gpt2_ablations.reports.figures.style import style
from gpt2_ablations.reports.interpretation import interpretation_markdown
from gpt2_ablations.reports.remarks import remarks
from gpt2_ablations.reports.table import table_markdown
from gpt2_ablations.runs.finished_runs import read_runs
from tests.results_folder import comparisons_file

END = "These rows differ in rounding, and their training times do not compare."


def table_text(config, experiments, models) -> str:
    return table_markdown(experiments, read_runs(config, experiments), models)


def figure_notes(config, experiments, models) -> str:
    return "\n".join(remarks(read_runs(config, experiments)))


REPORTS = [table_text, comparison_markdown, interpretation_markdown]


@pytest.mark.parametrize("report", [*REPORTS, figure_notes])
@pytest.mark.parametrize(
    ("metrics", "remark"),
    [
        ({"device_name": "H200", "device": "cuda"}, "Devices: AMD EPYC, cpu (row 1); H200, cuda (rows 2, 3)."),
        ({"device": "mps"}, "Devices: AMD EPYC, cpu (row 1); AMD EPYC, mps (rows 2, 3)."),
        ({"precision": "tf32"}, "Matrix products in tf32: rows 2, 3."),
        ({"threads": 2}, "Threads: 1 (row 1); 2 (rows 2, 3)."),
        ({"versions": {"torch": "2.14.0"}}, "Versions of torch: 2.13.0 (row 1); 2.14.0 (rows 2, 3)."),
    ],
)
def test_every_report_says_that_its_rows_were_made_in_different_ways(results, report, metrics, remark):
    for row, changes in (("1", {}), ("2", metrics), ("3", metrics)):
        results.add(row, **({"versions": {"torch": "2.13.0"}, "threads": 1} | changes))
    text = report(results.config, results.experiments, results.models)
    assert remark in text and END in text


@pytest.mark.parametrize("report", [*REPORTS, figure_notes])
def test_rows_that_were_made_alike_get_no_remark(results, report):
    for row in ("1", "2"):
        results.add(row, versions={"torch": "2.13.0"}, precision="tf32")
    results.add("3", precision="tf32")  # it does not state its torch
    text = report(results.config, results.experiments, results.models)
    assert "Matrix products in tf32: all rows." in text
    assert END not in text and "Devices" not in text and "Versions" not in text


def test_the_seeds_of_one_row_may_differ_and_many_rows_are_counted(three_seeds):
    three_seeds.add("1", seed=1)
    for row in three_seeds.experiments:
        three_seeds.add(row, seed=2, device_name="H200")
    (devices, end) = remarks(read_runs(three_seeds.config, three_seeds.experiments))
    assert devices == "Devices: AMD EPYC, cpu (row 1); H200, cpu (rows 1, 2, 3, 4, 5, 6, 7, 8 and 11 more)."
    assert end == END


@pytest.mark.parametrize("report", REPORTS)
def test_the_spread_over_seeds_is_explained_where_it_is_shown(three_seeds, report):
    for seed in (1, 2, 3):
        three_seeds.add("1", 285 + seed, seed)
    for seed in (1, 2):
        three_seeds.add("2", 285 + seed, seed)
    three_seeds.add("3", 285, 1)
    text = report(three_seeds.config, three_seeds.experiments, three_seeds.models)
    sentence = "Values are means over 2 to 3 seeds; ± is the standard deviation over them, in percentage points."
    assert text.count(sentence) == 1


@pytest.mark.parametrize("report", REPORTS)
def test_one_seed_needs_no_explanation_of_a_spread(results, report):
    results.add("1")
    assert "±" not in report(results.config, results.experiments, results.models)


def test_the_size_of_one_example_is_that_of_the_own_test_split(results):
    results.add("1", test_correct=11, test_total=12, test_acc=11 / 12)
    text = comparison_markdown(results.config, results.experiments, results.models)
    assert "With 12 test examples, one example is 8.33 percentage points." in text and "300 test" not in text


@pytest.mark.parametrize(
    ("correct", "sentence"),
    [
        ([270, 270], "not distinguishable at this sample size in 1.\n"),
        ([270, 290], "in 0. After Holm's correction, this difference remains.\n"),
    ],
)
def test_the_summary_counts_no_differences_that_are_not_there(results, tmp_path, correct, sentence):
    for row, right in zip(("1", "2"), correct, strict=True):
        results.add(row, right)
    question = {"question": "Q?", "pairs": [["1", "2"]], "measures": ["test_accuracy"]}
    file = comparisons_file(tmp_path, q=question)
    config = results.config.model_copy(update={"comparisons": file})
    assert sentence in interpretation_markdown(config, results.experiments, results.models)


def test_the_figures_say_what_their_bars_and_means_are(three_seeds):
    for seed in (1, 2):
        three_seeds.add("1", 280 + seed, seed)
    rows = {"1": three_seeds.experiments["1"]}
    runs, labels = read_runs(three_seeds.config, rows), {"1": "1: defaults"}
    with style():
        figures = {
            "Wilson's 95% interval over the examples, without the spread over": accuracy_figure(runs, labels, None, []),
            "minus validation, in percentage points. Means over": gap_figure(runs, labels, []),
            "Features and training loop, on AMD EPYC. Means over": time_figure(runs, labels, {"1": "mini"}, []),
        }
    for sentence, figure in figures.items():
        assert sentence in " ".join(text.get_text() for text in figure.texts)


@pytest.mark.parametrize("quantity", [LOSS, ACCURACY], ids=lambda quantity: quantity.name)
@pytest.mark.parametrize("n_rows", [1, 3])
def test_the_axis_of_a_figure_of_few_rows_keeps_clear_of_its_heading(results, quantity, n_rows):
    rows = dict(list(results.experiments.items())[:n_rows])
    runs = read_runs(results.config, rows)
    with style():
        figure = multiples_figure(quantity, runs, {row: [] for row in rows}, dict.fromkeys(rows, "a row"), ["A note."])
        figure.draw_without_rendering()
        boxes = {text.get_text(): text.get_window_extent() for text in figure.texts}
    (label,) = [text for text in boxes if text.startswith(quantity.label)]
    assert boxes[label].y0 > 0
    assert [text for text, box in boxes.items() if box.overlaps(boxes[label])] == [label]

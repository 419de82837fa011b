"""interpretation.md: questions answered from runs with invented numbers."""

import re

import numpy as np
import pytest

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.reports.interpretation import interpretation_markdown
from tests.results_folder import N_TEST, comparisons_file, whole_table

MEASURES = ["test_accuracy", "train_validation_gap", "training_time", "trained_parameters", "memory"]


@pytest.fixture
def answer(tmp_path):
    """The text for one question about some pairs."""

    def text(results, pairs=((1, 2),), measures=MEASURES):
        entry = {"question": "Is it so?", "pairs": [list(pair) for pair in pairs], "measures": list(measures)}
        config = results.config.model_copy(update={"comparisons": comparisons_file(tmp_path, mine=entry)})
        return interpretation_markdown(config, results.experiments, results.models)

    return text


def measure(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split(" | ")][1:]


def test_a_better_row(results, answer):
    results.add("1", 270)
    results.add("2", 290)
    text = answer(results)
    assert "**Row 2 is better than row 1 by 6.67 points.**" in text
    assert "Examples that only row 2 classifies correctly: 20; only row 1: 0. McNemar's exact test: p < 0.0001" in text
    assert measure(text, "Test accuracy")[:2] == ["90.00% (270/300)", "96.67% (290/300)"]
    assert measure(text, "Test accuracy")[2].startswith("+6.67 points, 95% interval +4.00 to +9.67")


def test_a_worse_row(results, answer):
    results.add("1", 290)
    results.add("2", 270)
    assert "**Row 2 is worse than row 1 by 6.67 points.**" in answer(results)


def test_too_few_discordant_examples_are_not_distinguishable(results, answer):
    # All five favour row 2 and the interval excludes zero, but the exact test does not exclude chance.
    results.add("1", 285)
    results.add("2", 290)
    text = answer(results)
    assert "**Row 2 is not distinguishable from row 1 at this sample size.**" in text
    assert "McNemar's exact test: p = 0.062" in text


def test_rows_that_agree_on_every_example(results, answer):
    results.add("1")
    results.add("2")
    assert "not distinguishable from row 1 at this sample size: they agree on every example.**" in answer(results)


def test_ratios_are_of_the_row_to_its_baseline(results, answer):
    results.add("1", trainable_parameters=1_000_000, peak_memory_mb={"host": 1000.0}, features_peak_memory_mb=500.0)
    seconds = {"features": 0.0, "training": 36.0, "evaluation": 0.0}
    results.add("2", trainable_parameters=20_000, peak_memory_mb={"host": 2500.0}, seconds=seconds)
    text = answer(results)
    assert measure(text, "Training time") == ["0.20 min", "0.60 min", "3.00×"]
    assert measure(text, "Trained parameters") == ["1,000,000", "20,000", "0.020×"]
    assert measure(text, "Peak memory (host)") == ["1,000 MiB", "2,500 MiB", "2.50×"]


def test_on_a_gpu_its_own_memory_counts(results, answer):
    for row, memory in (("1", 4000.0), ("2", 1000.0)):
        results.add(row, peak_memory_mb={"host": 900.0, "device": memory})
    assert measure(answer(results), "Peak memory (device)")[2] == "0.25×"


def test_the_gap_is_training_minus_validation(results, answer):
    results.add("1", train_acc=1.0, val_acc=0.96)
    results.add("2", train_acc=0.99, val_acc=0.96)
    assert measure(answer(results), "Training minus validation accuracy") == [
        "+4.00 points",
        "+3.00 points",
        "−1.00 points",
    ]


def test_times_of_different_devices_are_named_as_such(results, answer):
    results.add("1", device_name="A100")
    results.add("2", device_name="H200")
    assert "The times were measured on different devices: A100 and H200." in answer(results)


def test_missing_rows_are_named(results, answer):
    results.add("1")
    text = answer(results, pairs=[(1, 2), (3, 4)])
    assert "**No answer yet.** Missing: row 2." in text
    assert "**No answer yet.** Missing: rows 3 and 4." in text
    assert "none of the pairs has run yet" in text


def test_questions_about_rows_that_do_not_exist_are_counted_and_not_called_unfinished(results):
    results.add("1")
    text = interpretation_markdown(results.config, {"1": results.experiments["1"]}, results.models)
    assert "No question of the comparisons file is about rows of this table." in text
    assert "not answered: " in text and "lacks some of the rows." in text
    assert "run yet" not in text and "Holm" not in text


def test_rows_that_are_not_selected_are_missing(results, answer):
    results.add("1")
    results.add("2")
    results.config = results.config.model_copy(update={"rows": ["1"]})
    assert "Missing: row 2." in answer(results)


def test_only_the_measures_asked_for(results, answer):
    results.add("1")
    results.add("2", 200)
    text = answer(results, measures=["training_time"])
    assert "Training time" in text
    assert "Row 2 is" not in text
    assert "not tested" in text


def test_several_seeds_use_those_that_both_rows_have(three_seeds, answer):
    for seed in (1, 2, 3):
        three_seeds.add("1", 270, seed)
    for seed in (1, 3):
        three_seeds.add("2", 290, seed)
    text = answer(three_seeds)
    assert "Seeds: 1 and 3." in text
    assert "Exact sign-flip test: p < 0.0001" in text
    assert "over the examples and over the seeds" in text
    assert measure(text, "Test accuracy")[0] == "90.00% ± 0.00 (270/300)"


def test_seeds_that_disagree_leave_rows_indistinguishable(three_seeds, answer):
    # For these trained models the test is significant. One seed of three contradicts it, so other seeds may too.
    for seed, correct in ((1, 290), (2, 295), (3, 260)):
        three_seeds.add("1", 270, seed)
        three_seeds.add("2", correct, seed)
    text = answer(three_seeds)
    assert "Exact sign-flip test: p = 0.0003" in text
    assert "**Row 2 is not distinguishable from row 1 at this sample size.**" in text


def test_rows_without_a_common_seed(three_seeds, answer):
    three_seeds.add("1", seed=1)
    three_seeds.add("2", seed=2)
    assert "The two rows have no seed in common." in answer(three_seeds)


def test_holms_correction_over_all_questions(results, answer):
    results.add("1", 270)
    # p = 2 / 2⁸ for each of rows 2 to 8: 0.0078 is below 5%, but 7 times 0.0078 is above.
    for row in range(2, 9):
        results.add(str(row), 278)
    alone = answer(results)
    assert "**Row 2 is better than row 1 by 2.67 points.**" in alone
    text = answer(results, pairs=[(1, row) for row in range(2, 9)])
    assert "Taken one at a time, the row is better than its baseline in 7 comparisons, worse in 0" in text
    assert "After Holm's correction, 0 of these 7 differences remain." in text
    assert "by 2.67 points, but the difference does not remain after Holm's correction.**" in text


def test_predictions_of_other_examples_are_refused(results, answer):
    results.add("1")
    results.labels = 1 - results.labels
    results.add("2")
    with pytest.raises(InputError, match=r"seed-123/predictions\.csv: its labels differ from those of"):
        answer(results)


def test_the_twelve_questions_on_a_whole_table(results):
    whole_table(results)
    text = interpretation_markdown(results.config, results.experiments, results.models)
    assert [int(n) for n in re.findall(r"^## (\d+)\. ", text, re.M)] == list(range(1, 13))
    assert "**Row 2 is worse than row 1 by 20.00 points.**" in text
    assert "12 questions with 20 comparisons of two rows; all could be tested" in text
    assert text == interpretation_markdown(results.config, results.experiments, results.models)


def test_a_note_of_the_runs_is_above_the_answers(results, answer):
    results.add("1", note="A miniature.")
    results.add("2")
    assert answer(results).startswith("# What the runs say\n\n> A miniature.\n")


def test_which_examples_are_correct_matters_not_only_how_many(results, answer):
    right = np.arange(N_TEST) < 270
    results.add("1", right)
    results.add("2", right[::-1])
    text = answer(results)
    assert "Examples that only row 2 classifies correctly: 30; only row 1: 30. McNemar's exact test: p = 1.000" in text


def test_a_model_s_label_replaces_its_name(labelled, answer):
    assert "### 6: gpt2-medium (miniature), against 1: defaults" in answer(labelled, pairs=[(1, 6)])

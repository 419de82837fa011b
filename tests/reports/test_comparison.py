"""comparison.md: published and reproduced figures."""

import re

import pytest

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.reports.comparison import comparison_markdown


def sections(results) -> dict[str, list[list[str]]]:
    """The tables of comparison.md by heading, as cells, without headers."""
    found = {}
    text = comparison_markdown(results.config, results.experiments, results.models)
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        title, *lines = section.splitlines()
        rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
        found[title] = rows[2:]
    return found


def line(results, section: str, row: str) -> list[str]:
    return next(cells for cells in sections(results)[section] if cells[0].startswith(f"{row}: "))


def test_runs_with_the_published_figures_differ_in_nothing(results):
    for row in results.published:
        results.add_published(row)
    tables = sections(results)
    for title in ("Test accuracy", "Validation accuracy", "Training accuracy"):
        assert len(tables[title]) == 19
        for name, published, reproduced, points, examples, within in tables[title]:
            if (title, name) == ("Validation accuracy", "8: gpt2-xl"):
                assert published == "99.81% (impossible: no count of 149)"
                assert (points, examples, within) == ("0.00", "–", "–")
            else:
                assert published == reproduced
                assert (points, examples, within) == ("0.00", "0", "yes")
    for _, published, reproduced, ratio, *devices in tables["Training time"]:
        assert (published, ratio, devices) == (reproduced, "1.00×", ["A100", "A100"])


def test_row_8s_validation_accuracy_is_flagged(results):
    text = comparison_markdown(results.config, results.experiments, results.models)
    flagged = [entry for entry in text.splitlines() if "Impossible published value" in entry]
    # The published totals are enough: no run is needed.
    assert flagged == [
        "- **Impossible published value**: row 8, validation accuracy 99.81%;"
        " 148 of 149 are 99.33% and 149 of 149 are 100.00%."
    ]


def test_a_difference_in_points_and_examples(results):
    results.add("1", 283)
    assert line(results, "Test accuracy", "1") == [
        "1: defaults",
        "95.00% (285/300)",
        "94.33% (283/300)",
        "−0.67",
        "−2",
        "yes",
    ]


def test_a_difference_beyond_sampling_error(results):
    results.add("1", 260)
    assert line(results, "Test accuracy", "1")[3:] == ["−8.33", "−25", "no"]
    text = comparison_markdown(results.config, results.experiments, results.models)
    assert (
        "Test accuracy: 0 of 1 published value within sampling error of the reproduced value; outside: row 1." in text
    )


def test_training_accuracies_are_counts_of_1040_and_at_batch_size_1_of_1045(results):
    assert line(results, "Training accuracy", "1")[1] == "96.63% (1005/1040)"
    assert line(results, "Training accuracy", "15")[1] == "99.33% (1038/1045)"


def test_rows_that_have_not_run_show_a_dash(results):
    results.add("1")
    assert line(results, "Test accuracy", "2")[2:] == ["–"] * 4
    assert line(results, "Training time", "2")[2:4] == ["–", "–"]
    text = comparison_markdown(results.config, results.experiments, results.models)
    assert "- 1 of 19 rows ran, with 1 seed.\n- Not run yet, or failed: rows 2, 3, 4" in text


def test_several_seeds_show_mean_and_standard_deviation(three_seeds):
    for seed, correct in ((1, 282), (2, 285), (3, 289)):
        three_seeds.add("1", correct, seed)
    cells = line(three_seeds, "Test accuracy", "1")
    assert cells[2:] == ["95.11% ± 1.17 (285.3/300)", "+0.11", "+0.3", "yes"]


def test_rows_with_fewer_seeds_are_named(three_seeds):
    three_seeds.add("5", seed=2)
    text = comparison_markdown(three_seeds.config, three_seeds.experiments, three_seeds.models)
    assert "With fewer seeds: row 5." in text


def test_time_ratio_and_both_devices(results):
    results.add("1", seconds={"features": 60.0, "training": 24.0, "evaluation": 9.0}, device_name="AMD EPYC")
    assert line(results, "Training time", "1") == ["1: defaults", "0.28 min", "1.40 min", "5.00×", "A100", "AMD EPYC"]


def test_a_split_of_another_size_is_compared_in_points_only(results):
    results.add("1", val_acc=0.99, val_correct=99, val_total=100)
    assert line(results, "Validation accuracy", "1")[2:] == ["99.00% (99/100)", "−0.33", "–", "yes"]
    text = comparison_markdown(results.config, results.experiments, results.models)
    assert "Validation accuracy of row 1: 100 examples here, 149 in the published figures" in text


def test_published_figures_without_totals_take_the_runs(results, tmp_path):
    file = tmp_path / "published.csv"
    file.write_text("row,train_acc,val_acc,test_acc,minutes,device\n1,,,95.00,,\n2,,,95.01,,\n")
    config = results.config.model_copy(update={"published": str(file)})
    results.add("1")
    results.add("2")
    text = comparison_markdown(config, results.experiments, results.models)
    assert "95.00% (285/300)" in text
    assert "95.01% (impossible: no count of 300)" in text


def test_only_selected_rows_are_shown(results):
    config = results.config.model_copy(update={"rows": ["2", "11"]})
    text = comparison_markdown(config, results.experiments, results.models)
    assert "of 2 rows ran" in text
    assert "| 1: defaults" not in text


def test_a_note_of_the_runs_is_above_the_numbers(results):
    results.add("1", note="A miniature\nfor a demonstration.")
    text = comparison_markdown(results.config, results.experiments, results.models)
    assert text.startswith("# Published and reproduced\n\n> A miniature for a demonstration.\n")


def test_a_damaged_run_is_named(results):
    (results.add("1") / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"metrics\.json: not valid JSON"):
        comparison_markdown(results.config, results.experiments, results.models)


def test_without_published_figures_nothing_is_compared(results):
    results.add("1", note="A miniature.")
    config = results.config.model_copy(update={"published": None})
    text = comparison_markdown(config, results.experiments, results.models)
    assert text.startswith("# Published and reproduced\n\n> A miniature.\n")
    assert "The configuration names no published figures (`published: null`), so nothing is compared." in text
    assert "1 of 19 rows ran, with 1 seed." in text
    assert "|" not in text and "Difference" not in text


def test_a_model_s_label_replaces_its_name(labelled):
    text = comparison_markdown(labelled.config, labelled.experiments, labelled.models)
    assert "| 6: gpt2-medium (miniature) " in text and "| 9: gpt2-xl, all layers " in text


def test_rows_without_published_figures_give_a_sentence_and_no_table_of_dashes(results):
    results.add("1")
    mine = {"mine": results.experiments["1"]}
    text = comparison_markdown(results.config.model_copy(update={"rows": "all"}), mine, results.models)
    assert f"{results.config.published} has no figures for the rows of this table, so nothing is compared." in text
    assert "|" not in text and "0 of 1 row ran" in text

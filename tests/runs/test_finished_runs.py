"""Reading finished runs: missing runs are left out, damaged files are named."""

import json
from dataclasses import asdict

import pytest

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.reports.comparison import comparison_markdown
from gpt2_ablations.reports.interpretation import interpretation_markdown
from gpt2_ablations.reports.table import table_markdown
from gpt2_ablations.runs.finished_runs import Runs, notes, read_runs
from gpt2_ablations.settings.experiment import Experiment


def read(results, *rows: str) -> Runs:
    return read_runs(results.config, {row: results.experiments[row] for row in rows})


def table_text(config, experiments, models) -> str:
    return table_markdown(experiments, read_runs(config, experiments), models)


def test_rows_that_have_not_run_are_absent(results):
    results.add("1")
    runs = read(results, *results.experiments)
    assert [row for row, found in runs.items() if found] == ["1"]
    assert list(runs) == list(results.experiments)


def test_a_failed_run_leaves_no_metrics_and_is_absent(results):
    (results.add("1") / "metrics.json").unlink()
    assert read(results, "1") == {"1": []}


def test_only_configured_seeds_are_read(three_seeds):
    for seed in (3, 7, 1):
        three_seeds.add("1", seed=seed)
    assert [run.seed for run in read(three_seeds, "1")["1"]] == [1, 3]


def test_time_is_that_of_the_features_and_the_loop(results):
    results.add("1", seconds={"features": 9.0, "training": 3.0, "evaluation": 99.0})
    assert read(results, "1")["1"][0].minutes == pytest.approx(0.2)


def test_memory_is_the_largest_peak_of_a_rows_jobs(results):
    results.add("1", peak_memory_mb={"host": 800.0, "device": None}, features_peak_memory_mb=1200.0)
    results.add("2", peak_memory_mb={"host": 800.0, "device": 90.0}, features_peak_memory_mb=None)
    runs = read(results, "1", "2")
    assert runs["1"][0].peak_memory_mb == {"host": 1200.0}
    assert runs["2"][0].peak_memory_mb == {"host": 800.0, "device": 90.0}


def test_a_history_is_read_at_its_evaluations(results):
    results.add("1", history=True)
    history = read(results, "1")["1"][0].history()
    assert history["train_loss"].epochs[:2] == pytest.approx([1 / 130, 51 / 130])
    assert history["val_acc"].epochs.tolist() == [1, 2, 3, 4, 5]


def test_each_note_is_given_once(results):
    results.add("1", note="A miniature.")
    results.add("2", note="A miniature.")
    assert notes(read(results, *results.experiments)) == ["A miniature."]


def test_a_run_with_other_settings_is_no_result_of_its_row(results):
    settings = asdict(results.experiments["1"])
    results.add("1", settings=settings | {"batch_size": 16, "num_epochs": 2})
    results.add("2", settings=asdict(results.experiments["2"]))
    runs = read(results, "1", "2")
    assert runs["1"] == [] and len(runs["2"]) == 1
    assert notes(runs) == [
        "Row 1 was run with other settings (num_epochs 2, now 5; batch_size 16, now 8). Its results for seed 123 are"
        " left out; `snakemake --cores all row_1` runs it again."
    ]


def test_options_that_are_lists_are_equal_to_those_of_the_file(results):
    mine = Experiment(class_weights=[1, 2], trainable_layers="lora", lora_layers=["query", "value"])
    results.experiments["mine"] = mine
    results.add("mine", settings=asdict(mine))
    assert len(read(results, "mine")["mine"]) == 1
    results.add("mine", settings=asdict(mine) | {"class_weights": [1.0, 3.0]})
    assert read(results, "mine")["mine"] == []


def test_only_the_seeds_with_other_settings_are_left_out(three_seeds):
    settings = asdict(three_seeds.experiments["1"])
    for seed, batch_size in {1: 16, 2: 8, 3: 16}.items():
        three_seeds.add("1", seed=seed, settings=settings | {"batch_size": batch_size})
    runs = read(three_seeds, "1")
    assert [run.seed for run in runs["1"]] == [2]
    (note,) = notes(runs)
    assert "(batch_size 16, now 8). Its results for seeds 1, 3 are left out;" in note


def test_a_run_from_before_an_option_existed_had_its_default(results):
    settings = asdict(results.experiments["1"])
    del settings["ignore_index"]
    results.add("1", settings=settings)
    results.add("18", settings=settings)
    runs = read(results, "1", "18")
    assert len(runs["1"]) == 1 and runs["18"] == []


def test_a_run_without_settings_is_used_as_it_is(results):
    results.add("1")
    assert len(read(results, "1")["1"]) == 1


@pytest.mark.parametrize("text", [comparison_markdown, interpretation_markdown, table_text])
def test_every_page_says_which_runs_are_left_out(results, text):
    results.add("1", settings=asdict(results.experiments["2"]))
    assert "Row 1 was run with other settings" in text(results.config, results.experiments, results.models)


def edit_metrics(folder, **changes):
    content = json.loads((folder / "metrics.json").read_text()) | changes
    kept = {key: value for key, value in content.items() if value != "drop"}
    (folder / "metrics.json").write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_acc": "drop"}, "key 'test_acc' is missing"),
        ({"test_acc": 95.0}, "test_acc is 95.0; it must be less than or equal to 1"),
        ({"seconds": {"features": 1.0}}, "key 'seconds.training' is missing"),
        ({"val_correct": 150}, "val_correct is 150, more than val_total 149"),
        ({"test_total": 0}, "test_total is 0"),
    ],
)
def test_a_damaged_metrics_file_is_named(results, changes, message):
    folder = results.add("1")
    edit_metrics(folder, **changes)
    with pytest.raises(InputError) as error:
        read(results, "1")
    assert str(folder / "metrics.json") in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "{", '{"row": ', "[]", "\x00"])
def test_metrics_that_are_no_json_object_are_named(results, content):
    (results.add("1") / "metrics.json").write_text(content)
    with pytest.raises(InputError, match=r"metrics\.json: .*run the row again"):
        read(results, "1")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("index", "place"), "without index"),
        (lambda text: text[:-40], "damaged"),
        (lambda text: "", "empty"),
        (lambda text: text.replace("\n7,1,", "\n7,2,"), "line 9 holds index 7, label 2"),
        (lambda text: text.replace("\n7,", "\n8,"), "line 9 holds index 8"),
        (lambda text: "\n".join(text.splitlines()[:-1]) + "\n", "it holds 299 examples, metrics.json counts 300"),
    ],
)
def test_damaged_predictions_are_named(results, damage, message):
    file = results.add("1") / "predictions.csv"
    file.write_text(damage(file.read_text()))
    with pytest.raises(InputError) as error:
        read(results, "1")["1"][0].predictions()
    assert str(error.value).startswith(f"{file}: ")
    assert message in str(error.value)


def test_missing_predictions_are_named(results):
    (results.add("1") / "predictions.csv").unlink()
    with pytest.raises(InputError, match=r"predictions\.csv: no such file, although metrics\.json exists"):
        read(results, "1")["1"][0].predictions()


@pytest.mark.parametrize("value", ["nan", "inf", "x"])
def test_a_damaged_history_is_named(results, value):
    file = results.add("1", history=True) / "history.csv"
    lines = file.read_text().splitlines()
    lines[1] = f"0,1,0.5,{value},0.7,,"
    file.write_text("\n".join(lines))
    with pytest.raises(InputError, match=rf"history\.csv: damaged \(train_loss in line 2 is '{value}'\)"):
        read(results, "1")["1"][0].history()


def test_additional_columns_are_ignored(results):
    file = results.add("1") / "predictions.csv"
    file.write_text("\n".join(line + ",x" for line in file.read_text().splitlines()))
    assert read(results, "1")["1"][0].predictions().is_correct.sum() == 285

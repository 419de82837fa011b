"""The table's layout: that of the reference, cell by cell."""

import csv
import io
from pathlib import Path

import pytest

from gpt2_ablations.reports.table import majority_baseline, setting_cells, table_csv, table_markdown
from gpt2_ablations.runs.finished_runs import Metrics, Run, Runs, read_runs
from gpt2_ablations.settings.experiment import Experiment
from gpt2_ablations.settings.models import ModelConfig, load_models
from gpt2_ablations.settings.paths import Paths
from gpt2_ablations.settings.rows import load_experiments
from tests.conftest import CHECKOUT

DIFFERENT = "These rows differ in rounding, and their training times do not compare."
REFERENCE_TABLE = (CHECKOUT / "tests" / "reports" / "reference_table.md").read_text()


def run(row: str, seed: int = 123, **changes) -> Run:
    metrics = {
        "context_length": 120,
        "train_acc": 0.9663,
        "val_acc": 0.9933,
        "test_acc": 0.95,
        "seconds": {"features": 10.0, "training": 6.8, "evaluation": 99.0},
        "device_name": "A100",
        "precision": "float32",
        "note": None,
    }
    for split, total in (("train", 1040), ("val", 149), ("test", 300)):
        metrics |= {f"{split}_correct": 0, f"{split}_total": total}
    return Run(row, seed, Path(), Metrics.model_validate(metrics | changes))


@pytest.fixture(scope="module")
def models() -> dict[str, ModelConfig]:
    return load_models(CHECKOUT / "config" / "models.yaml")


@pytest.fixture(scope="module")
def rows(models) -> dict[str, Experiment]:
    return load_experiments(CHECKOUT / "config" / "experiments.yaml", models, "config/models.yaml")


def published_runs() -> Runs:
    with open(CHECKOUT / "config" / "published.csv", newline="") as file:
        published = list(csv.DictReader(file))
    return Runs(
        {
            line["row"]: [
                run(
                    line["row"],
                    context_length=1024 if line["row"] == "13" else 120,
                    seconds={"features": 0.0, "training": 60 * float(line["minutes"]), "evaluation": 0.0},
                    device_name=line["device"],
                    **{key: float(line[key]) / 100 for key in ("train_acc", "val_acc", "test_acc")},
                )
            ]
            for line in published
        }
    )


def test_the_reference_s_figures_give_the_reference_s_table(rows, models):
    assert table_markdown(rows, published_runs(), models) == REFERENCE_TABLE


def test_the_expected_table_is_the_one_of_the_reference(shared):
    text = (shared / "document" / "additional-experiments.txt").read_text()
    lines = [line for line in text.splitlines() if line.split(" ")[0].isdigit() and line.endswith("A100")]
    ours = [" ".join(line.replace("|", " ").replace("`", "").split()) for line in REFERENCE_TABLE.splitlines()[2:]]
    assert ours == lines and len(lines) == 19


@pytest.mark.parametrize(
    ("options", "position", "context"),
    [
        ({"context_length": 64}, "last", "context length (64)"),
        ({"trainable_token_pos": "flexible"}, "last", "flexible (last non-padding position)"),
        (
            {"trainable_token_pos": "first", "average_embeddings": True},
            "first + pooled embeddings",
            "longest train ex. (64)",
        ),
        (
            {"disable_causal_mask": True, "ignore_index": 50256},
            "last",
            "longest train ex. (64); but no causal mask and `ignore_index` for padding",
        ),
        (
            {"no_padding": True, "batch_size": 1, "accumulation_steps": 4},
            "last",
            "variable: no padding (batch size 4)",
        ),
    ],
)
def test_cells_beyond_the_reference_s_rows(options, position, context):
    cells = setting_cells(Experiment(**options), 64, {})
    assert (cells["Trainable token position"], cells["Context length"]) == (position, context)


def test_several_seeds_show_mean_and_standard_deviation(rows, models):
    runs = Runs({"1": [run("1", test_acc=0.94), run("1", seed=1, test_acc=0.96)]})
    assert "| 95.00% ± 1.41 |" in table_markdown({"1": rows["1"]}, runs, models)


def test_a_row_that_has_not_run_shows_dashes(rows, models):
    line = table_markdown({"1": rows["1"]}, Runs(), models).splitlines()[2]
    assert [cell.strip() for cell in line.split("|")[6:12]] == ["longest train ex. (–)", "–", "–", "–", "–", "–"]


def test_a_note_and_another_precision_are_below_the_table(rows, models):
    runs = Runs({"1": [run("1", note="Miniature.")], "2": [run("2", precision="bfloat16", note="Miniature.")]})
    below = table_markdown({"1": rows["1"], "2": rows["2"]}, runs, models).split("\n\n")[1:]
    assert below == ["Miniature.", "Matrix products in bfloat16: row 2.", DIFFERENT + "\n"]


def test_options_without_a_column_are_named_below_the_table(rows, models):
    mine = {"1": rows["1"], "fast": Experiment(learning_rate=1e-3, warmup_steps=5), "lora": rows["11"]}
    below = table_markdown(mine, Runs(), models).split("\n\n")[1:]
    assert below == ["Row fast: learning rate 0.001, warm-up of 5 updates.\n"]


def test_the_time_is_features_and_training_without_the_final_evaluation(rows, models):
    assert "| 0.28 min " in table_markdown({"1": rows["1"]}, Runs({"1": [run("1")]}), models)


def test_the_data_has_a_line_for_each_row_and_seed(rows):
    runs = Runs({"1": [run("1"), run("1", seed=7)], "2": [run("2")]})
    lines = list(csv.DictReader(io.StringIO(table_csv({"1": rows["1"], "2": rows["2"]}, runs))))
    assert [(line["row"], line["seed"]) for line in lines] == [("1", "123"), ("1", "7"), ("2", "123")]
    assert lines[2]["trainable_token_pos"] == "first" and float(lines[2]["seconds"]) == 16.8


def test_a_cell_cannot_break_the_table():
    row = {"x": Experiment(model_size="a|b")}
    assert r"| a\|b " in table_markdown(row, Runs(), {})


def test_a_model_s_label_replaces_its_name_but_not_in_the_data(rows, models):
    labelled = models | {"gpt2-small (124M)": models["gpt2-small (124M)"].model_copy(update={"label": "small, mine"})}
    row, runs = {"1": rows["1"]}, Runs({"1": [run("1")]})
    text = table_markdown(row, runs, labelled)
    assert "| small, mine | pretrained |" in text and "124M" not in text
    (line,) = csv.DictReader(io.StringIO(table_csv(row, runs)))
    assert line["model_size"] == "gpt2-small (124M)"


def test_the_test_accuracy_without_training_is_below_the_table_if_the_split_is_that_of_the_runs(results):
    results.add("1")
    runs = read_runs(results.config, results.experiments)
    assert majority_baseline(results.config, runs) is None
    split = Paths(results.config.results).split("test")
    split.parent.mkdir(parents=True)
    split.write_text("Label,Text\n" + "0,a\n" * 100 + "1,b\n" * 200)
    baseline = majority_baseline(results.config, runs)
    assert baseline == "Baseline: always answering `spam` is right for 200 of the 300 test examples (66.67%)."
    below = table_markdown(results.experiments, runs, results.models, baseline).split("\n\n")[1:]
    assert below == [baseline + "\n"]
    split.write_text("Label,Text\n0,a\n")  # of other data
    assert majority_baseline(results.config, runs) is None

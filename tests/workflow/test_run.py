"""An invocation of the workflow, its commands and its files."""

import json

import yaml


def test_an_invocation_makes_the_table_in_a_folder_with_an_unusual_name(finished_workshop):
    lines = (finished_workshop.results / "table.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:4]] == ["1", "2"]
    assert len((finished_workshop.results / "table.csv").read_text().splitlines()) == 3


def test_metrics_hold_the_values_that_other_programs_rely_on(finished_workshop):
    metrics = json.loads((finished_workshop.results / "rows" / "1" / "seed-123" / "metrics.json").read_text())
    assert metrics["row"] == "1" and metrics["seed"] == 123 and metrics["model"] == "tiny"
    for split, total in (("train", 96), ("val", 14), ("test", 28)):
        assert metrics[f"{split}_total"] == total
        assert metrics[f"{split}_acc"] == metrics[f"{split}_correct"] / total
    assert set(metrics["seconds"]) == {"features", "training", "evaluation"}
    assert set(metrics["peak_memory_mb"]) == {"host", "device"} and metrics["features_peak_memory_mb"] > 0
    assert metrics["device"] == "cpu" and metrics["precision"] == "float32"
    # Trainable: the last block, the final norm and the head. Total: with all blocks and the embeddings.
    assert metrics["trainable_parameters"] == 12 * 64 + 13 * 8 + 16 + 18
    assert metrics["total_parameters"] == (50257 + 64) * 8 + 3 * (12 * 64 + 13 * 8) + 16 + 18
    assert metrics["settings"]["trainable_layers"] == "last_block" and metrics["versions"]["torch"]


def test_history_has_a_line_for_each_batch_and_predictions_have_their_columns(finished_workshop):
    folder = finished_workshop.results / "rows" / "2" / "seed-123"
    history = (folder / "history.csv").read_text().splitlines()
    assert history[0] == "step,epoch,batch_loss,train_loss,val_loss,train_acc,val_acc"
    assert len(history) == 1 + 12 and "nan" not in "".join(history).lower()
    assert (folder / "predictions.csv").read_text().splitlines()[0] == "index,label,prediction,logit_0,logit_1"


def test_the_printed_command_of_a_row_has_the_reference_s_flags(workshop):
    workshop.rows({"11": {"trainable_layers": "lora", "lora_rank": 16, "lora_alpha": 16, "model_size": "tiny"}})
    printed = workshop.run("--dry-run", "--printshellcmds", "row_11").stdout
    assert "python3 -m gpt2_ablations train --model_size tiny --trainable_layers lora --lora_rank 16" in printed


def test_one_row_can_run_alone(finished):
    finished.rows({"1": {}, "2": {"trainable_layers": "all"}, "a-b_3": {"average_embeddings": True}})
    assert finished.scheduled("row_a-b_3") == {"train": 1}
    finished.run("row_a-b_3")
    assert (finished.results / "rows" / "a-b_3" / "seed-123" / "metrics.json").exists()


def test_a_table_of_selected_rows_has_only_those(finished):
    finished.override(rows=[2])
    finished.run("table")
    lines = (finished.results / "table.md").read_text().splitlines()
    assert sum(line.startswith("|") for line in lines) == 3


def test_the_resolved_configuration_is_written_to_the_results(finished):
    finished.run("clean_features", "--config", "seeds=[7]", "keep_models=true")
    config = yaml.safe_load((finished.results / "config.yaml").read_text())
    assert config["seeds"] == [7] and config["keep_models"] is True and config["dataset"]["labels"] == ["ham", "spam"]


def test_the_train_command_gives_the_same_numbers_as_the_workflow(finished):
    done = finished.command(
        "train", "--model_size", "tiny", "--num_epochs", "1", "--config", "config/config.yaml", "override.yaml"
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (finished.results / "manual").glob("*/seed-123")
    for file in ("history.csv", "predictions.csv"):
        assert (folder / file).read_bytes() == (finished.results / "rows/1/seed-123" / file).read_bytes()


def test_the_train_command_names_the_command_that_makes_a_missing_file(workshop):
    done = workshop.command("train", "--model_size", "tiny", "--config", "config/config.yaml", "override.yaml")
    assert done.returncode == 1
    assert done.stderr.strip().endswith("make it with `snakemake --cores all tokenize`")
    assert len(done.stderr.splitlines()) == 1


def test_a_failed_job_prints_its_error_and_keeps_finished_rows(finished):
    finished.rows({"1": {}, "2": {"trainable_layers": "all"}, "3": {"ignore_index": 0, "batch_size": 1}})
    before = (finished.results / "rows" / "1" / "seed-123" / "metrics.json").read_bytes()
    failed = finished.snakemake()
    assert failed.returncode != 0
    errors = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "every label of a train batch is ignore_index 0" in errors[0] and "step " in errors[0]
    assert not (finished.results / "rows" / "3" / "seed-123" / "metrics.json").exists()
    assert (finished.results / "rows" / "1" / "seed-123" / "metrics.json").read_bytes() == before
    assert errors[0].removeprefix("error: ") in (finished.results / "logs" / "train" / "3" / "seed-123.log").read_text()


def test_clean_features_removes_the_features_and_keeps_the_rows(finished):
    rows = sorted((finished.results / "rows").rglob("*.*"))
    assert list((finished.results / "features").iterdir())
    finished.run("clean_features")
    assert not (finished.results / "features").exists()
    assert sorted((finished.results / "rows").rglob("*.*")) == rows

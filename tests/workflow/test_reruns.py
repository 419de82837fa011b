"""What runs again after a change, and what does not."""

import os

import yaml


def test_nothing_runs_again_without_a_change(finished):
    assert finished.scheduled() == {}


def test_touched_files_rerun_nothing(finished):
    for folder in ("src", "config", "workflow"):
        for file in (finished.folder / folder).rglob("*"):
            os.utime(file)
    for file in ("messages.tsv", "rows.yaml", "models.yaml", "override.yaml", "Snakefile"):
        os.utime(finished.folder / file)
    assert finished.scheduled() == {}


def test_other_cores_and_another_note_train_nothing(finished):
    assert "train" not in finished.scheduled("--config", "note=hello", "--cores", "1")


def test_a_new_row_trains_only_itself_on_the_shared_features(finished):
    finished.rows({"1": {}, "2": {"trainable_layers": "all"}, "19": {"average_embeddings": True}})
    assert finished.scheduled() == {"train": 1, "table": 1}


def test_a_new_seed_trains_on_the_shared_features(finished):
    assert finished.scheduled("--config", "seeds=[123,1]") == {"train": 2, "table": 1}


def test_a_changed_row_trains_only_itself(finished):
    finished.rows({"1": {"num_epochs": 2}, "2": {"trainable_layers": "all"}})
    assert finished.scheduled() == {"train": 1, "table": 1}


def test_another_precision_computes_all_again(finished):
    assert finished.scheduled("--config", "precision=bfloat16") == {"extract_features": 1, "train": 2, "table": 1}


def test_another_model_source_trains_the_rows_of_that_model(finished):
    models = finished.folder / "models.yaml"
    entries = yaml.safe_load(models.read_text())
    (finished.folder / "other.safetensors").write_bytes((finished.folder / "tiny.safetensors").read_bytes())
    entries["tiny"]["source"] = "other.safetensors"
    models.write_text(yaml.safe_dump(entries))
    assert finished.scheduled() == {"fetch_weights": 1, "extract_features": 1, "train": 2, "table": 1}


def test_changed_training_code_trains_all_rows_and_keeps_the_features(finished):
    with open(finished.folder / "src" / "gpt2_ablations" / "training.py", "a") as file:
        file.write("\n# changed\n")
    assert finished.scheduled() == {"train": 2, "table": 1}


def test_changed_table_code_trains_nothing(finished):
    with open(finished.folder / "src" / "gpt2_ablations" / "table.py", "a") as file:
        file.write("\n# changed\n")
    assert finished.scheduled() == {"table": 1}


def test_changed_messages_are_split_again(finished):
    with open(finished.folder / "messages.tsv", "a") as file:
        file.write("ham\tone more\nspam\tone more prize\n")
    scheduled = finished.scheduled()
    assert {"fetch_messages", "split_messages", "tokenize", "extract_features", "train"} <= set(scheduled)

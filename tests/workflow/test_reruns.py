"""Which jobs run again after a change, and which do not."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import DIMENSIONS, Workshop, make_workshop

# Rows 3, 4 and 5 use the second model; 4 and 5 draw its weights from the seed.
TWO_MODELS = {
    "1": {},
    "2": {"trainable_layers": "all"},
    "3": {"model_size": "other"},
    "4": {"model_size": "other", "weights": "random", "trainable_layers": "all"},
    "5": {"model_size": "other", "weights": "random"},
}


@pytest.fixture(scope="module")
def two_models_finished(tmp_path_factory) -> Workshop:
    """A workshop of two models and two seeds with a finished table. Tests do not change it; `two_models` is a copy."""
    workshop = make_workshop(tmp_path_factory.mktemp("two-models") / "workshop")
    shutil.copy(workshop.folder / "tiny.safetensors", workshop.folder / "other.safetensors")
    entries = {
        "tiny": DIMENSIONS | {"source": "tiny.safetensors"},
        "other": DIMENSIONS | {"source": "other.safetensors"},
    }
    (workshop.folder / "models.yaml").write_text(yaml.safe_dump(entries))
    workshop.override(seeds=[123, 7])
    workshop.rows(TWO_MODELS)
    git(workshop, "init", "--quiet")
    (workshop.folder / ".gitignore").write_text("results/\n.snakemake/\n__pycache__/\n*.safetensors\n")
    git(workshop, "add", ".")
    git(workshop, "commit", "--quiet", "--message", "start")
    workshop.run()
    return workshop


@pytest.fixture
def two_models(two_models_finished, tmp_path) -> Workshop:
    """A copy of a workshop of two models and two seeds with a finished table."""
    shutil.copytree(two_models_finished.folder, tmp_path / "two", symlinks=True)
    return Workshop(tmp_path / "two")


def git(workshop: Workshop, *arguments: str) -> None:
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *author, *arguments], cwd=workshop.folder, check=True)


def trained(workshop: Workshop, *arguments: str) -> set[str]:
    """The runs, `ROW/SEED`, that a dry run lists."""
    text = workshop.run("--dry-run", *arguments).stdout
    return {f"{row}/{seed}" for row, seed in re.findall(r"wildcards: row=(\w+), seed=(\d+)", text)}


def runs(*rows: str) -> set[str]:
    """The runs, `ROW/SEED`, of some rows with both seeds."""
    return {f"{row}/{seed}" for row in rows for seed in (123, 7)}


def append(file: Path, line: str) -> None:
    with open(file, "a") as opened:
        opened.write(line + "\n")


def test_nothing_runs_again_without_a_change(finished):
    assert finished.scheduled() == {}


def test_touched_files_rerun_nothing(finished):
    for folder in ("src", "config", "workflow"):
        for file in (finished.folder / folder).rglob("*"):
            os.utime(file)
    for file in ("messages.tsv", "rows.yaml", "models.yaml", "override.yaml", "Snakefile"):
        os.utime(finished.folder / file)
    assert finished.scheduled() == {}


def test_another_number_of_cores_or_another_note_trains_nothing(finished):
    assert "train" not in finished.scheduled("--config", "note=hello", "--cores", "1")


def test_a_new_row_trains_only_itself_on_the_shared_features(finished):
    finished.rows({"1": {}, "2": {"trainable_layers": "all"}, "19": {"average_embeddings": True}})
    assert finished.scheduled() == {"train": 1, "table": 1}


def test_a_new_seed_trains_on_the_shared_features(finished):
    assert finished.scheduled("--config", "seeds=[123,1]") == {"train": 2, "table": 1}


def test_a_changed_row_trains_only_itself(finished):
    finished.rows({"1": {"num_epochs": 2}, "2": {"trainable_layers": "all"}})
    assert finished.scheduled() == {"train": 1, "table": 1}


def test_another_precision_computes_features_and_rows_again(finished):
    assert finished.scheduled("--config", "precision=bfloat16") == {"extract_features": 1, "train": 2, "table": 1}


def test_another_model_source_trains_the_rows_of_that_model(finished):
    models = finished.folder / "models.yaml"
    entries = yaml.safe_load(models.read_text())
    (finished.folder / "other.safetensors").write_bytes((finished.folder / "tiny.safetensors").read_bytes())
    entries["tiny"]["source"] = "other.safetensors"
    models.write_text(yaml.safe_dump(entries))
    assert finished.scheduled() == {"fetch_weights": 1, "extract_features": 1, "train": 2, "table": 1}


def test_changed_training_code_trains_all_rows_and_keeps_the_features(finished):
    with open(finished.folder / "src" / "gpt2_ablations" / "finetuning" / "loop.py", "a") as file:
        file.write("\n# changed\n")
    assert finished.scheduled() == {"train": 2, "table": 1}


def test_changed_table_code_trains_nothing(finished):
    with open(finished.folder / "src" / "gpt2_ablations" / "reports" / "table.py", "a") as file:
        file.write("\n# changed\n")
    assert finished.scheduled() == {"table": 1}


def test_changed_messages_are_split_again(finished):
    with open(finished.folder / "messages.tsv", "a") as file:
        file.write("ham\tone more\nspam\tone more prize\n")
    scheduled = finished.scheduled()
    assert {"fetch_messages", "split_messages", "tokenize", "extract_features", "train"} <= set(scheduled)


def test_sources_checked_out_again_rerun_nothing(two_models):
    for name in ("src", "workflow", "config", "Snakefile", "rows.yaml", "models.yaml", "override.yaml", "messages.tsv"):
        path = two_models.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    git(two_models, "checkout", "--quiet", ".")
    assert two_models.scheduled() == {} and trained(two_models) == set()


@pytest.mark.parametrize("option", [["--cores", "1"], ["--set-threads", "train=1"], ["--resources", "mem_mb=5000"]])
def test_other_cores_threads_and_limits_rerun_nothing(two_models, option):
    assert two_models.scheduled(*option) == {}


@pytest.mark.parametrize("resources", ["train:mem_mb=9999", "extract_features:runtime=9", "train:gpu=1"])
def test_other_resources_rerun_nothing(two_models, resources):
    assert two_models.scheduled("--set-resources", resources) == {}


def test_a_changed_formula_of_resources_reruns_nothing(two_models):
    append(two_models.folder / "src" / "gpt2_ablations" / "planning" / "resources.py", "MARGIN = 3.0")
    assert two_models.scheduled() == {}


def test_a_changed_caption_reruns_nothing(two_models):
    for caption in (two_models.folder / "workflow" / "report").glob("*.rst"):
        append(caption, "Changed.")
    assert two_models.scheduled() == {}


@pytest.mark.parametrize(
    "module",
    [
        "reports/figures/curves",
        "reports/figures/style",
        "reports/figures/draw",
        "reports/statistics",
        "reports/wording",
        "runs/finished_runs",
    ],
)
def test_changed_code_of_figures_and_comparisons_trains_nothing(two_models, module):
    append(two_models.folder / "src" / "gpt2_ablations" / f"{module}.py", "# changed")
    text = two_models.run("--dry-run").stdout
    remade = set(re.findall(r"^(?:local)?rule (\w+):", text, flags=re.MULTILINE))
    # If nothing ran again, the test would show nothing.
    assert remade and remade <= {"all", "table", "compare", "interpret", "draw", "draw_rows", "pages"}


def test_a_changed_row_trains_that_row_with_every_seed(two_models):
    two_models.rows(TWO_MODELS | {"2": {"trainable_layers": "all", "batch_size": 4}})
    assert trained(two_models) == runs("2")
    assert two_models.scheduled() == {"train": 2, "table": 1}


def test_a_changed_default_trains_the_rows_it_changes(two_models):
    rows = {row: {"num_epochs": 1} | options for row, options in TWO_MODELS.items() if row != "3"}
    file = two_models.folder / "rows.yaml"
    defaults = {"model_size": "tiny", "num_epochs": 2}
    file.write_text(yaml.safe_dump({"defaults": defaults, "rows": rows | {"3": TWO_MODELS["3"]}}))
    assert trained(two_models) == runs("3")


def test_another_seed_trains_only_the_runs_with_it(two_models):
    two_models.override(seeds=[123, 8])
    assert trained(two_models) == {f"{row}/8" for row in TWO_MODELS}


def test_a_removed_seed_trains_nothing(two_models):
    two_models.override(seeds=[7])
    assert trained(two_models) == set() and two_models.scheduled() == {"table": 1}


def test_another_source_of_one_model_trains_its_pretrained_rows_only(two_models):
    shutil.copy(two_models.folder / "tiny.safetensors", two_models.folder / "mirror.safetensors")
    models = two_models.folder / "models.yaml"
    entries = yaml.safe_load(models.read_text())
    entries["other"]["source"] = "mirror.safetensors"
    models.write_text(yaml.safe_dump(entries))
    assert trained(two_models) == runs("3")


def test_changed_bytes_of_a_local_model_train_its_pretrained_rows_only(two_models):
    from safetensors.torch import load_file, save_file

    file = two_models.folder / "other.safetensors"
    save_file({name: tensor + 0.01 for name, tensor in load_file(file).items()}, file)
    assert trained(two_models) == runs("3")


@pytest.mark.parametrize("module", ["finetuning/loop", "finetuning/batches"])
def test_changed_training_code_trains_every_row_and_keeps_all_features(two_models, module):
    append(two_models.folder / "src" / "gpt2_ablations" / f"{module}.py", "# changed")
    assert trained(two_models) == runs(*TWO_MODELS)
    assert "extract_features" not in two_models.scheduled()


def test_changed_code_of_the_features_extracts_them_again_and_trains_the_rows_that_use_them(two_models):
    append(two_models.folder / "src" / "gpt2_ablations" / "finetuning" / "features.py", "# changed")
    # Row 5 draws its frozen layers from the seed: two feature files, and one each for rows 1 and 3.
    assert two_models.scheduled() == {"extract_features": 4, "train": 6, "table": 1}
    assert trained(two_models) == runs("1", "3", "5")


def test_turning_keep_models_off_reruns_nothing(two_models):
    two_models.override(keep_models=False)
    assert two_models.scheduled() == {}


def test_turning_keep_models_on_trains_only_the_rows_without_a_saved_model(two_models):
    two_models.override(keep_models=True)
    assert trained(two_models, "row_1") == runs("1")
    two_models.run("row_1", "row_4")
    assert trained(two_models) == runs("2", "3", "5")
    two_models.override(keep_models=False)
    assert two_models.scheduled() == {"table": 1}
    assert trained(two_models, "--config", "keep_models=true") == runs("2", "3", "5")

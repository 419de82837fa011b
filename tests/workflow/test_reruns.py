"""Which jobs run again after a change, and which do not."""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from tests.faults.runs import Started, wait_until
from tests.workflow.conftest import DIMENSIONS, Workshop, copied, make_workshop

# Rows 3, 4 and 5 use the second model; 4 and 5 draw its weights from the seed.
TWO_MODELS = {
    "1": {},
    "2": {"trainable_layers": "all"},
    "3": {"model_size": "other"},
    "4": {"model_size": "other", "weights": "random", "trainable_layers": "all"},
    "5": {"model_size": "other", "weights": "random"},
}


@pytest.fixture(scope="session")
def two_models_finished(made_once) -> Workshop:
    """A workshop of two models and two seeds with a finished table. Tests do not change it; `two_models` is a copy."""
    return Workshop(made_once("two-models", finish_two_models) / "workshop")


def finish_two_models(folder: Path) -> None:
    """The messages and the first model are checked by sha256, the second model is not."""
    workshop = make_workshop(folder / "workshop")
    shutil.copy(workshop.folder / "tiny.safetensors", workshop.folder / "other.safetensors")
    entries = {
        "tiny": DIMENSIONS | {"source": "tiny.safetensors", "sha256": sha256_of("tiny.safetensors", workshop)},
        "other": DIMENSIONS | {"source": "other.safetensors"},
    }
    (workshop.folder / "models.yaml").write_text(yaml.safe_dump(entries))
    checked = {"sources": ["messages.tsv"], "sha256": sha256_of("messages.tsv", workshop)}
    workshop.override(seeds=[123, 7], dataset=checked)
    workshop.rows(TWO_MODELS)
    git(workshop, "init", "--quiet")
    (workshop.folder / ".gitignore").write_text("results/\n.snakemake/\n__pycache__/\n*.safetensors\n")
    git(workshop, "add", ".")
    git(workshop, "commit", "--quiet", "--message", "start")
    workshop.run()


@pytest.fixture
def two_models(two_models_finished, tmp_path) -> Workshop:
    """A copy of a workshop of two models and two seeds with a finished table."""
    return copied(two_models_finished, tmp_path / "two")


def sha256_of(name: str, workshop: Workshop) -> str:
    return hashlib.sha256((workshop.folder / name).read_bytes()).hexdigest()


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


def change(workshop: Workshop, *modules: str, line: str = "CHANGED = True") -> None:
    """Add a statement to modules of the package."""
    for module in modules:
        append(workshop.folder / "src" / "gpt2_ablations" / f"{module}.py", line)


def edit_model(workshop: Workshop, name: str, **changes: object) -> None:
    """Change an entry of the models file."""
    file = workshop.folder / "models.yaml"
    entries = yaml.safe_load(file.read_text())
    entries[name] |= changes
    file.write_text(yaml.safe_dump(entries))


def touch(workshop: Workshop, *folders: str) -> None:
    for folder in folders:
        for file in (workshop.results / folder).rglob("*.*"):
            os.utime(file)


# Nothing, or reports alone.


def test_nothing_runs_again_without_a_change(finished):
    assert finished.scheduled() == {}


def test_touched_sources_rerun_nothing(finished):
    for folder in ("src", "config", "workflow"):
        for file in (finished.folder / folder).rglob("*"):
            os.utime(file)
    for file in ("messages.tsv", "rows.yaml", "models.yaml", "override.yaml", "Snakefile"):
        os.utime(finished.folder / file)
    assert finished.scheduled() == {}


def test_sources_checked_out_again_rerun_nothing(two_models):
    for name in ("src", "workflow", "config", "Snakefile", "rows.yaml", "models.yaml", "override.yaml", "messages.tsv"):
        path = two_models.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    git(two_models, "checkout", "--quiet", ".")
    assert two_models.scheduled() == {}


def test_comments_docstrings_and_layout_rerun_nothing(two_models):
    package = two_models.folder / "src" / "gpt2_ablations"
    for file in package.rglob("*.py"):
        if file.stat().st_size and file.name != "__init__.py":
            append(file, "\n\n# A comment at the end.")
    optimizer = package / "finetuning" / "adamw.py"
    optimizer.write_text(ast.unparse(ast.parse(optimizer.read_text())))
    figures = package / "reports" / "figures" / "draw.py"
    figures.write_text(figures.read_text().replace('"""Draw the figures', '"""Draw all the figures'))
    assert two_models.scheduled() == {} and two_models.scheduled_reports() == set()


@pytest.mark.parametrize(
    "option", [["--cores", "1"], ["--set-threads", "train=1"], ["--set-resources", "train:mem_mb=9999"]]
)
def test_other_cores_threads_and_resources_rerun_nothing(two_models, option):
    assert two_models.scheduled(*option) == {}


def test_a_changed_formula_of_resources_and_a_changed_caption_rerun_nothing(two_models):
    change(two_models, "planning/resources", line="MARGIN = 3.0")
    for caption in (two_models.folder / "workflow" / "report").glob("*.rst"):
        append(caption, "Changed.")
    assert two_models.scheduled() == {}


def test_another_note_trains_nothing(finished):
    assert "train" not in finished.scheduled("--config", "note=hello")


@pytest.mark.parametrize(
    ("module", "reports"),
    [
        ("reports/figures/row_figures", {"draw"}),
        ("reports/figures/draw_rows", {"draw_rows"}),
        ("reports/figures/style", {"draw", "draw_rows"}),
        ("reports/comparison", {"compare"}),
        ("reports/pages", {"pages"}),
        ("settings/published", {"compare", "draw"}),
        ("reports/statistics", {"compare", "interpret", "draw"}),
    ],
)
def test_changed_code_of_a_report_reruns_exactly_the_reports_that_use_it(two_models, module, reports):
    change(two_models, module)
    assert two_models.scheduled() == {}
    # The pages show the comparison and the interpretation.
    shown = {"pages"} if reports & {"compare", "interpret"} else set()
    assert two_models.scheduled_reports() == reports | shown


def test_changed_labels_and_wording_rerun_reports_alone(two_models):
    change(two_models, "settings/labels", "reports/wording")
    assert two_models.scheduled() == {"table": 1}


# The same content.


def test_touched_weights_tokens_and_features_rerun_nothing(two_models):
    touch(two_models, "weights", "dataset", "features")
    assert two_models.scheduled() == {}


def test_a_copied_project_reruns_nothing(two_models, tmp_path):
    shutil.copytree(two_models.folder, tmp_path / "a" / "copy", copy_function=shutil.copyfile, symlinks=True)
    assert Workshop(tmp_path / "a" / "copy").scheduled() == {}


def test_weights_from_another_source_with_the_same_sha256_are_fetched_for_new_runs_and_train_no_finished_one(
    two_models,
):
    shutil.copy(two_models.folder / "tiny.safetensors", two_models.folder / "mirror.safetensors")
    edit_model(two_models, "tiny", source="mirror.safetensors")
    assert two_models.scheduled() == {}
    two_models.rows(TWO_MODELS | {"6": {"average_embeddings": True}})
    assert two_models.scheduled() == {"fetch_weights": 1, "train": 2, "table": 1}


def test_messages_from_another_source_with_the_same_sha256_train_no_finished_run(two_models):
    shutil.copy(two_models.folder / "messages.tsv", two_models.folder / "mirror.tsv")
    sources = ["mirror.tsv", "messages.tsv"]
    two_models.override(dataset={"sources": sources, "sha256": sha256_of("messages.tsv", two_models)})
    assert two_models.scheduled() == {}


def test_removed_features_are_made_for_new_runs_alone(two_models):
    shutil.rmtree(two_models.results / "features")
    assert two_models.scheduled() == {}
    # The pretrained rows need one feature file each; row 5 draws its own from the new seed.
    assert two_models.scheduled("--config", "seeds=[123,7,8]") == {"extract_features": 3, "train": 5, "table": 1}
    two_models.rows(TWO_MODELS | {"6": {"average_embeddings": True}})
    assert two_models.scheduled() == {"extract_features": 1, "train": 2, "table": 1}
    two_models.rows(TWO_MODELS | {"1": {"batch_size": 4}})
    assert trained(two_models) == runs("1") and two_models.scheduled()["extract_features"] == 1
    # Who forces training runs gets them, with their features.
    two_models.rows(TWO_MODELS)
    assert two_models.scheduled("--forcerun", "train") == {"extract_features": 4, "train": 10, "table": 1}


def test_removed_weights_are_fetched_for_new_runs_alone(two_models):
    shutil.rmtree(two_models.results / "weights")
    assert two_models.scheduled() == {}
    scheduled = two_models.scheduled("--config", "seeds=[123,7,8]")
    assert scheduled == {"fetch_weights": 2, "extract_features": 1, "train": 5, "table": 1}


# Rows, seeds, settings and inputs.


def test_a_new_row_trains_only_itself_on_the_shared_features(finished):
    finished.rows({"1": {}, "2": {"trainable_layers": "all"}, "19": {"average_embeddings": True}})
    assert finished.scheduled() == {"train": 1, "table": 1}


def test_another_precision_computes_features_and_rows_again(finished):
    assert finished.scheduled("--config", "precision=bfloat16") == {"extract_features": 1, "train": 2, "table": 1}


def test_a_changed_row_trains_that_row_with_every_seed(two_models):
    two_models.rows(TWO_MODELS | {"2": {"trainable_layers": "all", "batch_size": 4}})
    assert trained(two_models) == runs("2")


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
    assert two_models.scheduled() == {"table": 1}


def test_other_messages_start_from_the_beginning(finished):
    append(finished.folder / "messages.tsv", "ham\tone more\nspam\tone more prize")
    assert finished.scheduled().keys() >= {"fetch_messages", "split_messages", "tokenize", "extract_features", "train"}


def test_an_edited_split_trains_again(finished):
    append(finished.results / "dataset" / "train.csv", "0,one more text")
    assert finished.scheduled() == {"tokenize": 1, "extract_features": 1, "train": 2, "table": 1}


def test_another_unchecked_source_of_one_model_trains_its_pretrained_rows_only(two_models):
    shutil.copy(two_models.folder / "tiny.safetensors", two_models.folder / "mirror.safetensors")
    edit_model(two_models, "other", source="mirror.safetensors")
    assert trained(two_models) == runs("3")


def test_changed_bytes_of_a_local_model_train_its_pretrained_rows_only(two_models):
    file = two_models.folder / "other.safetensors"
    save_file({name: tensor + 0.01 for name, tensor in load_file(file).items()}, file)
    assert trained(two_models) == runs("3")


def test_turning_keep_models_on_trains_only_the_rows_without_a_saved_model(two_models):
    two_models.override(keep_models=True)
    assert trained(two_models, "row_1") == runs("1")
    two_models.run("row_1", "row_4")
    assert trained(two_models) == runs("2", "3", "5")
    two_models.override(keep_models=False)
    assert two_models.scheduled() == {"table": 1}
    assert trained(two_models, "--config", "keep_models=true") == runs("2", "3", "5")


# Code.


@pytest.mark.parametrize(
    "module", ["finetuning/adamw", "finetuning/batches", "finetuning/training_job", "common/torch_setup", "runs/result"]
)
def test_changed_code_of_the_training_trains_every_row(two_models, module):
    change(two_models, module)
    extracted = module == "common/torch_setup"
    assert trained(two_models) == runs(*TWO_MODELS)
    assert ("extract_features" in two_models.scheduled()) == extracted


@pytest.mark.parametrize("module", ["gpt2/model", "finetuning/feature_job", "settings/feature_spec"])
def test_changed_code_of_the_features_extracts_them_again_and_trains_every_row(two_models, module):
    change(two_models, module)
    # Row 5 draws its frozen layers from the seed: two feature files, and one each for rows 1 and 3.
    assert two_models.scheduled() == {"extract_features": 4, "train": 10, "table": 1}


def test_changed_code_of_the_split_starts_from_the_split(two_models):
    change(two_models, "data/dataset")
    scheduled = two_models.scheduled()
    assert scheduled["split_messages"] == scheduled["tokenize"] == 1 and scheduled["train"] == 10


# While an invocation runs.


def test_rows_and_models_that_change_while_an_invocation_runs_change_nothing_in_it(workshop):
    started = Started(workshop.folder, "table", "--configfile", "override.yaml")
    # It is written before the first job starts. Features, runs and the table are still to come.
    wait_until((workshop.results / "config.yaml").is_file, "the invocation has started")
    edit_model(workshop, "tiny", n_layer=2)
    workshop.rows({"1": {"num_epochs": 9}, "3": {}})
    done = started.end()
    assert done.code == 0, done.output
    metrics = json.loads((workshop.results / "rows" / "1" / "seed-123" / "metrics.json").read_text())
    assert metrics["settings"]["num_epochs"] == 1 and metrics["total_parameters"] == parameters(n_layer=3)
    table = (workshop.results / "table.md").read_text()
    assert [line.split()[1] for line in table.splitlines()[2:4]] == ["1", "2"] and "left out" not in table
    # The next invocation sees the edits.
    assert workshop.scheduled()["train"] == 2


def parameters(n_layer: int) -> int:
    """The parameters of the workshop's model with a head of two classes."""
    c = DIMENSIONS["n_embd"]
    return (50257 + DIMENSIONS["n_positions"]) * c + n_layer * (12 * c * c + 13 * c) + 2 * c + 2 * (c + 1)

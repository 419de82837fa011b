"""A row gives the same files, times aside: each time, whatever else runs, with any number of jobs or threads."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.conftest import environment, run_command, write_yaml
from tests.parity.inputs import model_entries, write_synthetic
from tests.workflow.conftest import Workshop, copied, not_run

# Measured times and memory. All other values must be equal.
MEASURED = ("seconds", "peak_memory_mb", "features_peak_memory_mb")
ROWS = {
    "1": {},
    "2": {"trainable_layers": "all"},
    "3": {"trainable_layers": "lora", "lora_rank": 2},
    "4": {"weights": "random", "trainable_token_pos": "flexible"},
    "5": {"no_padding": True, "batch_size": 1, "accumulation_steps": 3},
}
# The tolerances of EXACTNESS.md for float32 on the CPU.
LOSS_TOLERANCE, LOGIT_TOLERANCE = 1e-5, 1e-4


def without_times(file: Path) -> object:
    """The content of a file without measured values."""
    if file.name == "metrics.json":
        return {key: value for key, value in json.loads(file.read_text()).items() if key not in MEASURED}
    if file.name == "table.csv":
        rows = list(csv.DictReader(file.open(newline="")))
        return [{key: value for key, value in row.items() if key not in MEASURED} for row in rows]
    if file.parent.name == "features":
        with safe_open(file, framework="pt") as stored:
            metadata = {key: value for key, value in stored.metadata().items() if key not in MEASURED}
            return metadata, {name: stored.get_tensor(name).numpy().tobytes() for name in stored.keys()}  # noqa: SIM118
    return file.read_bytes()


def outcome(results: Path) -> dict[str, object]:
    """The files of an invocation without measured values: dataset, weights, features, rows and the table's data."""
    parts = ["dataset", "weights", "features", "rows"]
    files = [file for part in parts for file in (results / part).rglob("*") if file.is_file()]
    found = {str(file.relative_to(results)): without_times(file) for file in [*files, results / "table.csv"]}
    assert len(found) > 12
    return found


def differing(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """The names of the files that differ."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


@pytest.fixture(scope="module")
def one_at_a_time(finished_workshop, tmp_path_factory) -> Workshop:
    """A workshop whose rows have run one after the other."""
    folder = tmp_path_factory.mktemp("determinism") / "one at a time"
    workshop = not_run(finished_workshop, folder)
    workshop.rows(ROWS)
    workshop.run("--cores", "1", "results/table.csv")
    return workshop


def again(workshop: Workshop, folder: Path, *arguments: str) -> Workshop:
    """Copy the inputs of a workshop to another folder and run Snakemake there."""
    copy = not_run(workshop, folder)
    copy.run(*arguments)
    return copy


def test_one_job_at_a_time_gives_the_same_files_as_two(finished_workshop, tmp_path):
    other = again(finished_workshop, tmp_path / "again", "--cores", "1", "results/table.csv")
    assert differing(outcome(finished_workshop.results), outcome(other.results)) == []


@pytest.mark.slow
def test_several_jobs_at_once_on_a_busy_machine_give_the_same_files(one_at_a_time, tmp_path):
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        other = again(one_at_a_time, tmp_path / "again", "--cores", "3", "results/table.csv")
    finally:
        busy.kill()
        busy.wait()
    assert differing(outcome(one_at_a_time.results), outcome(other.results)) == []


@pytest.mark.slow
def test_a_row_alone_gives_the_same_files_as_among_others(one_at_a_time, tmp_path):
    for row in ("3", "5"):
        other = again(one_at_a_time, tmp_path / row, f"row_{row}")
        for name in ("metrics.json", "history.csv", "predictions.csv"):
            file = Path("rows", row, "seed-123", name)
            assert without_times(other.results / file) == without_times(one_at_a_time.results / file)


@pytest.mark.slow
def test_a_row_trained_again_on_existing_features_gives_the_same_files(one_at_a_time, tmp_path):
    folder = tmp_path / "again"
    before = outcome(one_at_a_time.results)
    copied(one_at_a_time, folder).run("--forcerun", "train", "--cores", "2", "results/table.csv")
    assert (folder / "results/rows/1/seed-123/metrics.json").stat().st_mtime > (
        one_at_a_time.results / "rows/1/seed-123/metrics.json"
    ).stat().st_mtime
    assert differing(before, outcome(folder / "results")) == []


def test_the_measured_values_are_in_the_metrics(finished_workshop):
    metrics = json.loads((finished_workshop.results / "rows/1/seed-123/metrics.json").read_text())
    assert set(MEASURED) < set(metrics) and metrics["seconds"]["training"] > 0


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory) -> Path:
    """Inputs wide enough that PyTorch splits their matrix products among threads."""
    folder = tmp_path_factory.mktemp("threads")
    write_synthetic(folder / "results" / "dataset")
    models = model_entries("synthetic", folder / "results" / "dataset")
    write_yaml(folder / "models.yaml", models)
    for name, file in (("gpt2-small-124M", "tiny-small"), ("gpt2-xl-1558M", "tiny-xl")):
        (folder / "results" / "weights" / name).mkdir(parents=True)
        (folder / "results" / "dataset" / f"{file}.safetensors").rename(
            folder / "results" / "weights" / name / "model.safetensors"
        )
    overrides = {"models": "models.yaml", "device": "cpu", "tokenizer": {"name": "bytes", "sources": []}}
    write_yaml(folder / "override.yaml", overrides)
    (folder / "config").symlink_to(Path(__file__).parents[2] / "config")
    done = run_command("tokenize", "--config", "config/config.yaml", "override.yaml", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


def columns(file: Path, *names: str) -> torch.Tensor:
    """Some columns of a CSV file, float64 [values that are not empty]."""
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return torch.tensor([float(row[name]) for row in rows for name in names if row[name]], dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    ["", "--trainable_layers all", "--trainable_layers lora --model_size=gpt2-xl_(1558M)", "--disable_causal_mask"],
    ids=["last block", "all layers", "LoRA", "no causal mask"],
)
def test_another_number_of_threads_gives_results_within_the_tolerance(synthetic, tmp_path, flags):
    for threads in (1, 2):
        command = [sys.executable, "-m", "gpt2_ablations", "train", *arguments(flags), "--num_epochs", "2"]
        command += ["--config", "config/config.yaml", "override.yaml", "--output", str(tmp_path / str(threads))]
        own = environment() | {"OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, cwd=synthetic, env=own, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, two = tmp_path / "1", tmp_path / "2"
    losses = [columns(folder / "history.csv", "batch_loss", "train_loss", "val_loss") for folder in (one, two)]
    logits = [columns(folder / "predictions.csv", "logit_0", "logit_1") for folder in (one, two)]
    assert len(losses[0]) == len(losses[1]) > 50 and (losses[0] - losses[1]).abs().max() <= LOSS_TOLERANCE
    assert len(logits[0]) == len(logits[1]) == 120 and (logits[0] - logits[1]).abs().max() <= LOGIT_TOLERANCE
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (one, two)]
    for split in ("train", "val", "test"):
        assert metrics[0][f"{split}_correct"] == metrics[1][f"{split}_correct"]


def arguments(flags: str) -> list[str]:
    """The words of a flag line; `gpt2-xl_(1558M)` is written for the model name with a space."""
    return [word.replace("_(", " (") for word in flags.split()]

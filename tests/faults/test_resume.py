"""After kill -9 of a training job, the next invocation resumes from the checkpoint and gives the same files."""

import json
import random
import signal
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.faults.runs import Started, contents, start, unfinished, wait_until
from tests.workflow.conftest import Workshop, copied

SEED = "seed-123"
MEASURED = {"seconds", "peak_memory_mb", "features_peak_memory_mb"}
ROWS = {
    "block": {"num_epochs": 60},
    "all": {"num_epochs": 40, "trainable_layers": "all"},
    "lora": {"num_epochs": 40, "trainable_layers": "lora"},
}


def prepare(workshop: Workshop) -> None:
    workshop.rows(ROWS)
    workshop.override(checkpoint_every_epoch=True)


@pytest.fixture(scope="module")
def undisturbed(finished_workshop, tmp_path_factory) -> Workshop:
    """A workshop in which the rows run without interruption."""
    workshop = copied(finished_workshop, tmp_path_factory.mktemp("undisturbed") / "workshop")
    prepare(workshop)
    return workshop


def checkpoint(workshop: Workshop, row: str) -> Path:
    return workshop.results / "checkpoints" / f"rows.{row}.{SEED}.safetensors"


def epochs_saved(file: Path) -> int:
    """The number of epochs after which a checkpoint was written."""
    with safe_open(file, framework="pt") as content:
        return int(content.metadata()["epoch"])


def run_until_saved(workshop: Workshop, row: str, epochs: int) -> Started:
    """Start a row and wait for its checkpoint after so many epochs."""
    started = start(workshop, f"row_{row}")
    file = checkpoint(workshop, row)
    wait_until(lambda: file.exists() and epochs_saved(file) >= epochs, f"a checkpoint after {epochs} epochs")
    return started


def kill_the_job(started: Started) -> None:
    """kill -9 of the training job. Snakemake notices it and ends."""
    started.job("train").kill()
    outcome = started.end()
    assert outcome.code == 1 and "Traceback" not in outcome.output, outcome.output


def kill_all(started: Started) -> None:
    """kill -9 of Snakemake and its training job at once, as when the machine goes down."""
    started.signal_group(signal.SIGKILL)
    started.process.wait()


def assert_same_results(workshop: Workshop, undisturbed: Workshop, row: str) -> None:
    found, expected = (contents(w.results / "rows" / row / SEED) for w in (workshop, undisturbed))
    metrics, other = (json.loads(files.pop("metrics.json")) for files in (found, expected))
    assert found == expected and set(found) == {"history.csv", "predictions.csv"}
    assert {k: v for k, v in metrics.items() if k not in MEASURED} == {
        k: v for k, v in other.items() if k not in MEASURED
    }


# One try, or eleven with `make test-faults`.
TRIES = [pytest.param(n, marks=[pytest.mark.faults] if n else []) for n in range(11)]


@pytest.mark.parametrize("attempt", TRIES)
@pytest.mark.parametrize("row", ["block", *(pytest.param(row, marks=pytest.mark.slow) for row in ("all", "lora"))])
def test_a_killed_training_job_resumes_from_its_checkpoint(row, attempt, untrained, undisturbed):
    workshop = untrained
    prepare(workshop)
    moment = random.Random(f"{row} {attempt}")
    for kill in (kill_the_job, kill_all):
        saved = epochs_saved(checkpoint(workshop, row)) if checkpoint(workshop, row).exists() else 0
        running = run_until_saved(workshop, row, saved + moment.randint(1, 5))
        time.sleep(moment.random() / 10)
        kill(running)
    saved = epochs_saved(checkpoint(workshop, row))
    workshop.snakemake("--unlock")
    done = workshop.run("--rerun-incomplete", f"row_{row}")
    log = (workshop.results / "logs" / "train" / row / f"{SEED}.log").read_text()
    assert f"resuming after epoch {saved}, from results/checkpoints/rows.{row}.{SEED}.safetensors" in log, log
    assert f"epoch {saved + 1}: " in log and f"epoch {saved}: " not in log
    undisturbed.run(f"row_{row}")
    assert_same_results(workshop, undisturbed, row)
    assert not checkpoint(workshop, row).exists() and unfinished(workshop.folder) == [], done.stderr


def change_options(workshop):
    workshop.rows({"block": {"num_epochs": 3}})


def change_data(workshop):
    with open(workshop.folder / "messages.tsv", "a") as file:
        file.write("ham\tone more\nspam\tone more prize\n")


def change_code(workshop):
    with open(workshop.folder / "src" / "gpt2_ablations" / "finetuning" / "adamw.py", "a") as file:
        file.write("\nCHANGED = True\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "what"), [(change_options, "settings"), (change_data, "tokens"), (change_code, "code")]
)
def test_a_run_that_is_made_from_something_else_does_not_resume_from_its_checkpoint(workshop, change, what):
    prepare(workshop)
    kill_the_job(run_until_saved(workshop, "block", 2))
    change(workshop)
    workshop.run("--rerun-incomplete", "row_block")
    log = (workshop.results / "logs" / "train" / "block" / f"{SEED}.log").read_text()
    assert f"rows.block.{SEED}.safetensors: made with other settings ({what}); not used" in log and "epoch 1: " in log
    assert not checkpoint(workshop, "block").exists()

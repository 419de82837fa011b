"""Thousands of rows: `python -m tests.benchmarks.scale [--rows N] [--seeds N] [--only STEP ...] [--json FILE]`.

It writes an experiments file of 1,000 different rows and the files of 5,000 finished runs, as long as real ones. Then
it measures wall time and peak memory of a dry run and of every command that reads all runs, each in its own process.
Sizes on disk are those of the generated files.
"""

import argparse
import csv
import itertools
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

from gpt2_ablations.reports.figures import MOST_ROWS
from gpt2_ablations.settings.constants import EVALUATE_EVERY
from gpt2_ablations.settings.experiment import Experiment
from gpt2_ablations.settings.models import load_models
from gpt2_ablations.settings.rows import load_experiments
from tests.conftest import CHECKOUT, environment, write_yaml

TEST_EXAMPLES, STEPS_PER_EPOCH, EPOCHS = 300, 130, 5
STEPS = ("dry run", "table", "compare", "interpret", "draw", "draw_rows")


def varied_rows(number: int) -> dict[str, dict]:
    """The given number of different rows: combinations of some options, in order."""
    options = {
        "trainable_layers": ["last_block", "last_two_blocks", "all", "lora", "last_layer"],
        "model_size": ["gpt2-small (124M)", "gpt2-medium (355M)", "gpt2-large (774M)", "gpt2-xl (1558M)"],
        "trainable_token_pos": ["last", "first", "flexible"],
        "weights": ["pretrained", "random"],
        "num_epochs": [5, 3, 10],
        "lora_rank": [8, 16],
        "context_length": ["longest_training_example", 60, 200],
        "batch_size": [8, 16, 4],
    }
    combinations = itertools.islice(itertools.product(*options.values()), 0, None, 3)
    # The reference's row 1 comes first: comparisons and figures name it.
    rows = {str(i): dict(zip(options, values)) for i, values in enumerate(itertools.islice(combinations, number), 1)}
    assert len(rows) == number
    return rows


def write_run(folder: Path, row: str, seed: int, experiment: Experiment, labels: np.ndarray) -> None:
    """The three files of a finished run, as long as those of a real run."""
    random = np.random.default_rng([seed, *row.encode()])
    folder.mkdir(parents=True)
    correct = random.random(TEST_EXAMPLES) < random.uniform(0.75, 0.99)
    predictions = np.where(correct, labels, 1 - labels).tolist()
    logits = random.normal(0, 2, (TEST_EXAMPLES, 2)).tolist()
    with open(folder / "predictions.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("index", "label", "prediction", "logit_0", "logit_1"))
        for index, (label, prediction, pair) in enumerate(zip(labels.tolist(), predictions, logits)):
            writer.writerow((index, label, prediction, *(f"{logit:.9g}" for logit in pair)))
    noise = random.normal(0, 0.05, (EPOCHS * STEPS_PER_EPOCH, 2)).tolist()
    with open(folder / "history.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("step", "epoch", "batch_loss", "train_loss", "val_loss", "train_acc", "val_acc"))
        for step, (a, b) in enumerate(noise):
            loss = abs(1.2 * math.exp(-step / 150) + 0.15 + a)
            losses = (f"{loss:.9g}", f"{loss + abs(b):.9g}") if step % EVALUATE_EVERY == 0 else ("", "")
            accuracies = ("0.95", "0.925") if (step + 1) % STEPS_PER_EPOCH == 0 else ("", "")
            writer.writerow((step, step // STEPS_PER_EPOCH + 1, f"{loss:.9g}", *losses, *accuracies))
    right = int(correct.sum())
    metrics = {
        "row": row,
        "seed": seed,
        "model": experiment.model_size,
        "context_length": 120,
        **{"train_acc": 1000 / 1040, "train_correct": 1000, "train_total": 1040},
        **{"val_acc": 140 / 149, "val_correct": 140, "val_total": 149},
        **{"test_acc": right / TEST_EXAMPLES, "test_correct": right, "test_total": TEST_EXAMPLES},
        "trainable_parameters": 7_090_946,
        "total_parameters": 124_441_346,
        "seconds": {"features": 9.0, "training": float(random.uniform(3, 300)), "evaluation": 0.5},
        "peak_memory_mb": {"host": 1036.0, "device": None},
        "features_peak_memory_mb": 1036.0,
        "device": "cpu",
        "device_name": "AMD EPYC",
        "precision": "float32",
        "note": None,
        "settings": asdict(experiment),
        "versions": {"torch": "2.13.0", "safetensors": "0.8.0", "numpy": "2.4.6"},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")


def measure(folder: Path, *command: str) -> dict:
    """Wall time in seconds and peak memory in MiB of a command in a folder."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, env=environment(), stdout=said, stderr=said
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if process.returncode:
        sys.exit(f"{' '.join(command)}\n{text[-3000:]}")
    return {"seconds": time.perf_counter() - started, "peak_mb": usage.ru_maxrss / 2**10, "said": text[-300:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--folder", type=Path, help="keep the generated files in this folder for the next time")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measured = run(arguments, arguments.folder or Path(temporary))
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=2) + "\n")


def run(arguments: argparse.Namespace, folder: Path) -> dict:
    """Measure the chosen steps, and print a line for each."""
    results, seeds = folder / "results", list(range(1, arguments.seeds + 1))
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config").exists():
        (folder / "config").symlink_to(CHECKOUT / "config")
    rows = write_yaml(folder / "rows.yaml", {"rows": varied_rows(arguments.rows)})
    write_yaml(folder / "override.yaml", {"experiments": "rows.yaml", "seeds": seeds, "device": "cpu"})
    experiments = load_experiments(rows, load_models(CHECKOUT / "config" / "models.yaml"), "config/models.yaml")
    runs = len(experiments) * len(seeds)
    print(f"{len(experiments)} rows, {len(seeds)} seeds; snakemake {version('snakemake')}, {platform.machine()}")
    snakemake = [
        "snakemake",
        "--snakefile",
        str(CHECKOUT / "Snakefile"),
        "--cores",
        "2",
        "--configfile",
        "override.yaml",
    ]
    measured = {}
    for step in arguments.only:
        if step == "dry run" and (results / "rows").exists():
            sys.exit(f"{results}: contains runs, but the dry run needs an empty folder; remove it")
        if step != "dry run" and not (results / "rows").exists():
            labels = np.arange(TEST_EXAMPLES) % 2
            for (row, experiment), seed in itertools.product(experiments.items(), seeds):
                write_run(results / "rows" / row / f"seed-{seed}", row, seed, experiment, labels)
            files = [file for file in (results / "rows").rglob("*") if file.is_file()]
            apparent = sum(file.stat().st_size for file in files) / runs
            allocated = sum(file.stat().st_blocks for file in files) * 512 / runs
            print(f"| a run's files | {apparent:,.0f} bytes, {allocated:,.0f} allocated | |")
            measured["a run's files"] = {"bytes": apparent, "allocated": allocated}
        command = ["gpt2_ablations", step, "--config", "config/config.yaml", "override.yaml"]
        if step == "draw_rows":
            # As rule draw_rows does.
            command += ["--row", *itertools.islice(experiments, MOST_ROWS)]
        done = measure(folder, *([*snakemake, "--dry-run"] if step == "dry run" else command))
        measured[step] = done
        print(f"| {step} | {done['seconds']:.1f} s | {done['peak_mb']:,.0f} MiB |", flush=True)
    return measured


if __name__ == "__main__":
    main()

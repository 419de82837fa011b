"""What a run of the workflow begins with. It looks at a few files and imports nothing large, unless the run is long."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..common.source_code import PACKAGE
from ..common.text_table import listed, paragraph
from ..common.units import file_size
from ..data.download.needed_files import needed_files
from ..settings.config import pretrained_models
from .workflow import Workflow

# A run that computes more than this, on the processor or on a GPU, may take minutes: it is worth the seconds that the
# whole plan takes, about twelve with a GPU.
LONG_FLOPS, LONG_FLOPS_ON_GPUS = 3e13, 1e15
MOST_SECONDS_FOR_A_PLAN = 120


def first_screen(plan: Workflow, jobs: Mapping[str, int], rows: Sequence[str]) -> str:
    """What will run, what will be downloaded, and how to follow it; the whole plan if it will take long here.

    Args:
        jobs: how many jobs of each rule Snakemake will run.
        rows: those that it will train.
    """
    runs = [file for row in plan.selected for file in plan.run_files(row)]
    done = sum(Path(file).is_file() for file in runs)
    lines = [f"{len(plan.selected)} rows, {len(runs)} runs, {done} done: {_will_run(jobs)}."]
    whole = _whole_plan(plan, rows) if plan.local and _is_long(plan, rows) else None
    if whole is None and any(rule.startswith("fetch_") for rule in jobs):
        used = pretrained_models(plan.selected) if "fetch_weights" in jobs else []
        files = needed_files(plan.config, plan.models, used)
        coming = [file for file in files if file.download_bytes]
        names = [f"{file.model or file.what} ({file_size(file.download_bytes)})" for file in coming]
        lines.append(f"To download: {listed(names)}." if names else "To download: nothing.")
    if "train" in jobs or "extract_features" in jobs:
        config = f"--config {shlex.quote(str(plan.paths.config))}"
        lines.append(f"To follow it: python -m gpt2_ablations status --watch {config}")
    short = "\n".join(paragraph(line, "  ") for line in lines)
    return short if whole is None else f"{whole}\n{short}"


def _will_run(jobs: Mapping[str, int]) -> str:
    names = {"train": ("training", "training runs"), "extract_features": ("file of features", "files of features")}
    parts = [f"{jobs[rule]} {words[jobs[rule] > 1]}" for rule, words in names.items() if jobs.get(rule)]
    return f"now {' and '.join(parts)}" if parts else "nothing to train now"


def _is_long(plan: Workflow, rows: Sequence[str]) -> bool:
    if not rows:
        return False
    from .costs import feature_cost, read_lengths, training_cost  # loaded when it is needed: jobs read this module too

    long = LONG_FLOPS_ON_GPUS if plan.machine_gpus() else LONG_FLOPS
    lengths, operations, seen = read_lengths(plan.paths.tokens), 0.0, set()
    for row in rows:
        experiment = plan.experiments[row]
        model = plan.models[experiment.model_size]
        operations += training_cost(experiment, model, plan.config, lengths).operations
        for file in plan.features(row, plan.config.seeds[0]):
            if file not in seen and not Path(file).is_file():
                seen.add(file)
                operations += feature_cost(plan.spec(Path(file).stem), model, plan.config, lengths).operations
        if operations > long:
            return True
    return False


def _whole_plan(plan: Workflow, rows: Sequence[str]) -> str | None:
    """What `python -m gpt2_ablations plan` says of some rows, from a process of its own; None if that fails."""
    command = [sys.executable, "-m", "gpt2_ablations", "plan", "--config", str(plan.paths.config)]
    if set(rows) != plan.selected.keys():
        command += ["--row", *rows]
    variables = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=MOST_SECONDS_FOR_A_PLAN, check=True
        )
        return done.stdout
    return None

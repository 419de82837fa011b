"""The text that an invocation prints first. Nothing large is imported, unless the invocation will take long."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..common.source_code import PACKAGE
from ..common.text import counted, file_size, listed, paragraph
from ..data.download.needed_files import needed_files
from ..settings.rows import pretrained_models
from .workflow import Workflow

# More FLOPs than this may take minutes, on the processor or on a GPU. Then the whole plan is worth its own time, which
# is about twelve seconds with a GPU.
LONG_FLOPS, LONG_FLOPS_ON_GPUS = 3e13, 1e15
MOST_SECONDS_FOR_A_PLAN = 120


def first_screen(workflow: Workflow, jobs: Mapping[str, int], rows: Sequence[str]) -> str:
    """What will run, what will be downloaded, and the command that shows the progress; the whole plan if it takes long.

    Args:
        jobs: how many jobs of each rule Snakemake will run.
        rows: those that it will train.
    """
    runs = [file for row in workflow.selected for file in workflow.run_files(row)]
    done = sum(Path(file).is_file() for file in runs)
    selected = f"{counted(len(workflow.selected), 'row')}, {counted(len(runs), 'run')} ({done} done)"
    lines = [paragraph(f"{selected}. {_will_run(jobs)}", "  ")]
    whole = _whole_plan(workflow, rows) if workflow.local and _is_long(workflow, rows) else None
    if whole is None and any(rule.startswith("fetch_") for rule in jobs):
        used = pretrained_models(workflow.selected) if "fetch_weights" in jobs else []
        files = needed_files(workflow.config, workflow.models, used)
        missing = [file for file in files if file.download_bytes]
        names = [f"{file.model or file.what} ({file_size(file.download_bytes)})" for file in missing]
        lines.append(paragraph(f"Downloads: {listed(names) or 'none'}.", "  "))
    if "train" in jobs or "extract_features" in jobs:
        # The command has a line of its own, of any length, so that it can be copied.
        config = shlex.quote(str(workflow.paths.config))
        lines.append(f"To follow the progress:\n  python -m gpt2_ablations status --watch --config {config}")
    short = "\n".join(lines)
    return short if whole is None else f"{whole}\n{short}"


def _will_run(jobs: Mapping[str, int]) -> str:
    nouns = {"train": "training run", "extract_features": "feature file"}
    parts = [counted(jobs[rule], noun) for rule, noun in nouns.items() if jobs.get(rule)]
    return f"To compute now: {' and '.join(parts)}." if parts else "Nothing to train."


def _is_long(workflow: Workflow, rows: Sequence[str]) -> bool:
    if not rows:
        return False
    # Imported when needed: jobs read this module too.
    from .costs import feature_cost, read_lengths, training_cost

    long = LONG_FLOPS_ON_GPUS if workflow.machine_gpus() else LONG_FLOPS
    lengths, flops, seen = read_lengths(workflow.paths.tokens), 0.0, set()
    for row in rows:
        experiment = workflow.experiments[row]
        model = workflow.models[experiment.model_size]
        flops += training_cost(experiment, model, workflow.config, lengths).flops
        for file in workflow.feature_files(row, workflow.config.seeds[0]):
            if file not in seen and not Path(file).is_file():
                seen.add(file)
                flops += feature_cost(workflow.spec(Path(file).stem), model, workflow.config, lengths).flops
        if flops > long:
            return True
    return False


def _whole_plan(workflow: Workflow, rows: Sequence[str]) -> str | None:
    """The output of `python -m gpt2_ablations plan` for some rows, from its own process; None if that fails."""
    command = [sys.executable, "-m", "gpt2_ablations", "plan", "--config", str(workflow.paths.config)]
    if set(rows) != workflow.selected.keys():
        command += ["--row", *rows]
    variables = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=MOST_SECONDS_FOR_A_PLAN, check=True
        )
        return done.stdout
    return None

"""The lines that a run of the workflow begins with. Cheap: it looks at a few files and imports nothing large."""

import shlex
from collections.abc import Mapping

from .sources.needed import needed_files
from .text_table import listed, paragraph
from .units import file_size
from .workflow import Plan


def first_screen(plan: Plan, jobs: Mapping[str, int]) -> str:
    """What will run, what will be downloaded, and how to follow it.

    Args:
        jobs: how many jobs of each rule Snakemake will run.
    """
    runs = [file for row in plan.selected for file in plan.runs_of(row)]
    done = sum(file.is_file() for file in runs)
    lines = [f"{len(plan.selected)} rows, {len(runs)} runs, {done} done: {_will_run(jobs)}."]
    if any(rule.startswith("fetch_") for rule in jobs):
        used = {row.model_size for row in plan.selected.values() if row.weights == "pretrained"}
        files = needed_files(plan.config, plan.models, used if "fetch_weights" in jobs else set())
        coming = [file for file in files if file.download_bytes]
        names = [f"{file.model or file.what} ({file_size(file.download_bytes)})" for file in coming]
        lines.append(f"To download: {listed(names)}." if names else "To download: nothing.")
    if "train" in jobs or "extract_features" in jobs:
        config = f"--config {shlex.quote(str(plan.paths.config))}"
        lines.append(f"To follow it: python -m gpt2_ablations status --watch {config}")
    return "\n".join(paragraph(line, "  ") for line in lines)


def _will_run(jobs: Mapping[str, int]) -> str:
    names = {"train": ("training", "trainings"), "extract_features": ("file of features", "files of features")}
    parts = [f"{jobs[rule]} {words[jobs[rule] > 1]}" for rule, words in names.items() if jobs.get(rule)]
    return f"now {' and '.join(parts)}" if parts else "nothing to train now"

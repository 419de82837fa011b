"""The text that an invocation prints first. Nothing large is imported."""

import csv
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..common.text import counted, file_size, listed, paragraph
from ..data.dataset import Examples, described
from ..data.download.needed_files import needed_files
from ..settings.rows import pretrained_models
from .workflow import Workflow

# More FLOPs than this may take minutes, on the processor or on a GPU.
LONG_FLOPS, LONG_FLOPS_ON_GPUS = 3e13, 1e15


def first_screen(
    workflow: Workflow, jobs: Mapping[str, int], rows: Sequence[str], examples: Examples | None = None
) -> str:
    """What will run, what will be downloaded, and the commands that show the progress and, before long work, the plan.

    Args:
        jobs: how many jobs of each rule Snakemake will run.
        rows: those that it will train.
        examples: on which they are trained; None if they are not known yet.
    """
    runs = [file for row in workflow.selected for file in workflow.run_files(row)]
    done = sum(Path(file).is_file() for file in runs)
    selected = f"{counted(len(workflow.selected), 'row')}, {counted(len(runs), 'run')} ({done} done)"
    lines = [paragraph(f"{selected}. {_will_run(jobs)}", "  ")]
    if any(rule.startswith("fetch_") for rule in jobs):
        used = pretrained_models(workflow.selected) if "fetch_weights" in jobs else []
        files = needed_files(workflow.config, workflow.models, used)
        missing = [file for file in files if file.download_bytes]
        names = [f"{file.model or file.what} ({file_size(file.download_bytes)})" for file in missing]
        lines.append(paragraph(f"Downloads: {listed(names) or 'none'}.", "  "))
    lines += [paragraph(line, "  ") for line in described(examples)]
    if "table" in jobs and (leaving := _leave_the_table(workflow)):
        warning = (
            f"warning: {workflow.paths.table} has results that this configuration does not select (row"
            f" {listed(leaving)}). The new table is without them. For a table beside it, stop, and set a folder of its"
            f" own, such as `results: {workflow.config.results}-2`."
        )
        lines.append(paragraph(warning, "  "))
    # A command has a line of its own, of any length, so that it can be copied.
    config = shlex.quote(str(workflow.paths.config))
    if workflow.local and _is_long(workflow, rows):
        lines.append(f"To estimate time, memory and disk space:\n  python -m gpt2_ablations plan --config {config}")
    if "train" in jobs or "extract_features" in jobs:
        lines.append(f"To follow the progress:\n  python -m gpt2_ablations status --watch --config {config}")
    return "\n".join(lines)


def _leave_the_table(workflow: Workflow) -> list[str]:
    """The rows, or rows with a seed, that the table in the results folder has and the new one will not have."""
    try:
        with open(workflow.paths.table_data, newline="", encoding="utf-8") as file:
            runs = [(line["row"], line["seed"]) for line in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, csv.Error):
        return []
    seeds = list(map(str, workflow.config.seeds))
    rows = [row for row, _ in runs if row not in workflow.selected]
    rows += [f"{row} with seed {seed}" for row, seed in runs if row in workflow.selected and seed not in seeds]
    return list(dict.fromkeys(rows))


def _will_run(jobs: Mapping[str, int]) -> str:
    nouns = {"train": "training run", "extract_features": "feature file"}
    parts = [counted(jobs[rule], noun) for rule, noun in nouns.items() if jobs.get(rule)]
    return f"To compute now: {' and '.join(parts)}." if parts else "Nothing to train."


def _is_long(workflow: Workflow, rows: Sequence[str]) -> bool:
    """Whether one run of each row, with the features that are missing, may take minutes."""
    seed = workflow.config.seeds[0]
    specs = {spec for row in rows if (spec := workflow.feature_spec(row, seed))}
    missing = [spec for spec in specs if not Path(workflow.feature_file(spec)).is_file()]
    flops = sum(workflow.training_cost(row).flops for row in rows)
    flops += sum(workflow.feature_cost(spec).flops for spec in missing)
    return flops > (LONG_FLOPS_ON_GPUS if workflow.machine_gpus() else LONG_FLOPS)

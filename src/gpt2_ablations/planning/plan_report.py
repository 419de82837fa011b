"""The plan as text in 80 columns: what is downloaded, what each row takes, and what does not fit."""

from collections.abc import Collection

from ..common.text import (
    GAP,
    WIDTH,
    counted,
    duration,
    file_size,
    listed,
    memory,
    paragraph,
    shorten_middle,
    text_table,
)
from ..data.download.needed_files import Needed
from .plan import Plan, RowEstimate

# Further rows are counted, not listed.
MOST_ROWS = 60


def format_plan(plan: Plan, most_rows: int = MOST_ROWS) -> str:
    """The plan in paragraphs: machine, files, rows, totals, and what does not fit."""
    parts = [_machine(plan), _files(plan.needed), _rows(plan, most_rows), _totals(plan), _obstacles(plan)]
    return "\n\n".join(part for part in parts if part)


def _machine(plan: Plan) -> str:
    gpu = f", smallest GPU {memory(plan.machine.gpu_mb)}" if plan.machine.gpu_mb else ""
    cores = "core" if plan.machine.cores == 1 else "cores"
    host = f"{plan.machine.cores} {cores}, {memory(plan.machine.host_mb)} of memory"
    lines = [f"This machine: {host}{gpu}; device {plan.device}."]
    for threads, speed in sorted(plan.speeds.items()):
        rate, bandwidth = speed.flops_per_second / 1e9, speed.bytes_per_second / 1e9
        lines.append(
            f"Measured with {counted(threads, 'thread')}: {rate:.0f} GFLOP/s in {plan.precision} matrix products,"
            f" {bandwidth:.0f} GB/s of memory bandwidth."
        )
    return "\n".join(map(paragraph, lines))


def _files(needed: list[Needed]) -> str:
    rows = [[file.model or file.what, file_size(file.size), file.state] for file in needed]
    left = WIDTH - sum(max(map(len, column)) + GAP for column in zip(*rows, strict=True))
    for row, file in zip(rows, needed, strict=True):
        others = f" (or {len(file.sources) - 1} more)" if len(file.sources) > 1 else ""
        row.append(shorten_middle(file.sources[0], left - len(others)) + others)
    return text_table(["file", "size", "state", "source"], rows, right=[1])


def _rows(plan: Plan, most: int) -> str:
    headers = ["row", "model", "trains", "extract", "training", "GiB", "GB", "state"]
    shown = [
        [
            row.row,
            row.model,
            row.trainable_layers,
            duration(row.features_seconds) if row.features_seconds else "-",
            duration(row.training_seconds) if row.done < row.runs else "-",
            f"{(row.host_mb if row.device_mb is None else row.device_mb) / 1024:.1f}",
            f"{row.disk_bytes / 1e9:.1f}" if row.done < row.runs else "-",
            _state(row, plan.memory_shortages, plan.misfits),
        ]
        for row in plan.rows[:most]
    ]
    table = text_table(headers, shown, right=[3, 4, 5, 6])
    more = len(plan.rows) - most
    if more > 0:
        table += f"\nand {more} more row{'s' * (more > 1)}; --row ID shows some, --json shows all"
    where = "memory" if plan.device == "cpu" else "GPU memory"
    legend = (
        "extract: time to extract the features of the frozen layers. training: time to train, all seeds together."
        f" GiB: {where}. GB: disk space."
    )
    return f"{table}\n{paragraph(legend)}"


def _state(row: RowEstimate, too_large: Collection[str], misfits: Collection[str]) -> str:
    if row.done == row.runs:
        return "done"
    if row.row in misfits:
        return "misfit"
    if row.row in too_large:
        return "too big"
    if row.done:
        return f"{row.done}/{row.runs} done"
    return "resume" if row.checkpoint_epochs else "to do"


def _totals(plan: Plan) -> str:
    runs, done = sum(row.runs for row in plan.rows), sum(row.done for row in plan.rows)
    rows = counted(len(plan.rows), "row")
    seeds = f" with {plan.seeds} seeds" if plan.seeds > 1 else ""
    shared = [file for file in plan.features if len(file.rows) > 1 and not file.exists]
    lines = [f"Total: {rows}{seeds}, {runs - done} of {runs} run{'s' * (runs != 1)} to do."]
    if runs > done:
        lines.append(f"Time: about {duration(plan.seconds)}, without downloads and reports.")
    if shared and runs > done:
        groups = "; ".join(listed(file.rows) for file in shared[:4]) + "; …" * (len(shared) > 4)
        lines.append(f"Rows with shared features: {groups}. These features are computed once and counted once.")
    downloads = sum(file.download_bytes for file in plan.needed)
    lines.append(f"Downloads: {file_size(downloads) if downloads else 'none'}.")
    for folder, needed, free in (disk for disk in plan.disks if disk[1]):
        lines.append(f"Disk space: {file_size(needed)} needed in {folder}, {file_size(free)} free.")
    lines += plan.examples
    if not plan.lengths_known:
        lines.append("The data is not tokenized yet. These estimates assume texts as long as the reference's.")
    return "\n".join(paragraph(line, "  ") for line in lines)


def _obstacles(plan: Plan) -> str:
    reasons = [*plan.misfits.items(), *plan.memory_shortages.items()][:MOST_ROWS]
    lines = [f"Does not fit: row {row}: {reason}." for row, reason in reasons]
    for folder, needed, free in plan.disks:
        if needed > free:
            lines.append(
                f"Does not fit: {folder} needs {file_size(needed - free)} more disk space; set results (or HF_HOME, for"
                " downloads) to a larger disk, or select fewer rows."
            )
    return "\n".join(paragraph(line, "  ") for line in lines)

"""The plan as text: what is fetched, what each row takes, and what does not fit; at most 80 columns, no colours."""

from ..common.text_table import listed, paragraph, shorten_middle, text_table
from ..common.units import duration, file_size, memory
from ..data.download.needed_files import Needed
from .machine_speed import Speed
from .plan import Plan, RowEstimate

# More rows than this are counted and not shown.
MOST_ROWS = 60


def format_plan(plan: Plan, most_rows: int = MOST_ROWS) -> str:
    """The plan in paragraphs: machine, files, rows, sums, and what stands in the way."""
    parts = [_machine(plan), _files(plan.needed), _rows(plan, most_rows), _sums(plan), _hindrances(plan)]
    return "\n\n".join(part for part in parts if part)


def _machine(plan: Plan) -> str:
    gpu = f", smallest GPU {memory(plan.machine.gpu_mb)}" if plan.machine.gpu_mb else ""
    cores = "core" if plan.machine.cores == 1 else "cores"
    lines = [
        f"This machine: {plan.machine.cores} {cores}, {memory(plan.machine.host_mb)} of memory{gpu}; {plan.device}."
    ]
    for threads, speed in sorted(plan.speeds.items()):
        lines.append(f"Measured with {threads} thread{'s' * (threads > 1)}: {_speed(speed, plan.precision)}.")
    return "\n".join(map(paragraph, lines))


def _speed(speed: Speed, precision: str) -> str:
    return (
        f"{speed.operations / 1e9:.0f} GFLOP/s in {precision} products, {speed.moved / 1e9:.0f} GB/s of memory,"
        f" {speed.started:.1f} s to start a job"
    )


def _files(needed: list[Needed]) -> str:
    rows = []
    for file in needed:
        begun = f", {file_size(file.begun)} of it begun" if file.begun and file.state == "download" else ""
        source = file.places[0] + (f" (or {len(file.places) - 1} more)" if len(file.places) > 1 else "")
        rows.append([file.model or file.what, file_size(file.size), file.state + begun, shorten_middle(source, 44)])
    return text_table(["file", "size", "", "from"], rows, right=[1])


def _rows(plan: Plan, most: int) -> str:
    headers = ["row", "model", "trains", "frozen", "trained", "GiB", "GB", ""]
    shown = [
        [
            row.row,
            row.model,
            row.trainable_layers,
            duration(row.features_seconds) if row.features_seconds else "-",
            duration(row.training_seconds) if row.done < row.runs else "-",
            f"{(row.host_mb if row.device_mb is None else row.device_mb) / 1024:.1f}",
            f"{row.disk_bytes / 1e9:.1f}" if row.done < row.runs else "-",
            _state(row, {misfit.row for misfit in plan.misfits}),
        ]
        for row in plan.rows[:most]
    ]
    table = text_table(headers, shown, right=[3, 4, 5, 6])
    more = len(plan.rows) - most
    if more > 0:
        table += f"\nand {more} more rows; --row ID shows them, --json shows all"
    legend = "frozen, trained: time of the frozen part's features and of training; GiB of memory, GB of disk."
    return f"{table}\n{paragraph(legend)}"


def _state(row: RowEstimate, too_large: set[str]) -> str:
    if row.done == row.runs:
        return "done"
    if row.row in too_large:
        return "no room"
    if row.done:
        return f"{row.done}/{row.runs} done"
    return "goes on" if row.resumed else "to do"


def _sums(plan: Plan) -> str:
    runs, done = sum(row.runs for row in plan.rows), sum(row.done for row in plan.rows)
    rows = f"{len(plan.rows)} row{'s' * (len(plan.rows) != 1)}"
    seeds = f" with {plan.seeds} seeds" if plan.seeds > 1 else ""
    shared = [file for file in plan.features if len(file.rows) > 1 and not file.here]
    lines = [f"In all: {rows}{seeds}, {runs - done} of {runs} runs to do."]
    if runs > done:
        lines.append(f"Time: about {duration(plan.seconds)}, without downloads and reports.")
    if shared and runs > done:
        groups = "; ".join(listed(file.rows) for file in shared[:4]) + "; …" * (len(shared) > 4)
        lines.append(f"Rows that share features compute them once, and this time counts them once: {groups}.")
    downloads = sum(file.download_bytes for file in plan.needed)
    lines.append(f"Downloads: {file_size(downloads) if downloads else 'none'}.")
    for folder, needs, free in (disk for disk in plan.disks if disk[1]):
        lines.append(f"Disk: {file_size(needs)} below {folder}, where {file_size(free)} are free.")
    if not plan.lengths_known:
        lines.append("The messages are not here yet: counted are the lengths of the reference's.")
    return "\n".join(paragraph(line, "  ") for line in lines)


def _hindrances(plan: Plan) -> str:
    lines = [f"Does not fit: {misfit}." for misfit in plan.misfits[:MOST_ROWS]]
    for folder, needs, free in plan.disks:
        if needs > free:
            lines.append(
                f"Does not fit: {folder} lacks {file_size(needs - free)}; set results (or HF_HOME, for downloads) to a"
                " larger disk, or select fewer rows at a time" + _first_rows_that_fit(plan, needs, free)
            )
    return "\n".join(paragraph(line, "  ") for line in lines)


def _first_rows_that_fit(plan: Plan, needs: int, free: int) -> str:
    """Which rows, from the table's end, would have to go for the others to fit."""
    left_out = []
    for row in reversed(plan.rows):
        if needs <= free:
            break
        needs -= row.features_bytes
        left_out.append(row.row)
    if needs > free or len(left_out) == len(plan.rows):
        return "."
    return f": it fits without rows {listed(left_out[::-1])}."

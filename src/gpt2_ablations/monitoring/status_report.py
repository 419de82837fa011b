"""The status as text in 80 columns: a table of runs, updated in a terminal, or a list of changes in a pipe."""

import json
import shutil
import sys
import time

from ..common.text import bar, counted, duration, paragraph, shorten, text_table
from ..planning.workflow import Workflow
from .status import DONE, FAILED, INTERRUPTED, RUNNING, WAITING, JobStatus, Observer, Status

# More runs than this are shown as one line for each row. Of more rows than this, only the runs that are running, failed
# or interrupted are shown.
MOST_LINES = 40
SECONDS_BETWEEN_LOOKS = 2.0
CLEAR = "\x1b[H\x1b[J"


def format_status(status: Status, most: int = MOST_LINES, width: int = 80) -> str:
    """A line that counts the runs by state, the jobs that come before runs, and the runs.

    Args:
        most: lines of a table.
        width: columns.
    """
    parts = [_counts(status, width)]
    jobs = [_job_line(job) for job in status.jobs]
    if jobs:
        parts.append(text_table(["job", "state", "", ""], _first(jobs, most), width=width))
    parts.append(_run_table(status, most, width))
    return "\n\n".join(part for part in parts if part)


def _counts(status: Status, width: int) -> str:
    counts = ", ".join(f"{number} {state}" for state, number in status.counts.items())
    running = f"An invocation is running ({status.invocation})" if status.invocation else "No invocation is running"
    n = len(status.runs)
    return paragraph(f"{counted(n, 'run')} in {status.results}: {counts}. {running}.", "  ", width)


def _run_table(status: Status, most: int, width: int) -> str:
    if len(status.runs) <= most:
        headers = ["row", "seed", "state", "", ""]
        return text_table(headers, [[run.name, str(run.seed), *_cells(run)] for run in status.runs], [1], width)
    rows: dict[str, list[JobStatus]] = {}
    for run in status.runs:
        rows.setdefault(run.name, []).append(run)
    if len(rows) <= most:
        headers = ["row", "runs", "states", "test accuracy", ""]
        return text_table(headers, [_grouped(row, of_row) for row, of_row in rows.items()], [1], width)
    order = {RUNNING: 0, FAILED: 1, INTERRUPTED: 2}
    shown = sorted((run for run in status.runs if run.state in order), key=lambda run: order[run.state])
    lines = [[run.name, str(run.seed), *_cells(run)] for run in shown[:most]]
    table = text_table(["row", "seed", "state", "", ""], lines, [1], width) if lines else ""
    hidden = len(status.runs) - len(lines)
    return f"{table}\nand {hidden} more run{'s' * (hidden != 1)}; --row ID shows some, --json shows all".lstrip("\n")


def _first(lines: list[list[str]], most: int) -> list[list[str]]:
    more = len(lines) - most
    return lines if more <= 0 else [*lines[:most], [f"and {more} more", "", "", ""]]


def _cells(job: JobStatus) -> list[str]:
    """A job's state, its progress bar or accuracy, and its details."""
    if job.state == DONE:
        return [job.state, f"test accuracy {job.test_acc:.2%}" if job.test_acc is not None else "", ""]
    if job.state == FAILED:
        return [job.state, "", job.error or ""]
    if job.state == WAITING:
        return [job.state, "", ""]
    if job.fraction is None:
        return [job.state, "", "starting" if job.state == RUNNING else "while starting"]
    done = f"{bar(job.fraction, 12)} {job.fraction:4.0%}"
    if job.state == INTERRUPTED:
        epoch = f"in epoch {job.details['epoch']}/{job.details['epochs']}; " if "epochs" in job.details else ""
        return [job.state, done, f"{epoch}run it again"]
    return [job.state, done, ", ".join(_details(job))]


def _details(job: JobStatus) -> list[str]:
    """What a running job reports, as short texts."""
    values, texts = job.details, []
    if "epoch" in values and "epochs" in values:
        texts.append(f"epoch {values['epoch']}/{values['epochs']}")
    elif job.phase and job.job != job.phase:
        texts.append(job.phase)
    if "loss" in values:
        texts.append(f"loss {values['loss']:.3f}")
    if job.fraction == 1:
        texts.append("final evaluation" if job.phase == "training" else "writing")
    elif job.seconds_left is not None:
        texts.append(f"{duration(job.seconds_left)} left")
    return texts


def _job_line(job: JobStatus) -> list[str]:
    """A download or feature extraction."""
    rows = f" of {', '.join(job.rows)}" if job.rows else ""
    name = "features" + rows if job.job == "features" else f"weights {job.name}"
    return [shorten(name, 30), *_cells(job)]


def _grouped(row: str, runs: list[JobStatus]) -> list[str]:
    """All runs of a row in one line."""
    states = [run.state for run in runs]
    in_order = (DONE, RUNNING, FAILED, INTERRUPTED, WAITING)
    counts = ", ".join(f"{states.count(state)} {state}" for state in in_order if state in states)
    found = [run.test_acc for run in runs if run.test_acc is not None]
    mean = f"mean {sum(found) / len(found):.2%}" if found else ""
    running = [run for run in runs if run.state == RUNNING and run.fraction is not None]
    failed = next((run.error for run in runs if run.error), "")
    detail = failed or ", ".join(f"seed {run.seed} {run.fraction:.0%}" for run in running)
    return [row, str(len(runs)), counts, mean, detail or ""]


def format_change(job: JobStatus) -> str:
    """One line for a list of changes."""
    what = f"row {job.name}, seed {job.seed}" if job.job == "train" else _job_line(job)[0]
    return shorten(f"{time.strftime('%H:%M:%S')}  {what}: " + "  ".join(cell for cell in _cells(job) if cell), 80)


def watch(workflow: Workflow, as_json: bool = False, seconds: float = SECONDS_BETWEEN_LOOKS) -> None:
    """Show the status until every run is done or has failed, or the invocation seen running has ended.

    A terminal shows the whole status at each look. Any other output gets the whole status once, and then one line for
    each change.

    Args:
        as_json: print a line of JSON for each look that finds a change.
        seconds: between two looks.
    """
    observer = Observer(workflow)
    on_terminal = sys.stdout.isatty() and not as_json
    seen: dict[tuple, tuple] = {}
    was_running = False
    while True:
        status = observer.look()
        jobs = {(job.job, job.name, job.seed): job for job in [*status.jobs, *status.runs]}
        changed = [job for key, job in jobs.items() if seen.get(key) != job.milestone]
        if on_terminal:
            size = shutil.get_terminal_size()
            print(
                CLEAR + format_status(status, min(MOST_LINES, max(5, size.lines - 8)), min(80, size.columns)),
                flush=True,
            )
        elif as_json:
            if changed:
                print(json.dumps(status.as_json()), flush=True)
        elif not seen:
            print(format_status(status), flush=True)
        else:
            for job in changed[:MOST_LINES]:
                print(format_change(job), flush=True)
        seen = {key: job.milestone for key, job in jobs.items()}
        is_running = any(job.state == RUNNING for job in jobs.values())
        if status.all_ended or (was_running and not status.invocation and not is_running):
            if not on_terminal and not as_json and was_running:
                print(_counts(status, 80), flush=True)
            return
        was_running = was_running or bool(status.invocation)
        time.sleep(seconds)

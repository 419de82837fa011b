"""The status as text: a table of runs in 80 columns without colours, drawn again and again or as a list of changes."""

import json
import shutil
import sys
import time

from ..common.text_table import bar, paragraph, shorten, text_table
from ..common.units import duration
from ..planning.workflow import Workflow
from .status import DONE, FAILED, INTERRUPTED, RUNNING, WAITING, JobStatus, Observer, Status

# More runs than this are shown a line a row, more rows by those that run, failed or were interrupted.
MOST_LINES = 40
SECONDS_BETWEEN_LOOKS = 2.0
CLEAR = "\x1b[H\x1b[J"


def format_status(status: Status, most: int = MOST_LINES, width: int = 80) -> str:
    """The runs' states, after a line that counts them and what runs before them."""
    parts = [_summary(status, width)]
    jobs = [_before(job) for job in status.jobs]
    if jobs:
        parts.append(text_table(["before", "", "", ""], _first(jobs, most), width=width))
    parts.append(_runs(status, most, width))
    return "\n\n".join(part for part in parts if part)


def _summary(status: Status, width: int) -> str:
    counts = ", ".join(f"{number} {state}" for state, number in status.counts.items())
    works = f"a run works there ({status.workflow})" if status.workflow else "no run works there"
    n = len(status.runs)
    return paragraph(f"{status.results}: {n} run{'s' * (n != 1)}: {counts}; {works}.", "  ", width)


def _runs(status: Status, most: int, width: int) -> str:
    if len(status.runs) <= most:
        headers = ["row", "seed", "state", "", ""]
        return text_table(headers, [[run.name, str(run.seed), *_cells(run)] for run in status.runs], [1], width)
    rows: dict[str, list[JobStatus]] = {}
    for run in status.runs:
        rows.setdefault(run.name, []).append(run)
    if len(rows) <= most:
        return text_table(["row", "runs", "", "", ""], [_grouped(row, runs) for row, runs in rows.items()], [1], width)
    order = {RUNNING: 0, FAILED: 1, INTERRUPTED: 2}
    shown = sorted((run for run in status.runs if run.state in order), key=lambda run: order[run.state])
    lines = [[run.name, str(run.seed), *_cells(run)] for run in shown[:most]]
    table = text_table(["row", "seed", "state", "", ""], lines, [1], width) if lines else ""
    hidden = len(status.runs) - len(lines)
    return f"{table}\nand {hidden} more runs; --row ID shows them, --json shows all".lstrip("\n")


def _first(lines: list[list[str]], most: int) -> list[list[str]]:
    more = len(lines) - most
    return lines if more <= 0 else [*lines[:most], [f"and {more} more", "", "", ""]]


def _cells(job: JobStatus) -> list[str]:
    """State, bar or figure, and the rest of a job's line."""
    if job.state == DONE:
        return [job.state, f"test {job.test_acc:.2%}" if job.test_acc is not None else "", ""]
    if job.state == FAILED:
        return [job.state, "", job.error or ""]
    if job.state == WAITING:
        return [job.state, "", ""]
    if job.fraction is None:
        return [job.state, "", "starting" if job.state == RUNNING else "before it began"]
    done = f"{bar(job.fraction, 12)} {job.fraction:4.0%}"
    if job.state == INTERRUPTED:
        epoch = f"in epoch {job.figures['epoch']}/{job.figures['epochs']}; " if "epochs" in job.figures else ""
        return [job.state, done, f"{epoch}run it again"]
    return [job.state, done, ", ".join(_details(job))]


def _details(job: JobStatus) -> list[str]:
    figures, details = job.figures, []
    if "epoch" in figures and "epochs" in figures:
        details.append(f"epoch {figures['epoch']}/{figures['epochs']}")
    elif job.phase and job.job != job.phase:
        details.append(job.phase)
    if "loss" in figures:
        details.append(f"loss {figures['loss']:.3f}")
    if job.fraction == 1:
        details.append("final evaluation" if job.phase == "training" else "writing")
    elif job.seconds_left is not None:
        details.append(f"{duration(job.seconds_left)} left")
    return details


def _before(job: JobStatus) -> list[str]:
    rows = f" of {', '.join(job.rows)}" if job.rows else ""
    name = "features" + rows if job.job == "features" else f"weights {job.name}"
    return [shorten(name, 30), *_cells(job)]


def _grouped(row: str, runs: list[JobStatus]) -> list[str]:
    """A row with all its seeds in one line."""
    states = [run.state for run in runs]
    in_order = (DONE, RUNNING, FAILED, INTERRUPTED, WAITING)
    counts = ", ".join(f"{states.count(state)} {state}" for state in in_order if state in states)
    found = [run.test_acc for run in runs if run.test_acc is not None]
    mean = f"test {sum(found) / len(found):.2%}" if found else ""
    running = [run for run in runs if run.state == RUNNING and run.fraction is not None]
    failed = next((run.error for run in runs if run.error), "")
    detail = failed or ", ".join(f"seed {run.seed} {run.fraction:.0%}" for run in running)
    return [row, str(len(runs)), counts, mean, detail or ""]


def format_change(job: JobStatus) -> str:
    """One line for a list of changes."""
    what = f"row {job.name}, seed {job.seed}" if job.job == "train" else _before(job)[0]
    return shorten(f"{time.strftime('%H:%M:%S')}  {what}: " + "  ".join(cell for cell in _cells(job) if cell), 80)


def watch(plan: Workflow, as_json: bool = False, seconds: float = SECONDS_BETWEEN_LOOKS) -> None:
    """Look again and again until every run is done or has failed, or the workflow that was seen at work has ended.

    A terminal shows the whole status again each time; anything else gets it once, and then a line a change. With
    `as_json`, a line of JSON for each look that finds a change.
    """
    observer = Observer(plan)
    on_terminal = sys.stdout.isatty() and not as_json
    seen: dict[tuple, tuple] = {}
    worked = False
    while True:
        status = observer.look()
        jobs = {(job.job, job.name, job.seed): job for job in [*status.jobs, *status.runs]}
        news = [job for key, job in jobs.items() if seen.get(key) != job.changed_when]
        if on_terminal:
            size = shutil.get_terminal_size()
            print(
                CLEAR + format_status(status, min(MOST_LINES, max(5, size.lines - 8)), min(80, size.columns)),
                flush=True,
            )
        elif as_json:
            if news:
                print(json.dumps(status.as_json()), flush=True)
        elif not seen:
            print(format_status(status), flush=True)
        else:
            for job in news[:MOST_LINES]:
                print(format_change(job), flush=True)
        seen = {key: job.changed_when for key, job in jobs.items()}
        runs = any(job.state == RUNNING for job in jobs.values())
        if status.all_ended or (worked and not status.workflow and not runs):
            if not on_terminal and not as_json and worked:
                print(_summary(status, 80), flush=True)
            return
        worked = worked or bool(status.workflow)
        time.sleep(seconds)

"""How far a workflow is, from nothing but the files that its jobs write: local or on a cluster, running or ended."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..common.errors import InputError, printable
from ..common.partials import is_alive, process_namespace
from ..planning.invocation_lock import LOCK_FILE, holder_of
from ..planning.workflow import Workflow
from ..runs.finished_runs import Metrics, read_run_metrics
from ..settings.config import pretrained_models

# A job touches its file several times a minute. On another machine, whose process cannot be asked for, one that was not
# touched for so long is given up; clocks may differ by a minute or two.
STALE_SECONDS = 300
LOG_END_BYTES = 64_000

WAITING, RUNNING, DONE, FAILED, INTERRUPTED = STATES = ("waiting", "running", "done", "failed", "interrupted")
# Nothing more happens to these by themselves.
ENDED = (DONE, FAILED)


@dataclass(frozen=True)
class JobStatus:
    """How far one job is.

    job: `train`, `features` or `fetch`; name: of what it makes: the run's row, the features' identity, the model.
    fraction: of the phase that it is in, from 0 to 1; None if that is not known. figures: what else it says, such as
    `epoch`, `epochs`, `step`, `loss`. test_acc: of a finished run. error: the last error in the log of a failed one.
    """

    job: str
    name: str
    state: str
    seed: int | None = None
    phase: str | None = None
    fraction: float | None = None
    seconds_left: float | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    test_acc: float | None = None
    error: str | None = None
    rows: tuple[str, ...] = ()

    @property
    def changed_when(self) -> tuple:
        """What a reader of a list of changes wants to know; percents are not among it."""
        return self.state, self.figures.get("epoch")


@dataclass(frozen=True)
class Status:
    """All runs of the selected rows, and the jobs before them that run or have failed.

    workflow: the run of Snakemake that works there, as far as this machine can tell.
    """

    results: str
    workflow: str | None
    jobs: list[JobStatus]
    runs: list[JobStatus]

    @property
    def counts(self) -> dict[str, int]:
        """How many runs are in each state; states without any are left out."""
        counted = Counter(run.state for run in self.runs)
        return {state: counted[state] for state in STATES if counted[state]}

    @property
    def all_ended(self) -> bool:
        return all(run.state in ENDED for run in self.runs)

    def as_json(self) -> dict:
        """The same as plain data."""
        return {
            "results": self.results,
            "workflow": self.workflow,
            "counts": self.counts,
            "jobs": [_plain(job) for job in self.jobs],
            "runs": [_plain(run) for run in self.runs],
        }


def _plain(job: JobStatus) -> dict:
    return {key: value for key, value in asdict(job).items() if value not in (None, {}, ())}


class Observer:
    """Looks at a results folder, again and again; what has not changed is read once."""

    def __init__(self, plan: Workflow):
        self.plan, self.paths = plan, plan.paths
        self._metrics: dict[Path, tuple[int, Metrics | str]] = {}

    def look(self) -> Status:
        """How far everything is now.

        Raises:
            InputError: the results folder cannot be read.
        """
        results = Path(self.plan.config.results)
        workflow = holder_of(results)
        began = _changed(results / LOCK_FILE) if workflow else None
        reports = self._reports()
        runs = [self._run(row, seed, reports, began) for row in self.plan.selected for seed in self.plan.config.seeds]
        return Status(str(results), workflow, self._jobs_before(reports, began), runs)

    def _reports(self) -> dict[str, Path]:
        with suppress(OSError):
            return {file.name: file for file in self.paths.all_progress.iterdir() if file.suffix == ".json"}
        return {}

    def _run(self, row: str, seed: int, reports: dict[str, Path], began: int | None) -> JobStatus:
        folder = self.paths.row(row, seed)
        found = self._finished(row, folder / "metrics.json")
        if isinstance(found, str):
            return JobStatus("train", row, FAILED, seed, error=found)
        if found is not None:
            return JobStatus("train", row, DONE, seed, test_acc=found.test_acc)
        return self._job("train", row, folder, self.paths.train_log(row, seed), reports, began, seed=seed)

    def _finished(self, row: str, file: Path) -> Metrics | str | None:
        """A run's metrics; None if it has not ended, or had other options; what is wrong with a damaged file."""
        changed = _changed(file)
        if changed is None:
            return None
        if self._metrics.get(file, (None, None))[0] != changed:
            try:
                self._metrics[file] = changed, read_run_metrics(file)
            except InputError as error:
                self._metrics[file] = changed, str(error)
        metrics = self._metrics[file][1]
        return metrics if isinstance(metrics, str) or not metrics.differences(self.plan.experiments[row]) else None

    def _jobs_before(self, reports: dict[str, Path], began: int | None) -> list[JobStatus]:
        """The downloads and features that run, failed or were interrupted."""
        jobs = []
        for model in pretrained_models(self.plan.selected):
            weights = self.paths.weights(model)
            if not weights.is_file():
                jobs.append(self._job("fetch", model, weights, self.paths.weights_log(model), reports, began))
        users: dict[str, dict[str, None]] = {}
        for row in self.plan.selected:
            for seed in self.plan.config.seeds:
                for file in self.plan.features(row, seed):
                    users.setdefault(file, {})[row] = None
        for file, rows in users.items():
            if not Path(file).is_file():
                identity = Path(file).stem
                log = self.paths.features_log(identity)
                jobs.append(self._job("features", identity, Path(file), log, reports, began, rows=tuple(rows)))
        return [job for job in jobs if job.state != WAITING]

    def _job(
        self, job: str, name: str, made: Path, log: Path, reports: dict[str, Path], began: int | None, **more: Any
    ) -> JobStatus:
        """The state of a job whose result is not there."""
        file = reports.get(self.paths.progress(made).name)
        if file is not None and (report := _read_report(file)) is not None:
            said = _said(report)
            if report["state"] != "failed":
                return JobStatus(job, name, RUNNING if _lives(report, file) else INTERRUPTED, **said, **more)
            if not _older(_changed(file), began):
                return JobStatus(job, name, FAILED, error=_last_error(log) or f"error: {report.get('error')}", **more)
            return JobStatus(job, name, WAITING, **more)
        # Without a report it has failed only if it could not even begin.
        if not _older(_changed(log), began) and (error := _last_error(log)):
            return JobStatus(job, name, FAILED, error=error, **more)
        return JobStatus(job, name, WAITING, **more)


def look(plan: Workflow) -> Status:
    """How far everything is now."""
    return Observer(plan).look()


def _changed(file: Path) -> int | None:
    """When a file was last changed, in nanoseconds; None if it is not there."""
    with suppress(OSError):
        return file.stat().st_mtime_ns
    return None


def _older(changed: int | None, began: int | None) -> bool:
    """Whether something was left by an earlier run of the workflow than the one that works now."""
    return changed is not None and began is not None and changed < began


def _read_report(file: Path) -> dict | None:
    with suppress(OSError, ValueError):
        report = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(report, dict) and report.get("state") in ("running", "failed"):
            return report
    return None


def _lives(report: dict, file: Path) -> bool:
    """Whether the job that wrote a report still runs."""
    if (
        report.get("namespace") == process_namespace()
        and isinstance(process := report.get("process"), int)
        and not is_alive(process)
    ):
        return False
    changed = _changed(file)
    return changed is not None and time.time() - changed / 1e9 < STALE_SECONDS


def _said(report: dict) -> dict:
    """What a report says, as far as it is what it should be."""
    done, total = _number(report.get("done")), _number(report.get("total"))
    figures = {}
    for name in ("epoch", "epochs", "step", "loss", "train_acc", "val_acc"):
        if (value := _number(report.get(name))) is not None:
            figures[name] = value
    phase = report.get("phase")
    return {
        "phase": printable(phase) if isinstance(phase, str) else None,
        "fraction": min(done / total, 1.0) if done is not None and total else None,
        "seconds_left": _number(report.get("seconds_left")),
        "figures": figures,
    }


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _last_error(log: Path) -> str | None:
    """The last line of a log that begins with `error:`."""
    with suppress(OSError), open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_END_BYTES))
        lines = file.read().decode("utf-8", errors="replace").replace("\r", "\n").splitlines()
        return next((printable(line) for line in reversed(lines) if line.startswith("error: ")), None)
    return None

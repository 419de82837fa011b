"""The state of each run, read from the files that jobs write, so that it works for local and for cluster jobs."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..common.errors import InputError, printable
from ..common.progress import is_running, read_report
from ..planning.invocation_lock import LOCK_FILE, running_invocation
from ..planning.workflow import Workflow
from ..runs.finished_runs import Metrics, read_run_metrics
from ..settings.rows import pretrained_models

LOG_END_BYTES = 64_000

WAITING, RUNNING, DONE, FAILED, INTERRUPTED = STATES = ("waiting", "running", "done", "failed", "interrupted")
# Runs in these states do not change until they are run again.
ENDED = (DONE, FAILED)


@dataclass(frozen=True)
class JobStatus:
    """The state of one job.

    Attributes:
        job: `train`, `features` or `fetch`.
        name: of its result: the run's row, the features' identity, or the model.
        state: one of STATES.
        seed: of a run.
        phase: what a running or interrupted job does or did last, such as `training`.
        fraction: of the phase, from 0 to 1; None if it is not known.
        seconds_left: in the phase.
        details: further values that the job reports, such as `epoch`, `epochs`, `step`, `loss`.
        test_acc: of a finished run, a fraction.
        error: the last error in the log of a failed job.
        rows: those that need the features.
    """

    job: str
    name: str
    state: str
    seed: int | None = None
    phase: str | None = None
    fraction: float | None = None
    seconds_left: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    test_acc: float | None = None
    error: str | None = None
    rows: tuple[str, ...] = ()

    @property
    def milestone(self) -> tuple:
        """What a list of changes reports: the state and the epoch, but not each percent."""
        return self.state, self.details.get("epoch")


@dataclass(frozen=True)
class Status:
    """The state of a results folder.

    Attributes:
        results: the folder.
        invocation: the running one, as `process 123 on HOST`; None if this machine sees none.
        jobs: downloads and feature extractions that run, failed or were interrupted.
        runs: all runs of the selected rows.
    """

    results: str
    invocation: str | None
    jobs: list[JobStatus]
    runs: list[JobStatus]

    @property
    def counts(self) -> dict[str, int]:
        """How many runs are in each state, without the states of no run."""
        counted = Counter(run.state for run in self.runs)
        return {state: counted[state] for state in STATES if counted[state]}

    @property
    def all_ended(self) -> bool:
        """Whether every run is done or has failed."""
        return all(run.state in ENDED for run in self.runs)

    def as_json(self) -> dict:
        """The status as plain data."""
        return {
            "results": self.results,
            "invocation": self.invocation,
            "counts": self.counts,
            "jobs": [_plain(job) for job in self.jobs],
            "runs": [_plain(run) for run in self.runs],
        }


def _plain(job: JobStatus) -> dict:
    return {key: value for key, value in asdict(job).items() if value not in (None, {}, ())}


class Observer:
    """Reads the status of a results folder repeatedly. Metrics files that have not changed are read once."""

    def __init__(self, workflow: Workflow):
        self.workflow, self.paths = workflow, workflow.paths
        self._metrics: dict[Path, tuple[int, Metrics | str]] = {}

    def look(self) -> Status:
        """The status now.

        Raises:
            InputError: the results folder cannot be read.
        """
        results = Path(self.workflow.config.results)
        invocation = running_invocation(results)
        began = _modified_ns(results / LOCK_FILE) if invocation else None
        reports = self._reports()
        seeds = self.workflow.config.seeds
        runs = [self._run_status(row, seed, reports, began) for row in self.workflow.selected for seed in seeds]
        return Status(str(results), invocation, self._jobs_before(reports, began), runs)

    def _reports(self) -> dict[str, Path]:
        """The progress files, by name."""
        with suppress(OSError):
            return {file.name: file for file in self.paths.all_progress.iterdir() if file.suffix == ".json"}
        return {}

    def _run_status(self, row: str, seed: int, reports: dict[str, Path], began: int | None) -> JobStatus:
        folder = self.paths.row(row, seed)
        found = self._finished(row, folder / "metrics.json")
        if isinstance(found, str):
            return JobStatus("train", row, FAILED, seed, error=found)
        if found is not None:
            return JobStatus("train", row, DONE, seed, test_acc=found.test_acc)
        return self._unfinished("train", row, folder, self.paths.train_log(row, seed), reports, began, seed=seed)

    def _finished(self, row: str, file: Path) -> Metrics | str | None:
        """A run's metrics; None if it has not ended or had other options; the error of a damaged file."""
        changed = _modified_ns(file)
        if changed is None:
            return None
        if self._metrics.get(file, (None, None))[0] != changed:
            try:
                self._metrics[file] = changed, read_run_metrics(file)
            except InputError as error:
                self._metrics[file] = changed, str(error)
        metrics = self._metrics[file][1]
        return metrics if isinstance(metrics, str) or not metrics.differences(self.workflow.experiments[row]) else None

    def _jobs_before(self, reports: dict[str, Path], began: int | None) -> list[JobStatus]:
        """The downloads and feature extractions that run, failed or were interrupted."""
        jobs = []
        for model in pretrained_models(self.workflow.selected):
            weights = self.paths.weights(model)
            if not weights.is_file():
                jobs.append(self._unfinished("fetch", model, weights, self.paths.weights_log(model), reports, began))
        users: dict[str, dict[str, None]] = {}
        for row in self.workflow.selected:
            for seed in self.workflow.config.seeds:
                for file in self.workflow.feature_files(row, seed):
                    users.setdefault(file, {})[row] = None
        for file, rows in users.items():
            if not Path(file).is_file():
                identity = Path(file).stem
                log = self.paths.features_log(identity)
                jobs.append(self._unfinished("features", identity, Path(file), log, reports, began, rows=tuple(rows)))
        return [job for job in jobs if job.state != WAITING]

    def _unfinished(
        self, job: str, name: str, made: Path, log: Path, reports: dict[str, Path], began: int | None, **more: Any
    ) -> JobStatus:
        """The state of a job whose result does not exist. made: that result; began: when the invocation did, in ns."""
        file = reports.get(self.paths.progress(made).name)
        if file is not None and (report := read_report(file)) is not None:
            reported = _reported(report)
            if report["state"] != "failed":
                return JobStatus(job, name, RUNNING if is_running(report, file) else INTERRUPTED, **reported, **more)
            if not _is_older(_modified_ns(file), began):
                return JobStatus(job, name, FAILED, error=_last_error(log) or f"error: {report.get('error')}", **more)
            return JobStatus(job, name, WAITING, **more)
        # A job without a report failed only if it ended before its first report.
        if not _is_older(_modified_ns(log), began) and (error := _last_error(log)):
            return JobStatus(job, name, FAILED, error=error, **more)
        return JobStatus(job, name, WAITING, **more)


def look(workflow: Workflow) -> Status:
    """The status now.

    Raises:
        InputError: the results folder cannot be read.
    """
    return Observer(workflow).look()


def _modified_ns(file: Path) -> int | None:
    """When a file was last modified, in nanoseconds; None if it does not exist."""
    with suppress(OSError):
        return file.stat().st_mtime_ns
    return None


def _is_older(changed: int | None, began: int | None) -> bool:
    """Whether a file is from before the running invocation, which began at this time."""
    return changed is not None and began is not None and changed < began


def _reported(report: dict) -> dict:
    """The valid values of a report, as fields of JobStatus."""
    done, total = _number_or_none(report.get("done")), _number_or_none(report.get("total"))
    details = {}
    for name in ("epoch", "epochs", "step", "loss", "train_acc", "val_acc"):
        if (value := _number_or_none(report.get(name))) is not None:
            details[name] = value
    phase = report.get("phase")
    return {
        "phase": printable(phase) if isinstance(phase, str) else None,
        "fraction": min(done / total, 1.0) if done is not None and total else None,
        "seconds_left": _number_or_none(report.get("seconds_left")),
        "details": details,
    }


def _number_or_none(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _last_error(log: Path) -> str | None:
    """The last error in a log."""
    with suppress(OSError), open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_END_BYTES))
        lines = file.read().decode("utf-8", errors="replace").replace("\r", "\n").splitlines()
        errors = [line.partition(" ERROR ")[2] for line in lines]
        return next((printable(f"error: {error}") for error in reversed(errors) if error), None)
    return None

"""What an invocation will download, compute and need. The command `plan` shows it; nothing is changed."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from ..common.files import existing_part
from ..common.gpus import gpu_memory_mb
from ..common.hardware import machine_memory_mb, usable_cores
from ..common.torch_setup import select_device
from ..data.dataset import described
from ..data.download.needed_files import Needed, needed_files
from ..runs.finished_runs import Runs, read_runs
from ..settings.feature_spec import FeatureSpec
from ..settings.rows import pretrained_models
from .checks import examples_on_disk
from .costs import pretraining_cost
from .data_fit import misfits
from .machine_speed import START_UP_SECONDS, Speed, estimated_seconds, measure_speed
from .memory_fit import Machine, memory_shortage
from .resources import jobs_at_once
from .up_to_date import metadata_of
from .workflow import Workflow

# The size of a run's three files, its log and Snakemake's records of them.
RUN_BYTES = 50_000


@dataclass(frozen=True)
class FeatureEstimate:
    """A feature file.

    Attributes:
        identity: its name.
        rows: the selected rows that use it.
        exists: whether it has been extracted.
        seconds: to extract it, start-up included; 0 if it exists.
        bytes: its size.
    """

    identity: str
    rows: list[str]
    exists: bool
    seconds: float
    bytes: int


@dataclass(frozen=True)
class RowEstimate:
    """A row of the table. Times are those that remain.

    Attributes:
        row, model, trainable_layers: id and options.
        runs: how many runs the row has, one for each seed.
        done: how many of them are finished with the row's present options.
        checkpoint_epochs: epochs that the checkpoints of interrupted runs hold, together.
        features: the identities of its feature files.
        features_seconds: to extract those that are missing, also if other rows need them too.
        training_seconds: of the runs that are not done, start-up included.
        host_mb: memory of its largest job in MiB.
        device_mb: GPU memory of its largest job in MiB; None on the CPU.
        features_bytes: size of the missing feature files.
        checkpoint_bytes: size of its checkpoints while it runs.
        threads: of a job.
    """

    row: str
    model: str
    trainable_layers: str
    runs: int
    done: int
    checkpoint_epochs: int
    features: list[str]
    features_seconds: float
    training_seconds: float
    host_mb: int
    device_mb: int | None
    features_bytes: int
    checkpoint_bytes: int
    threads: int

    @property
    def disk_bytes(self) -> int:
        """Bytes on the disk, without what all rows share."""
        return self.features_bytes + self.checkpoint_bytes + RUN_BYTES * (self.runs - self.done)


@dataclass(frozen=True)
class Plan:
    """What an invocation will download, compute and need.

    Attributes:
        machine: its memory and cores.
        speeds: measured, by the number of threads.
        device, precision, results: of the configuration; device is the selected one.
        seeds: how many there are.
        lengths_known: whether the data is tokenized, so that estimates use its own lengths.
        needed: the files that jobs need from elsewhere.
        rows, features: the selected rows and their feature files.
        memory_shortages: by row that does not fit into the machine's memory, which job needs how much, and what to do.
        misfits: by row that cannot be trained on the data, why.
        examples: what is known of the data, in sentences.
        disks: for each disk that is written to, its folder, the bytes needed and the bytes free.
        seconds: of all jobs, at the same time where cores allow, without downloads and reports.
    """

    machine: Machine
    speeds: dict[int, Speed]
    device: str
    precision: str
    results: str
    seeds: int
    lengths_known: bool
    needed: list[Needed]
    rows: list[RowEstimate]
    features: list[FeatureEstimate]
    memory_shortages: dict[str, str]
    misfits: dict[str, str]
    examples: list[str]
    disks: list[tuple[str, int, int]]
    seconds: float

    def as_json(self) -> dict:
        """The plan as plain data."""
        content = asdict(self)
        content["disks"] = [dict(zip(("folder", "needed_bytes", "free_bytes"), disk)) for disk in self.disks]
        content["download_bytes"] = sum(file.download_bytes for file in self.needed)
        return content


def plan_invocation(workflow: Workflow) -> Plan:
    """Count what remains to be done, and measure the machine. It takes some seconds.

    Raises:
        InputError: a finished run's metrics.json is damaged, or the data on this machine is wrong.
    """
    return _Planner(workflow).plan()


class _Planner:
    def __init__(self, workflow: Workflow):
        self.workflow, self.config = workflow, workflow.config
        self.device = select_device(workflow.config.device).type
        self.machine = this_machine(workflow)
        self.finished: Runs = read_runs(workflow.config, workflow.selected)
        self.speeds: dict[int, Speed] = {}
        self.features: dict[str, FeatureEstimate] = {}

    def plan(self) -> Plan:
        needed = needed_files(self.config, self.workflow.models, pretrained_models(self.workflow.selected))
        examples = examples_on_disk(self.config)
        rows = [self._row(row) for row in self.workflow.selected]
        shortages = {row: memory_shortage(self.workflow, row, self.machine) for row in self.workflow.selected}
        wanted = {identity for row in rows if row.done < row.runs for identity in row.features}
        missing = [file for file in self.features.values() if not file.exists and file.identity in wanted]
        return Plan(
            machine=self.machine,
            speeds=self.speeds,
            device=self.device,
            precision=self.config.precision,
            results=self.config.results,
            seeds=len(self.config.seeds),
            lengths_known=self.workflow.lengths().known,
            needed=needed,
            rows=rows,
            features=list(self.features.values()),
            memory_shortages={row: reason for row, reason in shortages.items() if reason},
            misfits=misfits(self.config, self.workflow.models, self.workflow.selected, examples),
            examples=described(examples),
            disks=self._disks(needed, missing, rows),
            seconds=self._seconds(missing, rows, needed),
        )

    def _speed(self, threads: int) -> Speed:
        threads = min(threads, self.machine.cores)
        if threads not in self.speeds:
            self.speeds[threads] = measure_speed(threads, self.device, self.config.precision)
        return self.speeds[threads]

    def _row(self, row: str) -> RowEstimate:
        experiment = self.workflow.experiments[row]
        threads = self.workflow.threads(experiment.model_size)
        speed = self._speed(threads)
        done = {run.seed for run in self.finished[row]}
        waiting = [seed for seed in self.config.seeds if seed not in done]
        # By identity: whether a run that is not done needs the features.
        files: dict[str, bool] = {}
        for seed in self.config.seeds:
            if spec := self.workflow.feature_spec(row, seed):
                identity = self._add_features(spec, row, speed)
                files[identity] = files.get(identity, False) or seed in waiting
        missing = [self.features[i] for i, is_needed in files.items() if is_needed and not self.features[i].exists]
        epochs = {seed: _checkpoint_epochs(self.workflow, row, seed) for seed in waiting}
        run_seconds = estimated_seconds(self.workflow.training_cost(row), speed)
        runs_left = sum(1 - min(epoch / experiment.num_epochs, 1) for epoch in epochs.values())
        resources = self.workflow.row_resources(row)
        return RowEstimate(
            row=row,
            model=experiment.model_size,
            trainable_layers=experiment.trainable_layers,
            runs=len(self.config.seeds),
            done=len(done),
            checkpoint_epochs=sum(epochs.values()),
            features=list(files),
            features_seconds=sum(file.seconds for file in missing),
            training_seconds=run_seconds * runs_left + START_UP_SECONDS * len(waiting),
            host_mb=max(job.host_mb for job in resources.values()),
            device_mb=max(job.device_mb for job in resources.values()) if self.device != "cpu" else None,
            features_bytes=sum(file.bytes for file in missing),
            checkpoint_bytes=resources["training"].disk_mb * 2**20 if waiting else 0,
            threads=min(threads, self.machine.cores),
        )

    def _add_features(self, spec: FeatureSpec, row: str, speed: Speed) -> str:
        """Add the features that a row uses to those of the plan, and return their identity."""
        file = Path(self.workflow.feature_file(spec))
        if file.stem not in self.features:
            cost, exists = self.workflow.feature_cost(spec), file.is_file()
            seconds = 0.0 if exists else estimated_seconds(cost, speed) + START_UP_SECONDS
            self.features[file.stem] = FeatureEstimate(file.stem, [], exists, seconds, int(cost.bytes_written))
        rows = self.features[file.stem].rows
        if row not in rows:
            rows.append(row)
        return file.stem

    def _seconds(self, missing: list[FeatureEstimate], rows: list[RowEstimate], needed: list[Needed]) -> float:
        """Seconds of all jobs, which share the cores and GPUs; at least those of the longest training run."""
        gpus, cores = self.workflow.machine_gpus(), self.machine.cores
        threads = {row.row: row.threads for row in rows}
        # For each kind of job: the seconds of all together, their number, and the threads of one.
        jobs = [(row.training_seconds, row.runs - row.done, row.threads) for row in rows]
        jobs += [(file.seconds, 1, threads[file.rows[0]]) for file in missing]
        for model in (self.workflow.models[file.model] for file in needed if file.model and file.state == "made here"):
            jobs.append((estimated_seconds(pretraining_cost(model), self._speed(1)) + START_UP_SECONDS, 1, 1))
        longest_run = max((row.training_seconds / row.runs for row in rows), default=0.0)
        if not gpus:
            return max(sum(seconds * of_one / cores for seconds, _, of_one in jobs), longest_run)
        # A GPU computes one job at a time. Others start up meanwhile.
        starts = START_UP_SECONDS * sum(number for _, number, _ in jobs)
        computing = sum(seconds for seconds, _, _ in jobs) - starts
        return max(computing / gpus + starts / jobs_at_once(gpus, cores), longest_run)

    def _disks(
        self, needed: list[Needed], missing: list[FeatureEstimate], rows: list[RowEstimate]
    ) -> list[tuple[str, int, int]]:
        """Bytes needed in the results folder and the download cache, added up if they are on one disk."""
        to_cache = sum(file.disk_bytes for file in needed if file.goes_to_cache)
        to_results = sum(file.disk_bytes for file in needed if not file.goes_to_cache)
        to_results += sum(file.bytes for file in missing) + max((row.checkpoint_bytes for row in rows), default=0)
        to_results += RUN_BYTES * sum(row.runs - row.done for row in rows)
        folders = [(Path(self.config.results), to_results), *([(_hub_cache(), to_cache)] if to_cache else [])]
        disks: dict[int, tuple[str, int, int]] = {}
        for folder, size in folders:
            existing = existing_part(folder)
            name, before, free = disks.get(existing.stat().st_dev, (str(folder), 0, shutil.disk_usage(existing).free))
            disks[existing.stat().st_dev] = (name, before + size, free)
        return list(disks.values())


def this_machine(workflow: Workflow) -> Machine:
    """What jobs may use on this machine."""
    gpus = gpu_memory_mb() if workflow.machine_gpus() else []
    return Machine(machine_memory_mb(), min(gpus) if gpus else None, workflow.cores or usable_cores())


def _checkpoint_epochs(workflow: Workflow, row: str, seed: int) -> int:
    """The epochs that the checkpoint of an interrupted run holds; 0 without a checkpoint."""
    try:
        return int(metadata_of(workflow.paths.checkpoint(workflow.paths.row(row, seed))).get("epoch", 0))
    except ValueError:
        return 0


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)

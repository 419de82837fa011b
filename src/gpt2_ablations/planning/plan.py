"""What a run will fetch, compute and need, before anything starts: `plan` shows it, nothing is changed."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from ..common.files import existing_part
from ..common.gpus import memory_mb
from ..common.hardware import machine_memory_mb, usable_cores
from ..common.torch_setup import select_device
from ..data.download.needed_files import Needed, needed_files
from ..gpt2.pretraining import BATCH_SIZE, STEPS
from ..runs.finished_runs import Runs, read_runs
from ..settings.config import ModelConfig, pretrained_models
from ..settings.feature_spec import FeatureSpec, feature_spec
from .costs import Cost, Lengths, feature_cost, read_lengths, training_cost
from .estimates import seconds, start_up_seconds
from .fitting import Machine, Misfit, misfit, row_resources
from .machine_speed import Speed, measure_speed
from .resources import jobs_at_once
from .workflow import Workflow

# A run's three files, its log and Snakemake's records of them.
RUN_BYTES = 50_000


@dataclass(frozen=True)
class FeatureEstimate:
    """A file of hidden states: which selected rows use it, whether it is there, seconds and bytes it will take."""

    identity: str
    rows: list[str]
    here: bool
    seconds: float
    bytes: int


@dataclass(frozen=True)
class RowEstimate:
    """A row of the table.

    runs, done: seeds, and those that have run with the row's present options; resumed: epochs that unfinished runs have
    behind them. Seconds are those still to come, with the jobs' start-up; features count for each row that needs them.
    Memory is what its largest job asks for. checkpoint_bytes: while it runs.
    """

    row: str
    model: str
    trainable_layers: str
    runs: int
    done: int
    resumed: int
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
        """What it will take on the disk, without what all rows share."""
        return self.features_bytes + self.checkpoint_bytes + RUN_BYTES * (self.runs - self.done)


@dataclass(frozen=True)
class Plan:
    """All of it. seconds: of the whole run, jobs side by side where cores allow, without downloads and reports.

    disks: for each disk that is written to, its folder, the bytes that it needs and those that are free.
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
    misfits: list[Misfit]
    disks: list[tuple[str, int, int]]
    seconds: float

    def as_json(self) -> dict:
        """The same as plain data."""
        content = asdict(self)
        content["disks"] = [dict(zip(("folder", "needed_bytes", "free_bytes"), disk)) for disk in self.disks]
        content["download_bytes"] = sum(file.download_bytes for file in self.needed)
        return content


def plan_invocation(plan: Workflow) -> Plan:
    """Count what is to be done and measure the machine; it takes some seconds.

    Raises:
        InputError: a finished run's metrics.json is damaged.
    """
    return _Planner(plan).run()


class _Planner:
    def __init__(self, plan: Workflow):
        self.plan, self.config = plan, plan.config
        self.device = _device(plan)
        self.machine = this_machine(plan)
        self.lengths: Lengths = read_lengths(plan.paths.tokens)
        self.finished: Runs = read_runs(plan.config, plan.selected)
        self.speeds: dict[int, Speed] = {}
        self.users: dict[str, list[str]] = {}
        self.features: dict[str, FeatureEstimate] = {}

    def run(self) -> Plan:
        needed = needed_files(self.config, self.plan.models, pretrained_models(self.plan.selected))
        rows = [self._row(row) for row in self.plan.selected]
        misfits = [found for row in self.plan.selected if (found := misfit(self.plan, row, self.machine))]
        wanted = {identity for row in rows if row.done < row.runs for identity in row.features}
        missing = [file for file in self.features.values() if not file.here and file.identity in wanted]
        return Plan(
            machine=self.machine,
            speeds=self.speeds,
            device=self.device,
            precision=self.config.precision,
            results=self.config.results,
            seeds=len(self.config.seeds),
            lengths_known=self.lengths.known,
            needed=needed,
            rows=rows,
            features=list(self.features.values()),
            misfits=misfits,
            disks=self._disks(needed, missing, rows),
            seconds=self._seconds(missing, rows, needed),
        )

    def _speed(self, threads: int) -> Speed:
        threads = min(threads, self.machine.cores)
        if threads not in self.speeds:
            self.speeds[threads] = measure_speed(threads, self.device, self.config.precision)
        return self.speeds[threads]

    def _row(self, row: str) -> RowEstimate:
        experiment = self.plan.experiments[row]
        model = self.plan.models[experiment.model_size]
        threads = self.plan.threads(experiment.model_size)
        speed = self._speed(threads)
        done = {run.seed for run in self.finished[row]}
        waiting = [seed for seed in self.config.seeds if seed not in done]
        files = {}
        for seed in self.config.seeds:
            spec = feature_spec(experiment, model, seed, self.config.precision)
            if spec is not None:
                (path,) = self.plan.features(row, seed)
                files[Path(path).stem] = (spec, seed in waiting)
        for identity, (spec, _) in files.items():
            self._add_features(identity, spec, row, speed)
        missing = [i for i, (_, is_needed) in files.items() if is_needed and not self.features[i].here]
        epochs = {seed: _epochs_kept(self.plan, row, seed) for seed in waiting}
        once = seconds(training_cost(experiment, model, self.config, self.lengths), speed)
        left = sum(1 - min(epoch / experiment.num_epochs, 1) for epoch in epochs.values())
        asked = row_resources(self.plan, row, self.config)
        return RowEstimate(
            row=row,
            model=experiment.model_size,
            trainable_layers=experiment.trainable_layers,
            runs=len(self.config.seeds),
            done=len(done),
            resumed=sum(epochs.values()),
            features=list(files),
            features_seconds=sum(self.features[i].seconds for i in missing),
            training_seconds=once * left + start_up_seconds(speed) * len(waiting),
            host_mb=max(request.host_mb for request in asked.values()),
            device_mb=max(request.device_mb for request in asked.values()) if self.device != "cpu" else None,
            features_bytes=sum(self.features[i].bytes for i in missing),
            checkpoint_bytes=asked["training"].disk_mb * 2**20 if waiting else 0,
            threads=min(threads, self.machine.cores),
        )

    def _add_features(self, identity: str, spec: FeatureSpec, row: str, speed: Speed) -> None:
        if identity in self.features:
            if row not in self.features[identity].rows:
                self.features[identity].rows.append(row)
            return
        model = self.plan.models[spec.model_size]
        work = feature_cost(spec, model, self.config, self.lengths)
        here = self.plan.paths.features(identity).is_file()
        needs = 0.0 if here else seconds(work, speed) + start_up_seconds(speed)
        self.features[identity] = FeatureEstimate(identity, [row], here, needs, int(work.written))

    def _seconds(self, missing: list[FeatureEstimate], rows: list[RowEstimate], needed: list[Needed]) -> float:
        """Of all jobs: side by side as far as cores and GPUs go, and never less than the longest one takes."""
        gpus, cores = self.plan.machine_gpus(), self.machine.cores
        threads = {row.row: row.threads for row in rows}
        # Of each kind of job: seconds of all, how many, and threads of one.
        jobs = [(row.training_seconds, row.runs - row.done, row.threads) for row in rows]
        jobs += [(file.seconds, 1, threads[file.rows[0]]) for file in missing]
        made = [self.plan.models[file.model] for file in needed if file.model and file.made_here]
        jobs += [(self._pretraining(model), 1, 1) for model in made]
        longest_row = max((row.training_seconds / row.runs for row in rows), default=0.0)
        if not gpus:
            return max(sum(needs * of_one / cores for needs, _, of_one in jobs), longest_row)
        # A GPU computes one job at a time, while others start up.
        starts = [number * start_up_seconds(self._speed(of_one)) for _, number, of_one in jobs]
        computing = sum(needs for needs, _, _ in jobs) - sum(starts)
        return max(computing / gpus + sum(starts) / jobs_at_once(gpus, cores), longest_row)

    def _pretraining(self, model: ModelConfig) -> float:
        """Seconds that the demo takes to pretrain one of its miniatures."""
        speed = self._speed(1)
        positions = STEPS * BATCH_SIZE * model.n_positions
        products = 6 * 12 * model.n_embd**2 * model.n_layer * positions
        blocks = 2 * STEPS * model.n_layer  # they compute every position
        return seconds(Cost(operations=products, steps=STEPS, blocks=blocks), speed) + start_up_seconds(speed)

    def _disks(
        self, needed: list[Needed], missing: list[FeatureEstimate], rows: list[RowEstimate]
    ) -> list[tuple[str, int, int]]:
        """Bytes that the results folder and the download cache will take, together if they are on one disk."""
        to_cache = sum(file.disk_bytes for file in needed if file.goes_to_cache)
        to_results = sum(file.disk_bytes for file in needed if not file.goes_to_cache)
        to_results += sum(file.bytes for file in missing) + max((row.checkpoint_bytes for row in rows), default=0)
        to_results += RUN_BYTES * sum(row.runs - row.done for row in rows)
        folders = [(Path(self.config.results), to_results), *([(_hub_cache(), to_cache)] if to_cache else [])]
        disks: dict[int, tuple[str, int, int]] = {}
        for folder, size in folders:
            place = existing_part(folder)
            name, before, free = disks.get(place.stat().st_dev, (str(folder), 0, shutil.disk_usage(place).free))
            disks[place.stat().st_dev] = (name, before + size, free)
        return list(disks.values())


def this_machine(plan: Workflow) -> Machine:
    """What jobs may take here."""
    gpus = memory_mb() if plan.machine_gpus() else []
    return Machine(machine_memory_mb(), min(gpus) if gpus else None, plan.cores or usable_cores())


def _device(plan: Workflow) -> str:
    return select_device(plan.config.device).type


def _epochs_kept(plan: Workflow, row: str, seed: int) -> int:
    """The epochs that an unfinished run's checkpoint holds; 0 without one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(plan.paths.checkpoint(plan.paths.row(row, seed)), framework="numpy") as file:
            return int(file.metadata()["epoch"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return 0


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)

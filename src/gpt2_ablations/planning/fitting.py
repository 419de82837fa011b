"""Whether a row's jobs fit into a machine's memory, and with which options they would. Nothing here imports torch."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..common.units import memory
from ..settings.config import Config
from ..settings.experiment import Experiment
from ..settings.feature_spec import feature_spec
from .resources import Resources
from .workflow import Workflow

LEAST_FEATURES_MB = 64

Options = dict[str, int | str]


@dataclass(frozen=True)
class Machine:
    """What jobs may take: MiB of memory, MiB of the smallest GPU (None without one), cores."""

    host_mb: int
    gpu_mb: int | None
    cores: int


@dataclass(frozen=True)
class Misfit:
    """A row that asks for more memory than there is.

    reason: which job, how much, and how much there is; options: what to set in the configuration so that it fits; empty
    if nothing would do.
    """

    row: str
    reason: str
    options: Options

    def __str__(self) -> str:
        if not self.options:
            advice = "no option makes it fit: it needs another machine, or a smaller model"
        else:
            advice = "it would fit with " + ", ".join(f"{key}: {value}" for key, value in self.options.items())
        return f"row {self.row}: {self.reason}; {advice}"


def misfit(plan: Workflow, row: str, machine: Machine) -> Misfit | None:
    """What stands in a row's way; None if it fits."""
    reason = _too_large(plan, row, plan.config, machine)
    if reason is None:
        return None
    for options in _options(plan.config, plan.experiments[row], machine):
        if _too_large(plan, row, _changed(plan.config, options), machine) is None:
            return Misfit(row, reason, options)
    return Misfit(row, reason, {})


def row_resources(plan: Workflow, row: str, config: Config) -> dict[str, Resources]:
    """What a row's jobs would ask for under a configuration: `training`, and `features` if it has a frozen part."""
    changed = plan.with_config(config)
    experiment = plan.experiments[row]
    threads = changed.threads(experiment.model_size)
    found = {"training": changed.training_resources(row, threads)}
    model = plan.models[experiment.model_size]
    spec = feature_spec(experiment, model, config.seeds[0], config.precision)
    if spec is not None:
        found["features"] = changed.resources_of(spec, threads)
    return found


def _too_large(plan: Workflow, row: str, config: Config, machine: Machine) -> str | None:
    gpu_mb = None if config.device == "cpu" else machine.gpu_mb
    for job, request in row_resources(plan, row, config).items():
        if request.host_mb > machine.host_mb:
            return f"its {job} asks for {memory(request.host_mb)} of memory, {memory(machine.host_mb)} are here"
        if gpu_mb is not None and request.device_mb > gpu_mb:
            return f"its {job} asks for {memory(request.device_mb)} of a GPU, which has {memory(gpu_mb)}"
    return None


def _options(config: Config, experiment: Experiment, machine: Machine) -> Iterator[Options]:
    """Options to try, the ones that cost least first."""
    at_once = experiment.batch_size * experiment.accumulation_steps
    micro: list[Options] = [
        {"micro_batch_size": size} for size in _halves(min(config.micro_batch_size or at_once, at_once), 1)
    ]
    shards: list[Options] = [
        {"features.max_memory_mb": size} for size in _halves(config.features.max_memory_mb, LEAST_FEATURES_MB)
    ]
    precision: list[Options] = [{"precision": "bfloat16"}] if config.precision != "bfloat16" else []
    yield from micro
    yield from shards
    yield from ({**one, **other} for one in shards[-1:] for other in micro)
    yield from precision
    yield from ({**one, **other} for one in precision for other in micro)
    if config.device != "cpu" and machine.gpu_mb is not None:
        yield {"device": "cpu"}
        yield from ({"device": "cpu", **other} for other in micro)


def _halves(number: int, least: int) -> list[int]:
    sizes = []
    while number // 2 >= least:
        number //= 2
        sizes.append(number)
    return sizes


def _changed(config: Config, options: Options) -> Config:
    update: dict = {key: value for key, value in options.items() if "." not in key}
    if "features.max_memory_mb" in options:
        update["features"] = config.features.model_copy(update={"max_memory_mb": options["features.max_memory_mb"]})
    return config.model_copy(update=update)

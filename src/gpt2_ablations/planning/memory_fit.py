"""Whether a row's jobs fit into a machine's memory, and with which options they would. Nothing here imports torch."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..common.text import memory
from ..settings.config import Config
from ..settings.experiment import Experiment
from ..settings.feature_spec import feature_spec
from .resources import Resources
from .workflow import Workflow

LEAST_FEATURES_MB = 64

Options = dict[str, int | str]


@dataclass(frozen=True)
class Machine:
    """What jobs may use.

    Attributes:
        host_mb: memory in MiB.
        gpu_mb: memory of the smallest GPU in MiB; None without a GPU.
        cores: of the processor.
    """

    host_mb: int
    gpu_mb: int | None
    cores: int


@dataclass(frozen=True)
class MemoryShortage:
    """A row that needs more memory than the machine has.

    Attributes:
        row: its id.
        reason: which job needs how much, and how much there is.
        options: settings of the configuration with which the row fits; empty if there are none.
    """

    row: str
    reason: str
    options: Options

    def __str__(self) -> str:
        if not self.options:
            advice = "no option makes it fit; use a machine with more memory, or a smaller model"
        else:
            advice = "it fits with " + ", ".join(f"{key}: {value}" for key, value in self.options.items())
        return f"row {self.row}: {self.reason}; {advice}"


def memory_shortage(workflow: Workflow, row: str, machine: Machine) -> MemoryShortage | None:
    """Why a row does not fit into a machine's memory; None if it fits."""
    reason = _shortage_reason(workflow, row, workflow.config, machine)
    if reason is None:
        return None
    for options in _candidates(workflow.config, workflow.experiments[row], machine):
        if _shortage_reason(workflow, row, with_options(workflow.config, options), machine) is None:
            return MemoryShortage(row, reason, options)
    return MemoryShortage(row, reason, {})


def row_resources(workflow: Workflow, row: str, config: Config) -> dict[str, Resources]:
    """The resources of a row's jobs under a configuration.

    Returns: by job: `training`, and `feature extraction` if the row has frozen layers.
    """
    changed = workflow.with_config(config)
    experiment = workflow.experiments[row]
    threads = changed.threads(experiment.model_size)
    found = {"training": changed.training_resources(row, threads)}
    model = workflow.models[experiment.model_size]
    spec = feature_spec(experiment, model, config.seeds[0], config.precision)
    if spec is not None:
        found["feature extraction"] = changed.extraction_resources(spec, threads)
    return found


def with_options(config: Config, options: Options) -> Config:
    """A configuration with some of its options changed."""
    update: dict = {key: value for key, value in options.items() if "." not in key}
    if "features.max_memory_mb" in options:
        update["features"] = config.features.model_copy(update={"max_memory_mb": options["features.max_memory_mb"]})
    return config.model_copy(update=update)


def _shortage_reason(workflow: Workflow, row: str, config: Config, machine: Machine) -> str | None:
    gpu_mb = None if config.device == "cpu" else machine.gpu_mb
    for job, resources in row_resources(workflow, row, config).items():
        if resources.host_mb > machine.host_mb:
            return f"{job} needs {memory(resources.host_mb)} of memory, this machine has {memory(machine.host_mb)}"
        if gpu_mb is not None and resources.device_mb > gpu_mb:
            return f"{job} needs {memory(resources.device_mb)} of GPU memory, the GPU has {memory(gpu_mb)}"
    return None


def _candidates(config: Config, experiment: Experiment, machine: Machine) -> Iterator[Options]:
    """Options to try, those with the least cost first."""
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
    """The number halved again and again, down to `least`."""
    sizes = []
    while number // 2 >= least:
        number //= 2
        sizes.append(number)
    return sizes

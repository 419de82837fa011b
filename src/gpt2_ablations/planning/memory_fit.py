"""Whether a row's jobs fit into a machine's memory, and what reduces what they need. Nothing here imports torch."""

from dataclasses import dataclass

from ..common.text import memory
from ..settings.config import Config
from .workflow import Workflow

LEAST_FEATURES_MB = 64


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


def memory_shortage(workflow: Workflow, row: str, machine: Machine) -> str | None:
    """Which job of a row needs more memory than the machine has, and what to do; None if the row fits."""
    least_resources = workflow.with_config(_least_memory(workflow.config)).row_resources(row)
    for job, asked in workflow.row_resources(row).items():
        option, least = "micro_batch_size" if job == "training" else "features.max_memory_mb", least_resources[job]
        kinds = [("memory, this machine", asked.host_mb, machine.host_mb, least.host_mb, "a machine with more memory")]
        if machine.gpu_mb is not None and workflow.config.device != "cpu":
            larger = "a GPU with more memory, device: cpu"
            kinds.append(("GPU memory, the GPU", asked.device_mb, machine.gpu_mb, least.device_mb, larger))
        for what, needed, there, least_mb, larger in kinds:
            if needed > there:
                advice = f"set a smaller {option}" if least_mb <= there else f"use {larger}, or a smaller model"
                return f"{job} needs {memory(needed)} of {what} has {memory(there)}; {advice}"
    return None


def _least_memory(config: Config) -> Config:
    """The configuration with the options that reduce memory, and change no number, at their smallest values."""
    features = config.features.model_copy(update={"max_memory_mb": LEAST_FEATURES_MB})
    return config.model_copy(update={"micro_batch_size": 1, "features": features})

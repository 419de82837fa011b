"""Checkpoints: the state from which an interrupted training resumes.

A checkpoint is one safetensors file outside the run's own folder, whose files Snakemake deletes before it runs a job
again. It holds the trained parameters, the optimizer's state, the state of the loaders' random numbers, the history,
and the settings that it was made with. A training with other settings starts from the beginning.
"""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..common.errors import InputError
from ..common.files import write_whole
from ..common.logs import logger
from ..common.tensor_files import safetensors_header, write_tensor
from ..runs.result import Step

# Writing a checkpoint may take this fraction of the time since the last one.
MOST_TIME = 0.05
# Bytes/s of a slow disk: the estimate for the first checkpoint.
SLOW_DISK = 200e6
_DAMAGED = (SafetensorError, OSError, KeyError, TypeError, ValueError)


@dataclass
class TrainingState:
    """The state of a training after an epoch.

    Attributes:
        seconds: spent in training so far, by all processes.
        tensors: by name, as `Finetuning.state` gives them.
    """

    epoch: int
    seconds: float
    history: list[Step]
    tensors: dict[str, Tensor]


class Checkpoint:
    """The checkpoint of one run.

    Args:
        settings: everything that the training's numbers depend on, as JSON.
        every_epoch: save at the end of each epoch, however long that takes.
    """

    def __init__(self, path: Path, settings: dict, every_epoch: bool = False):
        self.path, self.every_epoch = path, every_epoch
        self._settings = json.loads(json.dumps(settings))
        self._last = time.perf_counter()
        self._cost: float | None = None

    def load(self) -> TrainingState | None:
        """The state that an earlier process saved; None if there is none, or none of these settings."""
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata()
                settings = json.loads(metadata["settings"])
                if settings != self._settings:
                    keys = sorted(
                        k for k in settings.keys() | self._settings if settings.get(k) != self._settings.get(k)
                    )
                    logger.info(f"{self.path}: made with other settings ({', '.join(keys)}); not used")
                    return None
                state = TrainingState(
                    epoch=int(metadata["epoch"]),
                    seconds=float(metadata["seconds"]),
                    history=[Step(**line) for line in json.loads(metadata["history"])],
                    # Copies: the file may be replaced while they are in use.
                    tensors={name: file.get_tensor(name).clone() for name in file.keys()},  # noqa: SIM118
                )
        except FileNotFoundError:
            return None
        except _DAMAGED as error:
            logger.info(f"{self.path}: damaged ({' '.join(str(error).split())}); not used")
            return None
        logger.info(f"resuming after epoch {state.epoch}, from {self.path}")
        return state

    def is_due(self, size: int) -> bool:
        """Whether a checkpoint of so many bytes is cheap enough to be saved now."""
        cost = size / SLOW_DISK if self._cost is None else self._cost
        return self.every_epoch or cost < MOST_TIME * (time.perf_counter() - self._last)

    def save(self, state: TrainingState) -> None:
        """Replace the last checkpoint. If that fails, warn and continue."""
        started = time.perf_counter()
        metadata = {
            "settings": json.dumps(self._settings),
            "epoch": str(state.epoch),
            "seconds": repr(state.seconds),
            "history": json.dumps([asdict(line) for line in state.history]),
        }
        shapes = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in state.tensors.items()}
        try:
            with write_whole(self.path) as partial, open(partial, "wb") as file:
                file.write(safetensors_header(shapes, metadata))
                for tensor in state.tensors.values():
                    write_tensor(file, tensor)
        except InputError as error:
            logger.warning(f"{error}; training continues without this checkpoint")
        self._last = time.perf_counter()
        self._cost = self._last - started

    def remove(self) -> None:
        """Remove the checkpoint, after the run's results are written."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def size_of(tensors: dict[str, Tensor]) -> int:
    """Bytes of all tensors."""
    return sum(tensor.nbytes for tensor in tensors.values())

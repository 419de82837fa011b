"""Checkpoints: what an interrupted training goes on from.

A checkpoint is one safetensors file outside the run's own folder, whose files Snakemake deletes before it runs a job
again. It holds the trained parameters, the optimizer's state, the state of the loaders' random numbers, the history,
and the settings it belongs to: a training with other ones begins again.
"""

import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..common.errors import InputError
from ..common.files import write_whole
from ..common.tensor_files import safetensors_header, write_tensor
from ..runs.result import Step

# Writing one may take this part of the time since the last one.
MOST_TIME = 0.05
# Bytes a second that a slow disk writes: what the first one is expected to cost.
SLOW_DISK = 200e6
_DAMAGED = (SafetensorError, OSError, KeyError, TypeError, ValueError)


@dataclass
class TrainingState:
    """How far a training has come.

    seconds: spent in training so far, over all its parts; tensors: by name, as `Finetuning.state` gives them.
    """

    epoch: int
    seconds: float
    history: list[Step]
    tensors: dict[str, Tensor]


class Checkpoint:
    """The checkpoint of one run.

    Args:
        settings: all that the training's numbers depend on, as JSON has it.
        every_epoch: write at the end of each epoch, whatever it costs.
    """

    def __init__(self, path: Path, settings: dict, every_epoch: bool = False):
        self.path, self.every_epoch = path, every_epoch
        self._settings = json.loads(json.dumps(settings))
        self._last = time.perf_counter()
        self._cost: float | None = None

    def load(self) -> TrainingState | None:
        """What an earlier process has kept, unless there is nothing, or nothing that these settings can use."""
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata()
                settings = json.loads(metadata["settings"])
                if settings != self._settings:
                    keys = sorted(
                        k for k in settings.keys() | self._settings if settings.get(k) != self._settings.get(k)
                    )
                    print(f"{self.path}: made with other settings ({', '.join(keys)}), not used", file=sys.stderr)
                    return None
                progress = TrainingState(
                    epoch=int(metadata["epoch"]),
                    seconds=float(metadata["seconds"]),
                    history=[Step(**line) for line in json.loads(metadata["history"])],
                    # Copies: the file may be replaced while they are in use.
                    tensors={name: file.get_tensor(name).clone() for name in file.keys()},  # noqa: SIM118
                )
        except FileNotFoundError:
            return None
        except _DAMAGED as error:
            print(f"{self.path}: damaged ({' '.join(str(error).split())}), not used", file=sys.stderr)
            return None
        print(f"going on after epoch {progress.epoch}, from {self.path}", file=sys.stderr, flush=True)
        return progress

    def is_due(self, size: int) -> bool:
        """Whether one of so many bytes is cheap enough to be written now."""
        cost = size / SLOW_DISK if self._cost is None else self._cost
        return self.every_epoch or cost < MOST_TIME * (time.perf_counter() - self._last)

    def save(self, progress: TrainingState) -> None:
        """Write it in the place of the last one. One that cannot be written is no reason to stop."""
        started = time.perf_counter()
        metadata = {
            "settings": json.dumps(self._settings),
            "epoch": str(progress.epoch),
            "seconds": repr(progress.seconds),
            "history": json.dumps([asdict(line) for line in progress.history]),
        }
        shapes = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in progress.tensors.items()}
        try:
            with write_whole(self.path) as partial, open(partial, "wb") as file:
                file.write(safetensors_header(shapes, metadata))
                for tensor in progress.tensors.values():
                    write_tensor(file, tensor)
        except InputError as error:
            print(f"warning: {error}; the training goes on without this checkpoint", file=sys.stderr, flush=True)
        self._last = time.perf_counter()
        self._cost = self._last - started

    def remove(self) -> None:
        """Remove it: the run's results are written."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def size_of(tensors: dict[str, Tensor]) -> int:
    """Bytes of all tensors."""
    return sum(tensor.nbytes for tensor in tensors.values())


def stamp(file: Path) -> list[int]:
    """Tells a file from one that has taken its place: size and time of change."""
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]

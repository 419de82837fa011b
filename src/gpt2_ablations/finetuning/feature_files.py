"""Feature files: safetensors, written shard by shard and mapped when they are read.

A file holds `hidden` [n_kept, C] float32 and, of each split, `starts`, `lengths`, `real_lengths` and `labels`, int64
[N]. Its metadata holds the spec, `identity`, `device`, `made_from`, `context_length`, `seconds` and `peak_memory_mb`.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..common.errors import InputError
from ..common.files import write_whole
from ..common.hardware import peak_host_memory_mb
from ..common.tensor_files import safetensors_header, write_tensor
from ..runs.made_from import MadeFrom
from ..settings.constants import SPLITS
from ..settings.feature_spec import FeatureSpec
from ..settings.models import ModelConfig
from .features import FeatureLayout, Features, FeatureSplit, split_features

_TENSORS = ("starts", "lengths", "real_lengths", "labels")


def write_features(
    path: str | Path,
    spec: FeatureSpec,
    model: ModelConfig,
    layout: FeatureLayout,
    shards: Iterator[Tensor],
    made_from: MadeFrom,
    identity: str = "",
    device: str = "cpu",
) -> None:
    """Write a feature file as its shards are computed, and rename it when it is whole.

    Args:
        shards: float32 [n, C], together [n_kept, C].
        identity: as `feature_identity` gives for any device.
        device: the kind of device that computes the shards.

    Raises:
        InputError: the file cannot be written.
    """
    started = time.perf_counter()
    empty = torch.empty(0, model.n_embd)
    small = {
        f"{name}.{part}": getattr(split, part).contiguous()
        for name, split in split_features(layout, empty).items()
        for part in _TENSORS
    }
    with write_whole(path) as partial, open(partial, "wb") as file:
        # The header comes first but holds the seconds: it is written again, within the same size, at the end.
        about = {"identity": identity, "device": device, "made_from": json.dumps(made_from)}
        size = len(_header(spec, layout, model, small, about, 0.0, 0.0))
        file.write(b" " * size)
        for tensor in small.values():
            write_tensor(file, tensor)
        for shard in shards:
            write_tensor(file, shard)
            # Freed before the next shard is computed: two would take twice features.max_memory_mb.
            del shard
        seconds = time.perf_counter() - started
        header = _header(spec, layout, model, small, about, seconds, peak_host_memory_mb())
        file.seek(0)
        file.write(header.ljust(size))
        file.flush()


def _header(
    spec: FeatureSpec,
    layout: FeatureLayout,
    model: ModelConfig,
    small: dict[str, Tensor],
    about: dict[str, str],
    seconds: float,
    peak_mb: float,
) -> bytes:
    metadata = {
        "spec": json.dumps(asdict(spec)),
        **about,
        "context_length": json.dumps(layout.context),
        "seconds": f"{seconds:015.3f}",
        "peak_memory_mb": f"{peak_mb:015.1f}",
    }
    tensors = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in small.items()}
    return safetensors_header(tensors | {"hidden": (torch.float32, (layout.n_kept, model.n_embd))}, metadata)


def read_features(path: str | Path) -> Features:
    """Map a feature file.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            hidden = file.get_tensor("hidden")
            splits = {
                name: FeatureSplit(hidden, *(file.get_tensor(f"{name}.{part}") for part in _TENSORS)) for name in SPLITS
            }
        return Features(
            spec=FeatureSpec(**json.loads(metadata["spec"])),
            splits=splits,
            context=json.loads(metadata["context_length"]),
            seconds=float(metadata["seconds"]),
            peak_memory_mb=float(metadata["peak_memory_mb"]),
            identity=metadata["identity"],
            device=metadata["device"],
        )
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make it with `snakemake --cores all extract_features`") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a whole feature file ({' '.join(str(error).split())}); delete it and run again"
        ) from None

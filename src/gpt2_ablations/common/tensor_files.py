"""Safetensors files, written tensor by tensor, so that no tensor is in memory twice."""

import json
from collections.abc import Mapping
from typing import BinaryIO

import torch
from torch import Tensor

_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8"}


def safetensors_header(tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], metadata: dict[str, str]) -> bytes:
    """The first bytes of a safetensors file; the tensors' bytes follow in the same order.

    The format: https://github.com/huggingface/safetensors#format

    Args:
        tensors: data type and shape by name.
        metadata: texts by name, stored as `__metadata__`.
    """
    header: dict = {"__metadata__": metadata}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        end = offset + torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_tensor(file: BinaryIO, tensor: Tensor) -> None:
    """Append a tensor's bytes to a file, in row-major order."""
    file.write(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)

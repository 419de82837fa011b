"""Batches of one shape, gathered on the device from nothing but their messages' numbers.

A CUDA graph replays the same operations on the same memory, so that its batches must not differ in shape.
"""

import torch
from torch import Tensor

from ..gpt2.model import Sequences, reached
from .batches import ModelInputs


class FixedShape:
    """A split each message of which takes as many positions as the longest.

    Behind a shorter message its last position stands again. Nothing attends to what is there, so that the read position
    computes the same; that needs a mask, which only a model of one block that reads one position has.
    """

    def __init__(self, inputs: ModelInputs):
        self.inputs = inputs
        self.device = inputs.store.device
        self.starts, self.lengths, self.labels = (
            tensor.to(self.device) for tensor in (inputs.starts, inputs.lengths, inputs.labels)
        )
        self.read = None if inputs.read is None else inputs.read.to(self.device)
        self.longest = int(inputs.lengths.max())
        self.positions = torch.arange(self.longest, device=self.device)
        self.one_length = int(inputs.lengths.min()) == self.longest
        self.masked = self.read is not None and bool(
            (reached(self.lengths, self.read, inputs.causal) < self.longest).any()
        )

    def gather(self, messages: Tensor) -> tuple[Tensor, Sequences]:
        """The batch of some messages in their order, without a word between device and host.

        Args:
            messages: int64 [B] on the device.

        Returns: inputs [B * longest] or [B * longest, C], and their layout.
        """
        starts, lengths = self.starts[messages], self.lengths[messages]
        positions = self.positions.expand(len(messages), -1)
        if not self.one_length:
            positions = torch.minimum(positions, lengths[:, None] - 1)
        packed = self.inputs.store.index_select(0, (starts[:, None] + positions).flatten())
        rows = unreached = None
        if self.read is not None:
            read = self.read[messages]
            rows = torch.arange(len(messages), device=self.device) * self.longest + read
            if self.masked:
                unreached = self.positions >= reached(lengths, read, self.inputs.causal)[:, None]
        return packed, Sequences((self.longest,) * len(messages), self.inputs.causal, rows, unreached)


def fixed_shape(inputs: ModelInputs, whole_blocks: int, device: torch.device) -> FixedShape | None:
    """A split in batches of one shape; None where that would not compute the same, or its store is elsewhere.

    Args:
        whole_blocks: how many blocks compute every position.
    """
    if inputs.store.device.type != device.type:
        return None
    fixed = FixedShape(inputs)
    return fixed if fixed.one_length or not whole_blocks else None

"""Batches of one shape, gathered on the device from the numbers of their examples.

A CUDA graph replays the same operations on the same memory, so its batches must not differ in shape.
"""

import torch
from torch import Tensor

from ..gpt2.model import PackedLayout, n_attended_keys
from .batches import ModelInputs


class FixedShape:
    """A split in which each example takes as many positions as the longest.

    After the end of a shorter example its last position is repeated. An attention mask hides the repetitions, so the
    pooled position computes the same; only a model of one block that pools one position has such a mask.
    """

    def __init__(self, inputs: ModelInputs):
        self.inputs = inputs
        self.device = inputs.store.device
        self.starts, self.lengths, self.labels = (
            tensor.to(self.device) for tensor in (inputs.starts, inputs.lengths, inputs.labels)
        )
        self.pooled = None if inputs.pooled is None else inputs.pooled.to(self.device)
        self.longest = int(inputs.lengths.max())
        self.positions = torch.arange(self.longest, device=self.device)
        self.one_length = int(inputs.lengths.min()) == self.longest
        self.masked = self.pooled is not None and bool(
            (n_attended_keys(self.lengths, self.pooled, inputs.causal) < self.longest).any()
        )

    def gather(self, examples: Tensor) -> tuple[Tensor, PackedLayout]:
        """The batch of some examples in their order, computed on the device alone.

        Args:
            examples: int64 [B] on the device.

        Returns: inputs [B * longest] or [B * longest, C], and their layout.
        """
        starts, lengths = self.starts[examples], self.lengths[examples]
        positions = self.positions.expand(len(examples), -1)
        if not self.one_length:
            positions = torch.minimum(positions, lengths[:, None] - 1)
        packed = self.inputs.store.index_select(0, (starts[:, None] + positions).flatten())
        index = attention_mask = None
        if self.pooled is not None:
            pooled = self.pooled[examples]
            index = torch.arange(len(examples), device=self.device) * self.longest + pooled
            if self.masked:
                attention_mask = self.positions < n_attended_keys(lengths, pooled, self.inputs.causal)[:, None]
        return packed, PackedLayout((self.longest,) * len(examples), self.inputs.causal, index, attention_mask)


def fixed_shape(inputs: ModelInputs, n_whole_blocks: int, device: torch.device) -> FixedShape | None:
    """A split in batches of one shape; None where that would compute something else, or its store is elsewhere.

    Args:
        n_whole_blocks: how many blocks compute every position.
    """
    if inputs.store.device.type != device.type:
        return None
    fixed = FixedShape(inputs)
    return fixed if fixed.one_length or not n_whole_blocks else None

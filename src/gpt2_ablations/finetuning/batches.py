"""The order of batches in the reference, and messages gathered into packed batches."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..gpt2.model import Sequences, sequences


class LoaderOrder:
    """The random draws of PyTorch's data loaders, in the reference's order, from a generator of their own.

    Every pass over a loader draws one number that seeds workers (none are used); a shuffled pass then draws a
    second one, which seeds a generator of its own for the permutation. Partial passes draw the same.
    """

    def __init__(self, seed: int):
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def state(self) -> Tensor:
        """The state of its random numbers, uint8."""
        return self._generator.get_state()

    @state.setter
    def state(self, state: Tensor) -> None:
        self._generator.set_state(state)

    def _draw(self) -> int:
        return int(torch.empty((), dtype=torch.int64).random_(generator=self._generator))

    def shuffled(self, n: int) -> Tensor:
        """The permutation, int64 [n], of one pass over a shuffling loader of n messages."""
        self._draw()
        return torch.randperm(n, generator=torch.Generator().manual_seed(self._draw()))

    def sequential(self, n: int) -> Tensor:
        """0 to n - 1: one pass over a loader that does not shuffle."""
        self._draw()
        return torch.arange(n)


def cut_batches(order: Tensor, batch_size: int, drop_last: bool) -> list[Tensor]:
    """The batches, int64 [batch_size] each, of one pass; the last one may be short unless dropped."""
    batches = list(order.split(batch_size))
    if drop_last and batches and len(batches[-1]) < batch_size:
        batches.pop()
    return batches


@dataclass(frozen=True)
class ModelInputs:
    """What the trained part of the model takes for one split, packed.

    store: int64 [n_tokens] token ids, or [n_tokens, C] hidden states (one a different message where one is kept).
    starts, lengths: int64 [N], where each message stands in the store, messages that are the same in one place.
    labels: int64 [N].
    read: int64 [N], the position in each message whose logits count; None for the mean.
    """

    store: Tensor
    starts: Tensor
    lengths: Tensor
    labels: Tensor
    read: Tensor | None
    causal: bool

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: Tensor, device: torch.device) -> tuple[Tensor, Sequences, Tensor]:
        """The packed batch of some messages, shortest first.

        Args:
            indices: int64 [B] on the CPU.

        Returns: inputs [n_tokens] or [n_tokens, C] on `device`; their layout; int64 [B], the message at each place.
        """
        lengths = self.lengths[indices]
        lengths, by_length = lengths.sort(stable=True)
        indices = indices[by_length]
        starts = self.starts[indices]
        if int(lengths[0]) == int(lengths[-1]):
            rows = starts[:, None] + torch.arange(int(lengths[0]))
            packed = self.store.index_select(0, rows.flatten().to(self.store.device))
        else:
            spans = zip(starts.tolist(), lengths.tolist(), strict=True)
            packed = torch.cat([self.store[start : start + length] for start, length in spans])
        if device.type == "cuda" and packed.device.type == "cpu":
            packed = packed.pin_memory()
        read = None if self.read is None else self.read[indices]
        return packed.to(device, non_blocking=True), sequences(lengths, read, self.causal, device), indices


def move_inputs(inputs: dict[str, ModelInputs], device: torch.device) -> dict[str, ModelInputs]:
    """Put the stores on a CUDA device if they take less than half of its free memory; the splits may share one."""
    if device.type != "cuda":
        return inputs
    stores = {id(split.store): split.store for split in inputs.values()}
    free, _ = torch.cuda.mem_get_info(device)
    if sum(store.nbytes for store in stores.values()) > free // 2:
        return inputs
    moved = {key: store.to(device) for key, store in stores.items()}
    return {name: replace(split, store=moved[id(split.store)]) for name, split in inputs.items()}

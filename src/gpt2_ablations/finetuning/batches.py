"""What the trained layers take: the order of batches in the reference, and examples gathered into packed batches."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..data.tokens import AttendedSplit, TokenizedSplit, attend, first_copies
from ..gpt2.model import PackedLayout, n_attended_keys, packed_layout
from ..settings.constants import SPLITS
from ..settings.experiment import Experiment
from .features import Features, FeatureSplit, length_order, pooled_positions


class LoaderOrder:
    """The random draws of PyTorch's data loaders, in the reference's order, from a generator of their own.

    Every pass over a loader draws one number that seeds workers (none are used). A shuffled pass then draws a second
    one, which seeds a generator of its own for the permutation. Partial passes draw the same.
    """

    def __init__(self, seed: int):
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def state(self) -> Tensor:
        """The generator's state, uint8."""
        return self._generator.get_state()

    @state.setter
    def state(self, state: Tensor) -> None:
        self._generator.set_state(state)

    def _draw(self) -> int:
        return int(torch.empty((), dtype=torch.int64).random_(generator=self._generator))

    def shuffled(self, n: int) -> Tensor:
        """The permutation, int64 [n], of one pass over a shuffling loader of n examples."""
        self._draw()
        return torch.randperm(n, generator=torch.Generator().manual_seed(self._draw()))

    def sequential(self, n: int) -> Tensor:
        """0 to n - 1: one pass over a loader that does not shuffle."""
        self._draw()
        return torch.arange(n)


def cut_batches(order: Tensor, batch_size: int, drop_last: bool) -> list[Tensor]:
    """The batches of one pass, int64 [batch_size] each; the last one may be short unless it is dropped."""
    batches = list(order.split(batch_size))
    if drop_last and batches and len(batches[-1]) < batch_size:
        batches.pop()
    return batches


@dataclass(frozen=True)
class ModelInputs:
    """The inputs of one split, packed.

    Attributes:
        store: int64 [n_tokens] token ids, or [n_tokens, C] hidden states. Where one hidden state an example is kept,
            [n_different, C].
        starts, lengths: int64 [N], where each example lies in the store; equal examples share one place.
        labels: int64 [N].
        pooled: int64 [N], the position in each example whose logits count; None for a mean.
        causal: whether a position attends only to itself and earlier ones.
        n_keys, n_averaged: int64 [N] or None, and `context`: as `PackedLayout` has them.
    """

    store: Tensor
    starts: Tensor
    lengths: Tensor
    labels: Tensor
    pooled: Tensor | None
    causal: bool
    n_keys: Tensor | None = None
    context: int | None = None
    n_averaged: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, examples: Tensor, device: torch.device) -> tuple[Tensor, PackedLayout, Tensor]:
        """The packed batch of some examples, shortest first.

        Args:
            examples: int64 [B] on the CPU.

        Returns: inputs [n_tokens] or [n_tokens, C] on `device`; their layout; the examples in packed order, int64 [B].
        """
        examples = examples[self.length_order(examples)]
        starts, lengths = self.starts[examples], self.lengths[examples]
        if int(lengths[0]) == int(lengths[-1]):
            indices = starts[:, None] + torch.arange(int(lengths[0]))
            packed = self.store.index_select(0, indices.flatten().to(self.store.device))
        else:
            spans = zip(starts.tolist(), lengths.tolist(), strict=True)
            packed = torch.cat([self.store[start : start + length] for start, length in spans])
        if device.type == "cuda" and packed.device.type == "cpu":
            packed = packed.pin_memory()
        pooled, n_keys, n_averaged = (
            None if of_all is None else of_all[examples] for of_all in (self.pooled, self.n_keys, self.n_averaged)
        )
        layout = packed_layout(lengths, pooled, self.causal, device, n_keys, self.context, n_averaged)
        return packed.to(device, non_blocking=True), layout, examples

    def length_order(self, examples: Tensor) -> Tensor:
        """The order in which these examples, int64 [B], are packed: int64 [B]."""
        return length_order(self.lengths[examples], None if self.n_keys is None else self.n_keys[examples])


def hidden_inputs(experiment: Experiment, split: FeatureSplit, context: int | None) -> ModelInputs:
    """The inputs of a row whose lower layers are frozen: their hidden states.

    Args:
        context: positions after padding; None without padding.
    """
    if experiment.trainable_layers == "last_layer":
        return ModelInputs(split.hidden, split.starts, split.lengths, split.labels, None, experiment.causal)
    return _inputs(experiment, split.hidden, split.starts, split, context)


def _inputs(
    experiment: Experiment, store: Tensor, starts: Tensor, split: FeatureSplit | AttendedSplit, context: int | None
) -> ModelInputs:
    return ModelInputs(
        store=store,
        starts=starts,
        lengths=split.lengths,
        labels=split.labels,
        pooled=pooled_positions(experiment.pooling, split.lengths, split.real_lengths),
        causal=experiment.causal,
        n_keys=split.real_lengths if experiment.masks_padding else None,
        context=context,
        n_averaged=split.real_lengths if experiment.pooling == "mean_of_real" else None,
    )


def token_inputs(experiment: Experiment, split: AttendedSplit, context: int | None) -> ModelInputs:
    """The inputs of a row that trains or adapts every block: token ids. Arguments as for `hidden_inputs`."""
    first = first_copies(split.ids.split(split.lengths.tolist()), split.real_lengths)
    return _inputs(experiment, split.ids, (split.lengths.cumsum(0) - split.lengths)[first], split, context)


def inputs_from_features(experiment: Experiment, features: Features) -> dict[str, ModelInputs]:
    """`hidden_inputs` of each split."""
    return {name: hidden_inputs(experiment, split, features.context) for name, split in features.splits.items()}


def inputs_from_tokens(
    experiment: Experiment, tokens: dict[str, TokenizedSplit], context: int | None
) -> dict[str, ModelInputs]:
    """`token_inputs` of each split.

    Args:
        context: as `context_positions` gives.
    """
    return {name: token_inputs(experiment, attend(experiment, tokens[name], context), context) for name in SPLITS}


def move_inputs(inputs: dict[str, ModelInputs], device: torch.device) -> dict[str, ModelInputs]:
    """The inputs with their stores on a CUDA device, if those take less than half of its free memory.

    Splits may share a store, which is then copied once.
    """
    if device.type != "cuda":
        return inputs
    stores = {id(split.store): split.store for split in inputs.values()}
    free, _ = torch.cuda.mem_get_info(device)
    if sum(store.nbytes for store in stores.values()) > free // 2:
        return inputs
    moved = {key: store.to(device) for key, store in stores.items()}
    return {name: replace(split, store=moved[id(split.store)]) for name, split in inputs.items()}


class FixedShape:
    """A split whose batches have one shape: each example takes as many positions as the longest.

    A CUDA graph replays the same operations on the same memory, so its batches must not differ in shape. They are
    gathered on the device from the numbers of their examples.

    After the end of a shorter example its last position is repeated. An attention mask hides the repetitions, so the
    pooled position computes the same; only a model of one block that pools one position has such a mask.
    """

    def __init__(self, inputs: ModelInputs):
        self.inputs = inputs
        self.device = inputs.store.device
        self.starts, self.lengths, self.labels = (
            tensor.to(self.device) for tensor in (inputs.starts, inputs.lengths, inputs.labels)
        )
        self.pooled, self.n_keys, self.n_averaged = (
            None if tensor is None else tensor.to(self.device)
            for tensor in (inputs.pooled, inputs.n_keys, inputs.n_averaged)
        )
        self.longest = int(inputs.lengths.max())
        self.positions = torch.arange(self.longest, device=self.device)
        self.one_length = int(inputs.lengths.min()) == self.longest
        self.masked = self.pooled is not None and bool(
            (n_attended_keys(self.lengths, self.pooled, inputs.causal, self.n_keys) < self.longest).any()
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
                n_keys = None if self.n_keys is None else self.n_keys[examples]
                attended = n_attended_keys(lengths, pooled, self.inputs.causal, n_keys)
                attention_mask = self.positions < attended[:, None]
        n_averaged = None if self.n_averaged is None else self.n_averaged[examples]
        layout = PackedLayout(
            (self.longest,) * len(examples), self.inputs.causal, index, attention_mask, n_averaged=n_averaged
        )
        return packed, layout


def fixed_shape(inputs: ModelInputs, n_whole_blocks: int, device: torch.device) -> FixedShape | None:
    """A split in batches of one shape; None where that would compute something else, or its store is elsewhere.

    Args:
        n_whole_blocks: how many blocks compute every position.
    """
    if inputs.store.device.type != device.type:
        return None
    fixed = FixedShape(inputs)
    if inputs.n_keys is not None and (n_whole_blocks or not inputs.store.is_floating_point()):
        # Keys, and the positions of what is padding, differ from example to example.
        return None
    return fixed if fixed.one_length or not n_whole_blocks else None

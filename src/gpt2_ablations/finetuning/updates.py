"""How the update of an epoch is computed: in micro-batches, or as one batch of a fixed shape.

The training loop defines what an update computes; a strategy, chosen once, calls it with micro-batches. Both strategies
compute smaller micro-batches from the moment that the device's memory was too small.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..common.errors import InputError, is_out_of_memory
from ..common.logs import logger
from ..gpt2.model import PackedLayout
from ..settings.experiment import Experiment
from .batches import FixedShape, ModelInputs, fixed_shape
from .cuda_graph import GraphedUpdate

Done = TypeVar("Done")


@dataclass(frozen=True)
class MicroBatch:
    """The examples of one forward and backward pass.

    Attributes:
        inputs: [n_tokens] token ids, [n_tokens, C] hidden states, or [b, C] for the head alone.
        labels: int64 [b].
        weights: [b], the factor of each example's loss in the mean of its batch.
    """

    inputs: Tensor
    layout: PackedLayout
    labels: Tensor
    weights: Tensor


# Forward, backward and the optimizer's step over the micro-batches of an update; returns the weighted losses, [b] each.
Update = Callable[[Iterable[MicroBatch]], list[Tensor]]
# Of examples, int64 [B], and their weights, [B]: the losses of the batches of an update.
WholeUpdate = Callable[[Tensor, Tensor], Tensor]


class ComputeSizes:
    """How much is computed at a time. Halved once, for all that follows, when the device's memory is too small.

    Attributes:
        micro_batch_size: examples of a forward and backward pass.
        evaluation_tokens: positions of an evaluation's forward pass.
        on_halving: called when the sizes are halved, to free memory.
    """

    def __init__(self, device: torch.device, micro_batch_size: int, evaluation_tokens: int):
        self.device, self.micro_batch_size, self.evaluation_tokens = device, micro_batch_size, evaluation_tokens
        self.halved = False
        self.on_halving: list[Callable[[], None]] = []

    def retry_smaller(self, compute: Callable[[], Done], step: int) -> Done:
        """Compute something; where memory is too small for it, halve the sizes and compute it again.

        Args:
            step: the batch that is being trained or evaluated, for the error message.

        Raises:
            InputError: memory is too small for the halved sizes as well.
        """
        try:
            return compute()
        except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
            if not is_out_of_memory(error):
                raise
            if self.halved or self.micro_batch_size == 1:
                raise InputError(
                    f"step {step}: device {self.device} has too little memory for micro_batch_size"
                    f" {self.micro_batch_size}; set a smaller one, precision: bfloat16 or device: cpu"
                ) from None
        # Outside the handler: the exception held what had filled the memory.
        self.halved = True
        self.micro_batch_size //= 2
        self.evaluation_tokens //= 2
        for free in self.on_halving:
            free()
        logger.warning(
            f"device {self.device} has too little memory: continuing with micro_batch_size {self.micro_batch_size}; set"
            " it in the configuration to start with it"
        )
        return self.retry_smaller(compute, step)


class MicroBatchedUpdates:
    """Computes each update in micro-batches, gathered by length."""

    def __init__(self, split: ModelInputs, experiment: Experiment, sizes: ComputeSizes):
        self.split, self.experiment, self.sizes = split, experiment, sizes

    def __call__(self, update: Update, batches: list[Tensor], weights: list[Tensor], step: int) -> Tensor:
        """Compute one update.

        Args:
            batches: the examples of each batch of the update, int64 [batch_size] each.
            weights: the factor of each example's loss in the mean of its batch, [batch_size] each.
            step: of the last batch, for the error message.

        Returns: the loss of each batch, [len(batches)] on the device.

        Raises:
            InputError: the device's memory is too small.
        """
        examples, all_weights = torch.cat(batches), torch.cat(weights)
        return self.sizes.retry_smaller(lambda: self._compute(update, examples, all_weights, len(batches)), step)

    def _compute(self, update: Update, examples: Tensor, weights: Tensor, n_batches: int) -> Tensor:
        # gather() sorts the examples of a micro-batch by length; their places in the update identify them.
        place_of = torch.empty(len(self.split), dtype=torch.int64)
        place_of[examples] = torch.arange(len(examples))
        places: list[Tensor] = []

        def micro_batches() -> Iterator[MicroBatch]:
            for some in examples.split(self.sizes.micro_batch_size):
                inputs, layout, gathered = self.split.gather(some, self.sizes.device)
                places.append(place_of[gathered])
                yield MicroBatch(inputs, layout, self.split.labels[gathered], weights[places[-1]])

        batch_losses = torch.zeros(n_batches, device=self.sizes.device)
        weighted = update(micro_batches())
        for place, losses in zip(places, weighted, strict=True):
            batch = (place // self.experiment.batch_size).to(self.sizes.device)
            batch_losses.index_add_(0, batch, losses.to(batch_losses.dtype))
        return batch_losses


class FixedShapeUpdates(MicroBatchedUpdates):
    """Computes each whole update as one batch of a fixed shape, and any other in micro-batches.

    Args:
        record: given a function that computes a whole update on the device, returns what is called in its place.
        zero_grad: frees the gradients that an update left which did not end.
    """

    def __init__(
        self,
        fixed: FixedShape,
        experiment: Experiment,
        sizes: ComputeSizes,
        record: Callable[[WholeUpdate], WholeUpdate],
        zero_grad: Callable[[], None],
    ):
        super().__init__(fixed.inputs, experiment, sizes)
        self.fixed, self.record, self.zero_grad = fixed, record, zero_grad
        self._recorded: WholeUpdate | None = None
        sizes.on_halving.append(self._forget)

    def _compute(self, update: Update, examples: Tensor, weights: Tensor, n_batches: int) -> Tensor:
        whole = n_batches == self.experiment.accumulation_steps and len(examples) <= self.sizes.micro_batch_size
        if not whole or self.sizes.halved:
            return super()._compute(update, examples, weights, n_batches)
        if self._recorded is None:
            # The update of every epoch computes the same, so the first one may be recorded for all.
            self._recorded = self.record(lambda examples, weights: self._whole_update(update, examples, weights))
        return self._recorded(examples, weights)

    def _whole_update(self, update: Update, examples: Tensor, weights: Tensor) -> Tensor:
        """One update with no work for the host: the losses of its batches, [accumulation_steps]."""
        self.zero_grad()
        inputs, layout = self.fixed.gather(examples)
        (losses,) = update([MicroBatch(inputs, layout, self.fixed.labels[examples], weights)])
        return losses.view(self.experiment.accumulation_steps, -1).sum(dim=1)

    def _forget(self) -> None:
        self._recorded = None


def choose_updates(
    split: ModelInputs,
    experiment: Experiment,
    n_whole_blocks: int,
    sizes: ComputeSizes,
    zero_grad: Callable[[], None],
    use_fixed_shape: bool,
) -> MicroBatchedUpdates:
    """The strategy for a run: fixed shapes, where they are wanted and compute the same, else micro-batches.

    On a CUDA device, a whole update of a fixed shape is recorded as a CUDA graph.

    Args:
        n_whole_blocks: how many trained blocks compute every position.
    """
    device = sizes.device
    fixed = fixed_shape(split, n_whole_blocks, device) if use_fixed_shape else None
    if fixed is None:
        return MicroBatchedUpdates(split, experiment, sizes)

    def record(update: WholeUpdate) -> WholeUpdate:
        return GraphedUpdate(update, device) if device.type == "cuda" else update

    return FixedShapeUpdates(fixed, experiment, sizes, record, zero_grad)

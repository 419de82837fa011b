"""Finetunes the trained layers of a row, step by step as the reference does."""

import math
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..common.errors import InputError
from ..common.torch_setup import autocast, synchronize
from ..gpt2.model import Classifier, Sequences
from ..gpt2.weights import Weights, draw_linear
from ..runs.result import Result, Step
from ..settings.config import ModelConfig
from ..settings.constants import EVALUATE_EVERY, EVALUATION_BATCHES, VOCABULARY_SIZE
from ..settings.experiment import Experiment
from .adamw import AdamW
from .batches import LoaderOrder, ModelInputs, cut_batches, move_inputs
from .checkpoints import Checkpoint, TrainingState, size_of
from .cuda_graph import GraphedUpdate
from .evaluation import classify
from .fixed_shape import FixedShape, fixed_shape

# Messages are evaluated in pieces of about this many positions.
EVALUATION_TOKENS = 8192
Done = TypeVar("Done")
# Of messages, int64 [B], and what each one's loss weighs in its batch's mean, [B]: the losses of the update's batches.
UpdateFunction = Callable[[Tensor, Tensor], Tensor]


def empty_classifier(experiment: Experiment, model: ModelConfig) -> Classifier:
    """The trained part of a row's model without its weights."""
    with torch.device("meta"):
        return Classifier(
            model.n_layer,
            model.n_head,
            model.n_embd,
            model.n_positions,
            VOCABULARY_SIZE,
            experiment.n_frozen_blocks(model.n_layer),
        )


def build_classifier(experiment: Experiment, model: ModelConfig, weights: Weights, seed: int) -> Classifier:
    """The trained part of a row's model on its initial weights, with exactly the trained parameters trainable."""
    classifier = empty_classifier(experiment, model)
    tensors = initial_tensors(classifier, weights)
    generator = torch.Generator().manual_seed(seed)
    head_weight, tensors["head.bias"] = draw_linear(model.n_embd, 2, generator)
    tensors["head.weight"] = head_weight.contiguous()
    classifier.load_state_dict(tensors, assign=True)
    if experiment.trainable_layers == "lora":
        add_adapters(classifier, experiment, generator)
    return classifier


def add_adapters(classifier: Classifier, experiment: Experiment, generator: torch.Generator) -> None:
    """Add LoRA's matrices to every linear layer; they and the head alone stay trainable."""
    classifier.requires_grad_(False)
    for layer in classifier.linear_layers():
        layer.add_lora(experiment.lora_rank, experiment.lora_alpha, generator)
    classifier.head.requires_grad_(True)


def initial_tensors(classifier: Classifier, weights: Weights) -> dict[str, Tensor]:
    """The weights that a classifier begins with, by name, all but the head's: copies."""
    # The parts are copied one at a time: a mapped file is read once and its pages are let go again.
    tensors: dict[str, Tensor] = {}
    if classifier.first_block is None:
        tensors |= _owned(weights.embeddings())
    for index in classifier.h:
        tensors |= _owned(weights.block(int(index)))
    if classifier.h:
        tensors |= _owned(weights.final_norm())
    return tensors


def _owned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def count_parameters(experiment: Experiment, model: ModelConfig, classifier: Classifier) -> tuple[int, int]:
    """Trainable parameters, and all of the model with LoRA and the head, frozen blocks included."""
    trainable = sum(p.numel() for p in classifier.parameters() if p.requires_grad)
    adapters = sum(
        layer.lora_a.numel() + layer.lora_b.numel()
        for layer in classifier.linear_layers()
        if layer.lora_a is not None and layer.lora_b is not None
    )
    c = model.n_embd
    trunk = (VOCABULARY_SIZE + model.n_positions) * c + model.n_layer * (12 * c * c + 13 * c) + 2 * c
    return trainable, trunk + (2 * c + 2) + adapters


class Finetuning:
    """One run: a classifier, its inputs, and the loop over them."""

    def __init__(
        self,
        experiment: Experiment,
        classifier: Classifier,
        inputs: dict[str, ModelInputs],
        seed: int,
        device: torch.device,
        precision: str = "float32",
        micro_batch_size: int | None = None,
    ):
        self.experiment, self.device, self.precision = experiment, device, precision
        self.classifier = classifier.to(device)
        self.inputs = move_inputs(inputs, device)
        self.trained = {name: p for name, p in classifier.named_parameters() if p.requires_grad}
        # The optimizer must hold every trained parameter and no other: a forgotten one would silently stay as it is.
        assert self.trained and all(p.is_leaf for p in self.trained.values())
        self.optimizer = AdamW(self.trained)
        self.order = LoaderOrder(seed)
        # On frozen features a whole update fits easily; elsewhere accumulation is there to save memory.
        whole_update = experiment.batch_size * experiment.accumulation_steps
        default = experiment.batch_size if classifier.first_block is None else whole_update
        self.micro_batch_size = micro_batch_size or default
        self.evaluation_tokens = EVALUATION_TOKENS
        self._fixed: FixedShape | None = None
        self._whole_update: UpdateFunction | None = None
        # Only on a GPU: a host's batches cost less when they are gathered by length.
        if device.type == "cuda":
            self.update_in_one_shape(lambda update: GraphedUpdate(update, device))
        self.result = Result()
        self._halved = False
        self._pending: list[tuple[int, Tensor]] = []
        self._on_step: Callable[[list[Step]], None] = lambda history: None

    def update_in_one_shape(self, record: Callable[[UpdateFunction], UpdateFunction]) -> None:
        """From here on compute each whole update at once, in batches of one shape, where that computes the same.

        Args:
            record: given the function that computes an update, what is called in its place.
        """
        reads_one = self.experiment.pooling != "mean"
        whole_blocks = max(0, len(self.classifier.h) - reads_one)
        self._fixed = fixed_shape(self.inputs["train"], whole_blocks, self.device)
        self._whole_update = record(self._fixed_update) if self._fixed else None

    def run(self, checkpoint: Checkpoint | None = None, on_step: Callable[[list[Step]], None] | None = None) -> Result:
        """Train all epochs, then evaluate the three splits.

        Args:
            checkpoint: what an earlier process may have kept, and where this one keeps what it has done.
            on_step: called with the history so far, at the beginning, after each update and at each epoch's end.

        Raises:
            InputError: a batch has no loss (all its labels are ignored), the loss is not finite, or the device's memory
                is too small.
        """
        first_epoch, seconds = self._go_on_from(checkpoint)
        self._on_step = on_step or self._on_step
        self._on_step(self.result.history)
        started = time.perf_counter() - seconds
        for epoch in range(first_epoch, self.experiment.num_epochs + 1):
            self._train_epoch(epoch)
            if checkpoint is not None and checkpoint.is_due(size_of(state := self.state())):
                seconds = time.perf_counter() - started
                checkpoint.save(TrainingState(epoch, seconds, self.result.history, state))
        synchronize(self.device)
        trained = time.perf_counter()
        self._evaluate_all()
        synchronize(self.device)
        self.result.training_seconds = trained - started
        self.result.evaluation_seconds = time.perf_counter() - trained
        return self.result

    def state(self) -> dict[str, Tensor]:
        """All that training changes, but for the history: these tensors themselves, not copies."""
        state = {"random_state": self.order.state}
        for name, parameter in self.trained.items():
            state[f"parameter.{name}"] = parameter.detach()
            state |= {f"{key}.{name}": value for key, value in self.optimizer.state[name].items()}
        return state

    def _go_on_from(self, checkpoint: Checkpoint | None) -> tuple[int, float]:
        """The first epoch to train, and the seconds that training has taken before."""
        progress = checkpoint.load() if checkpoint else None
        if progress is None:
            return 1, 0.0
        self.order.state = progress.tensors["random_state"]
        for name, parameter in self.trained.items():
            parameter.data.copy_(progress.tensors[f"parameter.{name}"])
            for key, tensor in self.optimizer.state[name].items():
                tensor.copy_(progress.tensors[f"{key}.{name}"])
        self.result.history = progress.history
        return progress.epoch + 1, progress.seconds

    def _train_epoch(self, epoch: int) -> None:
        experiment = self.experiment
        order = self.order.shuffled(len(self.inputs["train"]))
        batches = cut_batches(order, experiment.batch_size, drop_last=True)
        for first in range(0, len(batches), experiment.accumulation_steps):
            update = batches[first : first + experiment.accumulation_steps]
            step = len(self.result.history)
            self.result.history += [Step(step + i, epoch) for i in range(len(update))]
            # Parameters stay as they are until the last batch of the update, and so do the losses evaluated before it.
            last = step + len(update) - 1
            for earlier in range(step, last):
                self._evaluate_losses(earlier)
            self._pending.append((step, self._in_pieces(partial(self.update, step, update))))
            self._evaluate_losses(last)
            self._on_step(self.result.history)
        line = self.result.history[-1]
        line.train_acc = self._accuracy("train", EVALUATION_BATCHES)
        line.val_acc = self._accuracy("validation", EVALUATION_BATCHES)
        self._settle_losses()
        self._on_step(self.result.history)

    def _in_pieces(self, work: Callable[[], Done]) -> Done:
        """Do some work; if the device's memory is too small for it, from here on in pieces of half the size.

        Raises:
            InputError: it is too small for those, too.
        """
        try:
            return work()
        except torch.OutOfMemoryError:
            if self._halved or self.micro_batch_size == 1:
                raise InputError(
                    f"step {len(self.result.history) - 1}: device {self.device} has too little memory for"
                    f" micro_batch_size {self.micro_batch_size}; set a smaller one, precision: bfloat16 or device: cpu"
                ) from None
        # Outside the handler: the exception held what had filled the memory.
        self._halved = True
        self._whole_update = None
        self.micro_batch_size //= 2
        self.evaluation_tokens //= 2
        self.optimizer.zero_grad()
        print(
            f"warning: device {self.device} has too little memory: going on with micro_batch_size"
            f" {self.micro_batch_size}; set it in the configuration to begin with it",
            file=sys.stderr,
            flush=True,
        )
        return self._in_pieces(work)

    def update(self, step: int, update: list[Tensor]) -> Tensor:
        """One update from its batches: each one's loss, [len(update)] on the device."""
        messages = torch.cat(update)
        weights = torch.cat([self._loss_weights(step + i, "train", batch) for i, batch in enumerate(update)])
        whole = len(update) == self.experiment.accumulation_steps and len(messages) <= self.micro_batch_size
        if self._whole_update and whole:
            return self._whole_update(messages, weights)
        losses = self._accumulate_gradients(messages, weights, len(update))
        self.optimizer.step()
        return losses

    def _fixed_update(self, messages: Tensor, weights: Tensor) -> Tensor:
        """As `update`, of messages that are computed at once, with nothing but work for the device."""
        assert self._fixed is not None
        # A call that failed half-way may have left gradients.
        self.optimizer.zero_grad()
        packed, layout = self._fixed.gather(messages)
        shares = self._backward(packed, layout, self._fixed.labels[messages], weights)
        losses = shares.view(self.experiment.accumulation_steps, -1).sum(dim=1)
        self.optimizer.step()
        return losses

    def _accumulate_gradients(self, messages: Tensor, weights: Tensor, n_batches: int) -> Tensor:
        """Forward and backward over an update's batches, in pieces of micro_batch_size: the loss of each batch."""
        split = self.inputs["train"]
        batch_losses = torch.zeros(n_batches, device=self.device)
        # What a message adds to its batch's mean, by message: gather() sorts the messages of a piece by length.
        place = torch.empty(len(split), dtype=torch.int64)
        place[messages] = torch.arange(len(messages))
        for piece in messages.split(self.micro_batch_size):
            packed, layout, gathered = split.gather(piece, self.device)
            places = place[gathered]
            shares = self._backward(packed, layout, split.labels[gathered], weights[places])
            batch = (places // self.experiment.batch_size).to(self.device)
            batch_losses.index_add_(0, batch, shares.to(batch_losses.dtype))
        return batch_losses

    def _backward(self, packed: Tensor, layout: Sequences, labels: Tensor, weights: Tensor) -> Tensor:
        """Add some messages' gradients; what each adds to its batch's mean loss, [B]."""
        with autocast(self.device, self.precision):
            logits = self.classifier(packed, layout)
        shares = self._losses(logits, labels) * weights.to(self.device)
        (shares.sum() / self.experiment.accumulation_steps).backward()
        return shares.detach()

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:  # (B, 2), (B,) -> (B,), zero where ignored
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return F.cross_entropy(
            logits.to(dtype), labels.to(self.device), ignore_index=self.experiment.ignore_index, reduction="none"
        )

    def _loss_weights(self, step: int, split: str, batch: Tensor) -> Tensor:
        """What each message's loss weighs in its batch's mean, [B]: one over the labels that are not ignored."""
        counted = int((self.inputs[split].labels[batch] != self.experiment.ignore_index).sum())
        if counted == 0:
            raise InputError(
                f"step {step}: every label of a {split} batch is ignore_index {self.experiment.ignore_index}, so it has"
                " no loss; choose an ignore_index that is no label (-100)"
            )
        return torch.full((len(batch),), 1 / counted, dtype=torch.float64 if self._double else torch.float32)

    @property
    def _double(self) -> bool:
        return next(iter(self.trained.values())).dtype == torch.float64

    def _evaluate_losses(self, step: int) -> None:
        if step % EVALUATE_EVERY:
            return
        line = self.result.history[step]
        line.train_loss = self._mean_loss(step, "train")
        line.val_loss = self._mean_loss(step, "validation")
        self._settle_losses()

    def _settle_losses(self) -> None:
        """Bring the batch losses from the device, and stop at the first one that is not finite."""
        for first, losses in self._pending:
            for step, loss in enumerate(losses.tolist(), start=first):
                self.result.history[step].batch_loss = loss
                if not math.isfinite(loss):
                    raise InputError(
                        f"step {step}: the loss is {loss}; training cannot go on; check the weights, or set"
                        " precision: float32"
                    )
        self._pending.clear()

    def _pass(self, split: str, limit: int | None) -> list[Tensor]:
        """The batches of a new pass over a loader, or its first `limit`."""
        draw = self.order.shuffled if split == "train" else self.order.sequential
        batches = cut_batches(draw(len(self.inputs[split])), self.experiment.batch_size, drop_last=split == "train")
        return batches[:limit]

    def _mean_loss(self, step: int, split: str) -> float:
        """The mean over 5 batches of each batch's mean loss."""
        batches = self._pass(split, EVALUATION_BATCHES)
        messages = torch.cat(batches)
        weights = torch.cat([self._loss_weights(step, split, batch) for batch in batches])
        losses = self._losses(self._predict(split, messages), self.inputs[split].labels[messages])
        return float((losses * weights.to(self.device)).sum() / len(batches))

    def _accuracy(self, split: str, limit: int) -> float:
        messages = torch.cat(self._pass(split, limit))
        predictions = self._predict(split, messages).argmax(dim=1).cpu()
        return float((predictions == self.inputs[split].labels[messages]).double().mean())

    def _evaluate_all(self) -> None:
        for split in self.inputs:
            messages = torch.cat(self._pass(split, None))
            logits = self._predict(split, messages).float().cpu()
            labels = self.inputs[split].labels[messages]
            self.result.correct[split] = (int((logits.argmax(dim=1) == labels).sum()), len(messages))
            if split == "test":
                self.result.logits = logits

    def _predict(self, split: str, messages: Tensor) -> Tensor:
        """Logits, [B, 2], of some messages in their order."""
        return self._in_pieces(
            lambda: classify(
                self.classifier, self.inputs[split], messages, self.device, self.precision, self.evaluation_tokens
            )
        )

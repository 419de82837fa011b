"""The training loop of a run: step by step what the reference does.

Source of the reference: rasbt/LLMs-from-scratch, ch06/02_bonus_additional-experiments/additional_experiments.py.
"""

import math
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..common.errors import InputError
from ..common.torch_setup import autocast, synchronize
from ..gpt2.model import N_CLASSES, Classifier
from ..runs.result import Result, Step
from ..settings.constants import EVALUATE_EVERY, EVALUATION_BATCHES, EVALUATION_TOKENS
from ..settings.experiment import Experiment
from .adamw import AdamW, has_schedule, learning_rate_factor
from .batches import LoaderOrder, ModelInputs, cut_batches, move_inputs
from .checkpoints import Checkpoint, TrainingState, size_of
from .evaluation import classify
from .updates import ComputeSizes, MicroBatch, choose_updates


class Finetuning:
    """One run: a classifier, its inputs, and the loop over them.

    Args:
        classifier: as `build_classifier` gives; it is moved to `device` and trained in place.
        inputs: of the splits `train`, `validation` and `test`.
        seed: of the order of batches.
        micro_batch_size: examples of a forward and backward pass; None: chosen here.
        use_fixed_shape: compute whole updates in batches of a fixed shape where that computes the same; None: on CUDA,
            where a CUDA graph replays them. On the CPU, batches gathered by length cost less.
    """

    def __init__(
        self,
        experiment: Experiment,
        classifier: Classifier,
        inputs: dict[str, ModelInputs],
        seed: int,
        device: torch.device,
        precision: str = "float32",
        micro_batch_size: int | None = None,
        use_fixed_shape: bool | None = None,
    ):
        self.experiment, self.device, self.precision = experiment, device, precision
        self.classifier = classifier.to(device)
        self.inputs = move_inputs(inputs, device)
        self.trained = {name: p for name, p in classifier.named_parameters() if p.requires_grad}
        # The optimizer must hold every trained parameter and no other: a forgotten one would silently stay as it is.
        assert self.trained and all(p.is_leaf for p in self.trained.values())
        self.optimizer = AdamW(self.trained, experiment)
        # On the CPU, where labels are, and on the device: a CUDA graph cannot record a copy from the CPU.
        self.class_weights = self._class_weights()
        self._device_class_weights = None if self.class_weights is None else self.class_weights.to(device)
        # With `keep: best_validation`, the best epoch so far: [accuracy, -loss, epoch], and its parameters.
        self._best_score = torch.full((3,), -math.inf, dtype=torch.float64)
        self._best: dict[str, Tensor] = {}
        self.order = LoaderOrder(seed)
        # Where a whole update does not fit easily, accumulation is there to save memory.
        n_layer = (classifier.first_block or 0) + len(classifier.h)
        batches = experiment.accumulation_steps if experiment.takes_whole_updates(n_layer) else 1
        default = experiment.batch_size * batches
        self.sizes = ComputeSizes(device, micro_batch_size or default, EVALUATION_TOKENS)
        self.sizes.on_halving.append(self.optimizer.zero_grad)
        self.compute_update = choose_updates(
            self.inputs["train"],
            experiment,
            max(0, len(classifier.h) - (not experiment.average_embeddings)),
            self.sizes,
            self.optimizer.zero_grad,
            device.type == "cuda" if use_fixed_shape is None else use_fixed_shape,
        )
        self.result = Result()
        # Losses that are still on the device, by the step of the first one.
        self._pending: list[tuple[int, Tensor]] = []
        self._on_step: Callable[[list[Step]], None] = lambda history: None

    def train(
        self, checkpoint: Checkpoint | None = None, on_step: Callable[[list[Step]], None] | None = None
    ) -> Result:
        """Train all epochs, then evaluate the three splits.

        Args:
            checkpoint: what an earlier process may have saved, and where this one saves its state.
            on_step: called with the history so far: at the start, after each update and at the end of each epoch.

        Raises:
            InputError: a batch has no loss (all its labels are ignored), a loss is not finite, or the device's memory
                is too small.
        """
        first_epoch, seconds = self._resume(checkpoint)
        self._on_step = on_step or self._on_step
        self._on_step(self.result.history)
        started = time.perf_counter() - seconds
        for epoch in range(first_epoch, self.experiment.num_epochs + 1):
            self._train_epoch(epoch)
            if self.experiment.keep == "best_validation":
                self._keep_if_best(epoch)
            if checkpoint is not None and checkpoint.is_due(size_of(state := self.state())):
                saving = time.perf_counter()
                checkpoint.save(TrainingState(epoch, saving - started, self.result.history, state))
                started += time.perf_counter() - saving
        self.result.kept_epoch = int(self._best_score[2]) if self._best else self.experiment.num_epochs
        for name, parameter in self._best.items():
            self.trained[name].data.copy_(parameter)
        synchronize(self.device)
        trained = time.perf_counter()
        self._evaluate_all()
        synchronize(self.device)
        self.result.training_seconds = trained - started
        self.result.evaluation_seconds = time.perf_counter() - trained
        return self.result

    def _train_epoch(self, epoch: int) -> None:
        """One epoch: batches, forward, loss, backward, update, evaluation."""
        experiment, history = self.experiment, self.result.history

        def update(micro_batches: Iterable[MicroBatch]) -> list[Tensor]:
            weighted = []
            for micro_batch in micro_batches:
                with autocast(self.device, self.precision):
                    logits = self.classifier(micro_batch.inputs, micro_batch.layout)
                losses = self._training_losses(logits, micro_batch.labels) * micro_batch.weights.to(self.device)
                (losses.sum() / experiment.accumulation_steps).backward()
                weighted.append(losses.detach())
            self.optimizer.step()
            return weighted

        order = self.order.shuffled(len(self.inputs["train"]))
        batches = cut_batches(order, experiment.batch_size, drop_last=True)
        n_updates = math.ceil(len(batches) / experiment.accumulation_steps)
        for number, first in enumerate(range(0, len(batches), experiment.accumulation_steps)):
            if has_schedule(experiment):
                so_far = (epoch - 1) * n_updates + number
                factor = learning_rate_factor(experiment, so_far, experiment.num_epochs * n_updates)
                self.optimizer.scale_learning_rate(factor)
            accumulated = batches[first : first + experiment.accumulation_steps]
            steps = range(len(history), len(history) + len(accumulated))
            history += [Step(step, epoch) for step in steps]
            # Parameters change after the last batch of an update, so the losses at earlier ones are evaluated first.
            for step in steps[:-1]:
                self._evaluate_losses(step)
            weights = [
                self._loss_weights(step, "train", batch, self.class_weights)
                for step, batch in zip(steps, accumulated, strict=True)
            ]
            losses = self.compute_update(update, accumulated, weights, steps[-1])
            self._pending.append((steps[0], losses))
            self._evaluate_losses(steps[-1])
            self._on_step(history)
        history[-1].train_acc = self._accuracy("train", EVALUATION_BATCHES)
        history[-1].val_acc = self._accuracy("validation", EVALUATION_BATCHES)
        self._settle_losses()
        self._on_step(history)

    def _training_losses(self, logits: Tensor, labels: Tensor) -> Tensor:  # (B, 2), (B,) -> (B,), zero where ignored
        return self._losses(logits, labels, self._device_class_weights, self.experiment.label_smoothing)

    def _losses(
        self, logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:  # (B, 2), (B,) -> (B,), zero where ignored
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return F.cross_entropy(
            logits.to(dtype),
            labels.to(self.device),
            weight=class_weights,
            ignore_index=self.experiment.ignore_index,
            reduction="none",
            label_smoothing=label_smoothing,
        )

    def _loss_weights(self, step: int, split: str, batch: Tensor, class_weights: Tensor | None = None) -> Tensor:
        """The factor of each example's loss in its batch's mean, [B].

        It is one over the number of labels that are not ignored, or over the sum of their classes' weights.
        """
        labels = self.inputs[split].labels[batch]
        labels = labels[labels != self.experiment.ignore_index]
        if len(labels) == 0:
            raise InputError(
                f"step {step}: every label of a {split} batch is ignore_index {self.experiment.ignore_index}, so it has"
                " no loss; choose an ignore_index that is no label (-100)"
            )
        total = len(labels) if class_weights is None else float(class_weights[labels].double().sum())
        return torch.full((len(batch),), 1 / total, dtype=self._loss_dtype())

    def _loss_dtype(self) -> torch.dtype:
        return torch.promote_types(next(iter(self.trained.values())).dtype, torch.float32)

    def _class_weights(self) -> Tensor | None:
        """The weight of each class in the training loss, [2]; None if all weigh the same."""
        weights = self.experiment.class_weights
        if weights is None:
            return None
        if weights == "balanced":
            labels = self.inputs["train"].labels
            counts = torch.bincount(labels, minlength=N_CLASSES)
            # A class without examples has no say: any weight does.
            return (len(labels) / (N_CLASSES * counts.clamp(min=1).double())).to(self._loss_dtype())
        return torch.tensor(weights, dtype=self._loss_dtype())

    def _keep_if_best(self, epoch: int) -> None:
        """Keep the parameters of this epoch if no earlier one classifies the validation split as well.

        It draws no random number, so that the training is the same without it.
        """
        labels = self.inputs["validation"].labels
        logits = self._predict("validation", torch.arange(len(labels)))
        accuracy = float((logits.argmax(dim=1).cpu() == labels).double().mean())
        counted = (labels != self.experiment.ignore_index).to(self.device)
        loss = float(self._losses(logits, labels)[counted].double().mean())
        score = torch.tensor([accuracy, -loss if math.isfinite(loss) else -math.inf, epoch], dtype=torch.float64)
        if not self._best or tuple(score[:2].tolist()) > tuple(self._best_score[:2].tolist()):
            self._best_score = score
            self._best = {name: p.detach().clone() for name, p in self.trained.items()}

    def _settle_losses(self) -> None:
        """Copy the batch losses from the device into the history; stop at the first one that is not finite."""
        for first, losses in self._pending:
            for step, loss in enumerate(losses.tolist(), start=first):
                self.result.history[step].batch_loss = loss
                if not math.isfinite(loss):
                    raise InputError(
                        f"step {step}: the loss is {loss}; training cannot continue; check the weights, or set"
                        " precision: float32"
                    )
        self._pending.clear()

    def _evaluate_losses(self, step: int) -> None:
        if step % EVALUATE_EVERY:
            return
        line = self.result.history[step]
        line.train_loss = self._mean_loss(step, "train")
        line.val_loss = self._mean_loss(step, "validation")
        self._settle_losses()

    def _mean_loss(self, step: int, split: str) -> float:
        """The mean, over a few batches, of each batch's mean loss."""
        batches = self._pass(split, EVALUATION_BATCHES)
        examples = torch.cat(batches)
        weights = torch.cat([self._loss_weights(step, split, batch) for batch in batches])
        losses = self._losses(self._predict(split, examples), self.inputs[split].labels[examples])
        return float((losses * weights.to(self.device)).sum() / len(batches))

    def _accuracy(self, split: str, limit: int) -> float:
        examples = torch.cat(self._pass(split, limit))
        predictions = self._predict(split, examples).argmax(dim=1).cpu()
        return float((predictions == self.inputs[split].labels[examples]).double().mean())

    def _evaluate_all(self) -> None:
        for split in self.inputs:
            examples = torch.cat(self._pass(split, None))
            logits = self._predict(split, examples).float().cpu()
            labels = self.inputs[split].labels[examples]
            self.result.correct[split] = (int((logits.argmax(dim=1) == labels).sum()), len(examples))
            if split == "test":
                self.result.logits = logits

    def _pass(self, split: str, limit: int | None) -> list[Tensor]:
        """The batches of a new pass over a loader, or its first `limit`."""
        draw = self.order.shuffled if split == "train" else self.order.sequential
        batches = cut_batches(draw(len(self.inputs[split])), self.experiment.batch_size, drop_last=split == "train")
        return batches[:limit]

    def _predict(self, split: str, examples: Tensor) -> Tensor:
        """Logits of some examples in their order, [B, 2]."""
        return self.sizes.retry_smaller(
            lambda: classify(
                self.classifier,
                self.inputs[split],
                examples,
                self.device,
                self.precision,
                self.sizes.evaluation_tokens,
            ),
            len(self.result.history) - 1,
        )

    def state(self) -> dict[str, Tensor]:
        """All that training changes, without the history: the tensors themselves, not copies."""
        state = {"random_state": self.order.state}
        for name, parameter in self.trained.items():
            state[f"parameter.{name}"] = parameter.detach()
            state |= {f"{key}.{name}": value for key, value in self.optimizer.state[name].items()}
        if self._best:
            state["best_score"] = self._best_score
            state |= {f"best.{name}": parameter for name, parameter in self._best.items()}
        return state

    def _resume(self, checkpoint: Checkpoint | None) -> tuple[int, float]:
        """The first epoch to train, and the seconds that earlier epochs took, after loading a checkpoint if any."""
        saved = checkpoint.load() if checkpoint else None
        if saved is None:
            return 1, 0.0
        self.order.state = saved.tensors["random_state"]
        for name, parameter in self.trained.items():
            parameter.data.copy_(saved.tensors[f"parameter.{name}"])
            for key, tensor in self.optimizer.state[name].items():
                tensor.copy_(saved.tensors[f"{key}.{name}"])
        if "best_score" in saved.tensors:
            self._best_score = saved.tensors["best_score"]
            self._best = {name: saved.tensors[f"best.{name}"].to(self.device) for name in self.trained}
        self.result.history = saved.history
        return saved.epoch + 1, saved.seconds

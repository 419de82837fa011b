"""The result of a training loop: its history, its counts and its logits."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Step:
    """A line of history.csv: one training batch.

    Attributes:
        step: the batch's number, from 0.
        epoch: from 1.
        batch_loss: the mean loss of the batch, in nats.
        train_loss, val_loss: in nats; None where the reference does not evaluate the loss.
        train_acc, val_acc: fractions; None except on an epoch's last step.
    """

    step: int
    epoch: int
    batch_loss: float = math.nan
    train_loss: float | None = None
    val_loss: float | None = None
    train_acc: float | None = None
    val_acc: float | None = None


@dataclass
class Result:
    """What a finished training loop returns.

    Attributes:
        history: one step for each training batch.
        correct: by split, the number of correct predictions and the number of examples.
        kept_epoch: the epoch whose parameters were evaluated.
        logits: of the test examples, float32 [N_test, 2]; None until the loop has ended.
        training_seconds: the loop with its periodic evaluations, without writing checkpoints.
        evaluation_seconds: the final evaluation of the three splits.
    """

    history: list[Step] = field(default_factory=list)
    correct: dict[str, tuple[int, int]] = field(default_factory=dict)
    kept_epoch: int = 0
    logits: "Tensor | None" = None
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0

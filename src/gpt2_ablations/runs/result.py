"""What a finished training gives: its history, a line a batch, its counts and its logits."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Step:
    """A line of the history. Losses and accuracies stand only where the reference evaluates."""

    step: int
    epoch: int
    batch_loss: float = math.nan
    train_loss: float | None = None
    val_loss: float | None = None
    train_acc: float | None = None
    val_acc: float | None = None


@dataclass
class Result:
    """What a finished run gives. correct: right predictions and messages by split; logits: [N_test, 2] float32."""

    history: list[Step] = field(default_factory=list)
    correct: dict[str, tuple[int, int]] = field(default_factory=dict)
    logits: "Tensor | None" = None
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0

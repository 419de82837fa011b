"""The history of a training: a line for each batch."""

import math
from dataclasses import dataclass


@dataclass
class Step:
    """A line of the history. Losses and accuracies stand only where the document's program evaluates."""

    step: int
    epoch: int
    batch_loss: float = math.nan
    train_loss: float | None = None
    val_loss: float | None = None
    train_acc: float | None = None
    val_acc: float | None = None

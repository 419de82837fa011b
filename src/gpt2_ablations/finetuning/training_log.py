"""The progress of a training: lines in its log, and the job's progress file."""

import math
import time

from ..common import progress
from ..common.logs import logger
from ..common.text import duration
from ..runs.result import Step
from ..settings.constants import EVALUATION_BATCHES


class TrainingLog:
    """Called with the history so far: when training starts or resumes, after each update, at the end of each epoch.

    Args:
        epochs, steps: of the whole training; a step is a batch.
    """

    def __init__(self, epochs: int, steps: int):
        self.epochs, self.steps = epochs, steps
        self._started = 0.0
        self._is_new = True
        self._first_step = self._step = self._epoch = 0

    def __call__(self, history: list[Step]) -> None:
        if self._is_new:
            self._is_new = False
            self._started = time.monotonic()
            self._first_step = self._step = len(history)
            self._epoch = history[-1].epoch if history else 0
        for line in history[self._step :]:
            if line.train_loss is not None:
                losses = f"training loss {line.train_loss:.3f}, validation loss {line.val_loss:.3f}"
                self._say(f"epoch {line.epoch}, step {line.step}: {losses}", line.step + 1)
        self._step = len(history)
        if history and history[-1].epoch > self._epoch and history[-1].train_acc is not None:
            line, self._epoch = history[-1], history[-1].epoch
            accuracies = f"training accuracy {line.train_acc:.2%}, validation accuracy {line.val_acc:.2%}"
            self._say(f"epoch {line.epoch}: {accuracies} (of {EVALUATION_BATCHES} batches)", line.step + 1)
        progress.report("training", len(history), self.steps, lambda: self._figures(history))

    def _say(self, text: str, done: int) -> None:
        left = progress.seconds_left(time.monotonic() - self._started, done - self._first_step, self.steps - done)
        rest = f"; {duration(left)} left" if left else ""
        logger.info(text + rest)

    def _figures(self, history: list[Step]) -> dict:
        """The current epoch and step, with the last loss and accuracies that have been copied from the device."""
        epoch = history[-1].epoch + (history[-1].train_acc is not None) if history else 1
        figures: dict = {"epoch": min(epoch, self.epochs), "epochs": self.epochs, "step": len(history)}
        for line in reversed(history):
            if "loss" not in figures and not math.isnan(line.batch_loss):
                figures["loss"] = round(line.batch_loss, 4)
            if "val_acc" not in figures and line.val_acc is not None:
                figures |= {"train_acc": line.train_acc, "val_acc": line.val_acc}
            if {"loss", "val_acc"} <= figures.keys() or line.epoch < figures["epoch"] - 1:
                break
        return figures

"""Classifies messages with the frozen base and the layers that a run has kept: the logits are those of its training."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.torch_setup import set_up_torch, take_device
from ..data.tokens import Encode, TokenizedSplit, attend, tokenizer
from ..finetuning.evaluation import classify
from ..finetuning.features import extract, lay_out_examples, split_features
from ..finetuning.inputs import hidden_inputs, token_inputs
from ..finetuning.loop import initial_tensors
from ..gpt2.weights import Weights
from ..runs.saved_model import SavedModel
from ..settings.config import Config
from ..settings.constants import EVALUATION_TOKENS
from ..settings.feature_spec import feature_spec, tokens_per_shard
from ..settings.paths import Paths
from .saved_models import load_saved_model, open_base_weights, unfilled_classifier

# Messages are held and sorted by length so many at a time, or fewer if they are long.
MOST_MESSAGES = 4096
NAME = "messages"


@dataclass(frozen=True)
class Prediction:
    """What is said of one message. probability: of the label, 0 to 1; logits: of class 0 and class 1."""

    text: str
    label: str
    probability: float
    logits: tuple[float, float]


def load_predictor(config: Config, file: Path) -> "Predictor":
    """Load the layers that a run has kept, and what lies below them.

    Raises:
        InputError: the file, the base weights or the tokenizer are not there, or not what they should be.
    """
    saved, tensors = load_saved_model(file)
    set_up_torch(saved.precision)
    paths = Paths(config.results)
    encode = tokenizer(saved.tokenizer, paths.tokenizer)
    base = None if saved.experiment.trainable_layers == "all" else open_base_weights(saved, paths)
    return Predictor(saved, tensors, base, encode, take_device(config.device), config.features.max_memory_mb)


class Predictor:
    """A kept model, loaded.

    Args:
        tensors: what it keeps, by name.
        base: the weights it began with; None if it keeps all.
        encode: from text to token ids.
        max_memory_mb: what the hidden states of the frozen part may take.
    """

    def __init__(
        self,
        saved: SavedModel,
        tensors: dict[str, Tensor],
        base: Weights | None,
        encode: Encode,
        device: torch.device,
        max_memory_mb: int,
    ):
        self.saved, self.encode, self.device, self.max_memory_mb = saved, encode, device, max_memory_mb
        self._base = base
        self._spec = feature_spec(saved.experiment, saved.model, saved.seed, saved.precision)
        classifier = unfilled_classifier(saved)
        if saved.experiment.trainable_layers == "lora":
            tensors = initial_tensors(classifier, self._frozen()) | tensors
        classifier.load_state_dict(tensors, assign=True)
        self.classifier = classifier.requires_grad_(False).to(device)
        self.cut = 0

    def predict(self, texts: Iterable[str]) -> Iterator[Prediction]:
        """Classify messages, in their order, as they come: a window of them at a time is held in memory.

        Raises:
            InputError: a message is empty, or has more tokens than the model has positions.
        """
        for window in self._windows(texts):
            logits = self.logits([tokens for _, tokens in window]).double().cpu()
            for (text, _), pair, shares in zip(window, logits.tolist(), logits.softmax(dim=1).tolist(), strict=True):
                found = int(pair[1] > pair[0])
                yield Prediction(text, self.saved.labels[found], shares[found], (pair[0], pair[1]))
        if self.cut:
            print(f"{self.cut} messages were cut to {self.saved.context} tokens, as in training", file=sys.stderr)

    def logits(self, messages: list[list[int]]) -> Tensor:
        """Logits, [N, 2], of messages as token ids."""
        saved = self.saved
        tokens = TokenizedSplit(
            ids=torch.tensor([token for message in messages for token in message], dtype=torch.int64),
            lengths=torch.tensor([len(message) for message in messages], dtype=torch.int64),
            labels=torch.zeros(len(messages), dtype=torch.int64),
        )
        if self._spec is None:
            inputs = token_inputs(saved.experiment, attend(saved.experiment, tokens, saved.context))
        else:
            split = attend(self._spec.experiment(), tokens, saved.context)
            plan = lay_out_examples(self._spec, {NAME: split}, saved.context)
            shards = extract(self._spec, saved.model, plan, self._frozen, self.device, self.max_memory_mb)
            inputs = hidden_inputs(saved.experiment, split_features(plan, torch.cat(list(shards)))[NAME])
        every = torch.arange(len(messages))
        return classify(self.classifier, inputs, every, self.device, saved.precision, EVALUATION_TOKENS)

    def _frozen(self) -> Weights:
        assert self._base is not None
        return self._base

    def _windows(self, texts: Iterable[str]) -> Iterator[list[tuple[str, list[int]]]]:
        budget = tokens_per_shard(self.saved.model, self.max_memory_mb)
        window: list[tuple[str, list[int]]] = []
        held = 0
        for number, text in enumerate(texts, start=1):
            tokens = self._tokens(number, text)
            positions = self.saved.context or len(tokens)
            if window and (held + positions > budget or len(window) == MOST_MESSAGES):
                yield window
                window, held = [], 0
            window.append((text, tokens))
            held += positions
        if window:
            yield window

    def _tokens(self, number: int, text: str) -> list[int]:
        if not text.strip():
            raise InputError(f"predict: message {number} is empty; give it a text or remove it")
        tokens, context = self.encode(text), self.saved.context
        most = self.saved.model.n_positions
        if context is None and len(tokens) > most:
            raise InputError(
                f"predict: message {number} has {len(tokens)} tokens and no_padding never cuts;"
                f" {self.saved.experiment.model_size} has {most} positions; shorten the message"
            )
        self.cut += context is not None and len(tokens) > context
        return tokens

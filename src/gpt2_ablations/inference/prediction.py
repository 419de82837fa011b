"""Prediction: classifies texts with a saved model. The logits are those of the training run, within 1e-5."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.logs import logger
from ..common.torch_setup import set_up_torch, take_device
from ..data.tokenizer import Encode, load_tokenizer
from ..data.tokens import TokenizedSplit, attend
from ..finetuning.batches import hidden_inputs, token_inputs
from ..finetuning.classifier import initial_tensors
from ..finetuning.evaluation import classify
from ..finetuning.features import extract, lay_out_examples, split_features
from ..gpt2.weights import Weights
from ..runs.saved_model import SavedModel
from ..settings.config import Config
from ..settings.constants import EVALUATION_TOKENS
from ..settings.feature_spec import feature_spec, tokens_per_shard
from ..settings.paths import Paths
from .saved_models import classifier_without_weights, load_saved_model, open_base_weights

# A chunk holds at most this many texts, fewer if their hidden states would not fit the memory.
CHUNK_TEXTS = 4096
# The one split that the texts of a chunk form.
SPLIT = "texts"


@dataclass(frozen=True)
class Prediction:
    """The prediction for one text.

    Attributes:
        label: the predicted class's name.
        probability: of that label, 0 to 1.
        logits: of class 0 and of class 1.
        index: the place of the text among all, from 0.
    """

    text: str
    label: str
    probability: float
    logits: tuple[float, float]
    index: int


def load_predictor(config: Config, file: Path) -> "Predictor":
    """Load a saved model, its base weights and its tokenizer.

    Args:
        config: names the results folder, the device and the memory for features.
        file: the saved model.

    Raises:
        InputError: the saved model, the base weights or the tokenizer are missing or invalid.
    """
    saved, tensors = load_saved_model(file)
    set_up_torch(saved.precision)
    paths = Paths(config.results)
    encode = load_tokenizer(saved.tokenizer, paths.tokenizer)
    base = open_base_weights(saved, paths)
    return Predictor(saved, tensors, base, encode, take_device(config.device), config.features.max_memory_mb)


class Predictor:
    """Classifies texts with a saved model.

    Args:
        saved: the saved model's settings.
        tensors: its trained tensors, by name.
        base: the weights that its training started from; None if `tensors` holds every layer.
        encode: maps a text to token ids.
        max_memory_mb: memory for the hidden states of the frozen layers, in MiB.
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
        classifier = classifier_without_weights(saved)
        if saved.experiment.trainable_layers == "lora":
            tensors = initial_tensors(classifier, self._base_weights()) | tensors
        classifier.load_state_dict(tensors, assign=True)
        self.classifier = classifier.requires_grad_(False).to(device)
        self.n_cut = 0  # texts longer than the context length, so far
        self.n_empty = 0

    def predict(self, texts: Iterable[str]) -> Iterator[Prediction]:
        """Classify texts, in their order. One chunk of texts is in memory at a time.

        Empty texts are left out. Prints to standard error how many there were, and how many texts were cut to the
        context length, if any.

        Raises:
            InputError: a text has more tokens than the model has positions and the row does not cut texts.
        """
        for chunk in self._chunks(texts):
            logits = self.logits([token_ids for _, token_ids in chunk]).cpu().double()  # MPS has no float64
            probabilities = logits.softmax(dim=1).tolist()
            for ((index, text), _), pair, shares in zip(chunk, logits.tolist(), probabilities, strict=True):
                predicted = int(pair[1] > pair[0])
                yield Prediction(text, self.saved.labels[predicted], shares[predicted], (pair[0], pair[1]), index)
        if self.n_empty:
            logger.info(f"empty texts left out: {self.n_empty}")
        if self.n_cut:
            logger.info(f"texts cut to {self.saved.context} tokens, as in training: {self.n_cut}")

    def logits(self, examples: list[list[int]]) -> Tensor:
        """Return the logits of examples, [N, 2] on the device.

        Args:
            examples: N examples, each a list of token ids.
        """
        saved = self.saved
        tokens = TokenizedSplit(
            ids=torch.tensor([token for example in examples for token in example], dtype=torch.int64),
            lengths=torch.tensor([len(example) for example in examples], dtype=torch.int64),
            labels=torch.zeros(len(examples), dtype=torch.int64),
        )
        if self._spec is None:
            inputs = token_inputs(saved.experiment, attend(saved.experiment, tokens, saved.context), saved.context)
        else:
            split = attend(self._spec, tokens, saved.context)
            layout = lay_out_examples(self._spec, {SPLIT: split}, saved.context)
            shards = extract(self._spec, saved.model, layout, self._base_weights, self.device, self.max_memory_mb)
            features = split_features(layout, torch.cat(list(shards)))[SPLIT]
            inputs = hidden_inputs(saved.experiment, features, saved.context)
        indices = torch.arange(len(examples))
        return classify(self.classifier, inputs, indices, self.device, saved.precision, EVALUATION_TOKENS)

    def _base_weights(self) -> Weights:
        assert self._base is not None
        return self._base

    def _chunks(self, texts: Iterable[str]) -> Iterator[list[tuple[tuple[int, str], list[int]]]]:
        """Yield the texts that are not empty with their index and token ids, as many at a time as fit the memory."""
        most_positions = tokens_per_shard(self.saved.model, self.max_memory_mb)
        chunk: list[tuple[tuple[int, str], list[int]]] = []
        chunk_positions = 0
        for index, text in enumerate(texts):
            if not text.strip():
                self.n_empty += 1
                continue
            token_ids = self._token_ids(index + 1, text)
            length = self.saved.context or len(token_ids)
            if chunk and (chunk_positions + length > most_positions or len(chunk) == CHUNK_TEXTS):
                yield chunk
                chunk, chunk_positions = [], 0
            chunk.append(((index, text), token_ids))
            chunk_positions += length
        if chunk:
            yield chunk

    def _token_ids(self, number: int, text: str) -> list[int]:
        token_ids, context = self.encode(text), self.saved.context
        n_positions = self.saved.model.n_positions
        if context is None and len(token_ids) > n_positions:
            raise InputError(
                f"predict: text {number} has {len(token_ids)} tokens; {self.saved.experiment.model_size} has"
                f" {n_positions} positions and a row with no_padding does not cut texts; shorten the text"
            )
        self.n_cut += context is not None and len(token_ids) > context
        return token_ids

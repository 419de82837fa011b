"""The trained layers of a row's model on their initial weights."""

import torch
from torch import Tensor

from ..gpt2.model import Classifier
from ..gpt2.weights import Weights, draw_linear
from ..settings.constants import VOCABULARY_SIZE
from ..settings.experiment import Experiment
from ..settings.models import ModelConfig


def empty_classifier(experiment: Experiment, model: ModelConfig) -> Classifier:
    """The trained layers without weights, on the meta device."""
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
    """The trained layers on their initial weights; exactly the trained parameters require gradients.

    The head, then LoRA's A matrices, are drawn from `seed` in the reference's order.
    """
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
    """Add LoRA's matrices to the linear layers that the row adapts; only they and the head remain trainable."""
    classifier.requires_grad_(False)
    for layer, names in classifier.linear_layers():
        adapted = [group for group, name in enumerate(names) if experiment.adapts(name)]
        layer.add_lora(experiment.lora_rank, experiment.lora_factor, adapted, generator)
    classifier.head.requires_grad_(True)


def initial_tensors(classifier: Classifier, weights: Weights) -> dict[str, Tensor]:
    """Copies of the weights that a classifier starts from, by name, without the head's."""
    # One part at a time, so that the pages of a mapped file are released after they are copied.
    tensors: dict[str, Tensor] = {}
    if classifier.first_block is None:
        tensors |= _copied(weights.embeddings())
    for index in classifier.h:
        tensors |= _copied(weights.block(int(index)))
    if classifier.h:
        tensors |= _copied(weights.final_norm())
    return tensors


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def count_parameters(experiment: Experiment, model: ModelConfig, classifier: Classifier) -> tuple[int, int]:
    """The trainable parameters, and all parameters of the model with LoRA, the head and the frozen blocks."""
    trainable = sum(p.numel() for p in classifier.parameters() if p.requires_grad)
    adapters = sum(
        layer.lora_a.numel() + layer.lora_b.numel()
        for layer, _ in classifier.linear_layers()
        if layer.lora_a is not None and layer.lora_b is not None
    )
    c = model.n_embd
    trunk = (VOCABULARY_SIZE + model.n_positions) * c + model.n_layer * (12 * c * c + 13 * c) + 2 * c
    return trainable, trunk + (2 * c + 2) + adapters

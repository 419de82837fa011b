"""Logits of many messages, in pieces that fit the memory."""

import torch
from torch import Tensor

from ..common.torch_setup import autocast
from ..gpt2.model import N_CLASSES, Classifier
from .batches import ModelInputs


@torch.no_grad()
def classify(
    classifier: Classifier, inputs: ModelInputs, messages: Tensor, device: torch.device, precision: str, n_tokens: int
) -> Tensor:
    """Logits of some messages, in their order.

    Args:
        messages: int64 [B] on the CPU.
        n_tokens: positions to compute at a time.

    Returns: [B, 2] on `device`.
    """
    # Messages that are the same stand in one place, and are computed once.
    starts, copy_of = inputs.starts[messages].unique(return_inverse=True)
    different = torch.empty_like(starts)
    different[copy_of] = messages
    by_length = inputs.lengths[different].argsort(stable=True)
    logits = None
    for places in by_length.split(_pieces(inputs.lengths[different[by_length]], n_tokens)):
        # gather() sorts by length, which these already are: the order stays.
        packed, layout, _ = inputs.gather(different[places], device)
        with autocast(device, precision):
            piece = classifier(packed, layout)
        if logits is None:
            logits = torch.empty(len(different), N_CLASSES, dtype=piece.dtype, device=device)
        logits[places.to(device)] = piece
    assert logits is not None, "no messages"
    return logits[copy_of.to(device)]


def _pieces(lengths: Tensor, n_tokens: int) -> list[int]:
    """Sizes of consecutive pieces of at most n_tokens positions, or of one longer message."""
    sizes, held = [0], 0
    for length in lengths.tolist():
        if held and held + length > n_tokens:
            sizes.append(0)
            held = 0
        sizes[-1] += 1
        held += length
    return sizes

"""Logits of many examples, a chunk at a time."""

import torch
from torch import Tensor

from ..common.torch_setup import autocast
from ..gpt2.model import N_CLASSES, Classifier
from .batches import ModelInputs


@torch.no_grad()
def classify(
    classifier: Classifier, inputs: ModelInputs, examples: Tensor, device: torch.device, precision: str, n_tokens: int
) -> Tensor:
    """Logits of some examples, in their order.

    Args:
        examples: int64 [B] on the CPU.
        n_tokens: positions to compute at a time.

    Returns: [B, 2] on `device`.
    """
    # Equal examples share one place in the store, and are computed once.
    starts, copy_of = inputs.starts[examples].unique(return_inverse=True)
    different = torch.empty_like(starts)
    different[copy_of] = examples
    by_length = inputs.length_order(different)
    logits = None
    for chunk in by_length.split(_chunk_sizes(inputs.lengths[different[by_length]], n_tokens)):
        # gather() sorts by length; these are sorted already, so their order stays.
        packed, layout, _ = inputs.gather(different[chunk], device)
        with autocast(device, precision):
            of_chunk = classifier(packed, layout)
        if logits is None:
            logits = torch.empty(len(different), N_CLASSES, dtype=of_chunk.dtype, device=device)
        logits[chunk.to(device)] = of_chunk
    assert logits is not None, "no examples"
    return logits[copy_of.to(device)]


def _chunk_sizes(lengths: Tensor, n_tokens: int) -> list[int]:
    """Examples in each chunk of at most n_tokens positions, or of one longer example."""
    sizes, held = [0], 0
    for length in lengths.tolist():
        if held and held + length > n_tokens:
            sizes.append(0)
            held = 0
        sizes[-1] += 1
        held += length
    return sizes

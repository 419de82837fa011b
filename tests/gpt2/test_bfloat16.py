"""`precision: bfloat16` computes what float32 computes, to bfloat16's digits: a block, its LoRA and gradients."""

import pytest
import torch

from gpt2_ablations.common.torch_setup import autocast
from gpt2_ablations.gpt2.model import Block, packed_layout

WIDTH, HEADS, TEXTS = 64, 4, 3
# bfloat16 keeps 8 bits, 0.4%; a block rounds a dozen times between its input and its gradients.
TOLERANCE = 0.02


def outputs(precision: str, length: int, lora: bool, causal: bool) -> dict[str, torch.Tensor]:
    """A block's output and its gradients, by name."""
    generator = torch.Generator().manual_seed(1)
    block = Block(WIDTH, HEADS)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    if lora:
        block.requires_grad_(False)
        for layer in (block.attn.c_attn, block.attn.c_proj):
            layer.add_lora(4, 4.0, range(layer.groups), generator)
            layer.lora_b.data.normal_(0, 0.2, generator=generator)
    x = torch.randn(TEXTS * length, WIDTH, generator=generator, requires_grad=True)
    weights = torch.randn(TEXTS * length, WIDTH, generator=generator)
    with autocast(torch.device("cpu"), precision):
        y = block(x, packed_layout(torch.full((TEXTS,), length), None, causal))
    (y.float() * weights).sum().backward()
    gradients = {name: parameter.grad for name, parameter in block.named_parameters() if parameter.requires_grad}
    return {"output": y.detach(), "input": x.grad} | gradients


# Attention with its gradients runs in float32 for up to 256 positions, in bfloat16 beyond.
@pytest.mark.parametrize("length", [1, 40, 256, 257])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lora", [False, True])
def test_a_block_in_bfloat16_is_the_block(length, causal, lora):
    exact, rounded = outputs("float32", length, lora, causal), outputs("bfloat16", length, lora, causal)
    assert exact.keys() == rounded.keys()
    errors = {name: float((rounded[name].float() - exact[name]).norm() / exact[name].norm()) for name in exact}
    assert max(errors.values()) < TOLERANCE, errors
    assert any(error > 1e-5 for error in errors.values())  # rounded, so bfloat16 was in use

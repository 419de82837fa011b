"""GPT-2 as a two-class classifier, on packed batches.

Architecture and parameters are those of OpenAI's GPT-2 in the layout of the Hugging Face files: linear weights are
[in, out], names are theirs without the `transformer.` prefix.

A batch holds its examples one after the other, [n_tokens, ...], with no padding between them. Shapes: B examples, T
positions of an example, C channels (n_embd), H heads, D = C / H.
"""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

N_CLASSES = 2
# The linear layers of a block, and what each of their groups is called in `lora_layers`.
BLOCK_LAYERS = {
    "attn.c_attn": ("query", "key", "value"),
    "attn.c_proj": ("attention_output",),
    "mlp.c_fc": ("mlp_in",),
    "mlp.c_proj": ("mlp_out",),
}


@dataclass(frozen=True)
class PackedLayout:
    """Where the examples of a packed batch lie, and which position of each is pooled; made by `packed_layout`.

    Attributes:
        lengths: positions of each example; examples of equal `lengths` and `n_keys` are adjacent.
        causal: whether a position attends only to itself and earlier ones.
        pooled: int64 [B], the packed index of each example's pooled position; None for a mean.
        attention_mask: bool [B, T], the keys that the pooled position attends to; None if it attends to all.
        n_keys: how many of each example's positions, the first ones, are attended to. The others are padding, the last
            positions of `context`. None: all.
        context: positions after padding; None without such padding.
        n_averaged: int64 [B], how many of each example's positions, the first ones, a mean is over; None: all.
    """

    lengths: tuple[int, ...]
    causal: bool
    pooled: Tensor | None
    attention_mask: Tensor | None
    n_keys: tuple[int, ...] | None = None
    context: int | None = None
    n_averaged: Tensor | None = None

    def length_groups(self) -> list[tuple[int, int, int, int]]:
        """(first packed index, examples, length, keys) of each group of adjacent examples equal in length and keys."""
        groups, start, index = [], 0, 0
        sizes = list(zip(self.lengths, self.n_keys or self.lengths, strict=True))
        for number, size in enumerate(sizes):
            if number + 1 == len(sizes) or sizes[number + 1] != size:
                count = number + 1 - start
                groups.append((index, count, *size))
                start, index = number + 1, index + count * size[0]
        return groups

    def positions(self, device: torch.device) -> Tensor:
        """The position of each token within its example, int64 [n_tokens]."""
        if len(groups := self.length_groups()) == 1:
            # Computed on the device alone, so that a CUDA graph can record it.
            ((_, n, t, n_keys),) = groups
            return self._positions(t, n_keys, device).repeat(n)
        cpu = torch.device("cpu")
        return torch.cat([self._positions(t, n_keys, cpu).repeat(n) for _, n, t, n_keys in groups]).to(device)

    def _positions(self, t: int, n_keys: int, device: torch.device) -> Tensor:
        """Of one example, int64 [t]."""
        if n_keys == t:
            return torch.arange(t, device=device)
        assert self.context is not None
        padding = torch.arange(self.context - (t - n_keys), self.context, device=device)
        return torch.cat([torch.arange(n_keys, device=device), padding])

    def padded(self, x: Tensor) -> Tensor:
        """Packed [n_tokens, C] as [B, T, C], with zeros after shorter examples."""
        if len(set(self.lengths)) == 1:
            return x.view(len(self.lengths), self.lengths[0], -1)
        return pad_sequence(x.split(self.lengths), batch_first=True)


def n_attended_keys(lengths: Tensor, pooled: Tensor, causal: bool, n_keys: Tensor | None = None) -> Tensor:
    """How many positions of its example the pooled one attends to, the first ones: (B,), (B,) -> (B,), int64.

    Args:
        n_keys: int64 [B], how many are attended to at all; None: all.
    """
    attended = torch.minimum(lengths, pooled + 1) if causal else lengths
    return attended if n_keys is None else torch.minimum(attended, n_keys)


def packed_layout(
    lengths: Tensor,
    pooled: Tensor | None,
    causal: bool,
    device: torch.device | str = "cpu",
    n_keys: Tensor | None = None,
    context: int | None = None,
    n_averaged: Tensor | None = None,
) -> PackedLayout:
    """The layout of a packed batch.

    Args:
        lengths: int64 [B] on the CPU; those with equal `n_keys`, too, are adjacent.
        pooled: int64 [B] on the CPU, the position in each example whose logits count; None for a mean.
        n_keys, n_averaged: int64 [B] on the CPU, and `context`: as `PackedLayout` has them.
    """
    index = attention_mask = None
    if pooled is not None:
        index = (lengths.cumsum(0) - lengths + pooled).to(device)
        attended = n_attended_keys(lengths, pooled, causal, n_keys)
        longest = int(lengths.max())
        if bool((attended < longest).any()):
            attention_mask = (torch.arange(longest) < attended[:, None]).to(device)
    return PackedLayout(
        tuple(lengths.tolist()),
        causal,
        index,
        attention_mask,
        None if n_keys is None else tuple(n_keys.tolist()),
        context,
        None if n_averaged is None else n_averaged.to(device),
    )


class Linear(nn.Module):
    """x W + b, and with LoRA x W + b + factor (x A) B, where each adapted group of outputs has an A and B of its own.

    The outputs are `groups` equal groups. weight: [in, out]; bias: [out]; lora_a: [in, n_adapted * rank]; lora_b:
    [n_adapted, rank, out / groups].
    """

    def __init__(self, n_in: int, n_out: int, groups: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.empty(n_out))
        self.groups = groups
        self.lora_a: nn.Parameter | None = None
        self.lora_b: nn.Parameter | None = None
        self.lora_factor = 0.0
        self.adapted: tuple[int, ...] = ()

    def add_lora(self, rank: int, factor: float, adapted: Sequence[int], generator: torch.Generator) -> None:
        """Add adapters: each A drawn as [in, rank] by kaiming_uniform_(a=sqrt(5)), each B zero.

        Args:
            adapted: the groups that get one.
        """
        self.lora_factor, self.adapted = factor, tuple(adapted)
        if not adapted:
            return
        n_in, n_out = self.weight.shape
        # The reference stores A as [in, rank], so PyTorch takes the rank for the fan-in: the bound is 1 / sqrt(rank).
        drawn = [
            nn.init.kaiming_uniform_(torch.empty(n_in, rank), a=math.sqrt(5), generator=generator) for _ in adapted
        ]
        self.lora_a = nn.Parameter(torch.cat(drawn, dim=1).to(self.weight.dtype))
        self.lora_b = nn.Parameter(torch.zeros(len(adapted), rank, n_out // self.groups, dtype=self.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:  # (n, in) -> (n, out)
        if x.is_cuda:
            y = torch.addmm(self.bias, x, self.weight)
        else:  # addmm would first copy the bias over the whole output, and then read it again
            y = torch.mm(x, self.weight)
            y.add_(self.bias.to(y.dtype))  # two types would take three times as long
        if self.lora_a is None or self.lora_b is None:
            return y
        return torch.addmm(y, x @ self.lora_a, self._joined_lora_b(self.lora_b), alpha=self.lora_factor)

    def _joined_lora_b(self, lora_b: Tensor) -> Tensor:  # (n_adapted, rank, out / groups) -> (n_adapted * rank, out)
        if self.groups == 1:
            return lora_b[0]
        if len(self.adapted) == self.groups:
            return torch.block_diag(*lora_b)
        width, last = lora_b.shape[2], self.groups - 1
        parts = zip(self.adapted, lora_b, strict=True)
        return torch.cat([F.pad(b, (group * width, (last - group) * width)) for group, b in parts])

    def add_to_(self, y: Tensor, x: Tensor) -> Tensor:
        """The in-place twin of y + forward(x), for a frozen layer: (n, out), (n, in) -> (n, out)."""
        return y.add_(self.bias).addmm_(x, self.weight)


class LinearPart:
    """One group of a Linear's output, split into heads: weight [C, H, D], seen from either side."""

    def __init__(self, weight: Tensor, bias: Tensor, lora_a: Tensor | None, lora_b: Tensor | None, lora_factor: float):
        self.weight, self.bias, self.lora_a, self.lora_b = weight, bias, lora_a, lora_b
        self.lora_factor = lora_factor

    @staticmethod
    def of(linear: Linear) -> "list[LinearPart]":
        """All groups of a layer, from one split, so that the backward pass joins their gradients once."""
        groups = linear.groups
        weights, biases = linear.weight.chunk(groups, dim=1), linear.bias.chunk(groups)
        lora_a: list[Tensor | None] = [None] * groups
        lora_b: list[Tensor | None] = [None] * groups
        if linear.lora_a is not None and linear.lora_b is not None:
            matrices = zip(linear.lora_a.chunk(len(linear.adapted), dim=1), linear.lora_b.unbind(), strict=True)
            for group, (a, b) in zip(linear.adapted, matrices, strict=True):
                lora_a[group], lora_b[group] = a, b
        parts = zip(weights, biases, lora_a, lora_b, strict=True)
        return [LinearPart(*part, linear.lora_factor) for part in parts]

    def __call__(self, x: Tensor) -> Tensor:  # (B, C) -> (B, C)
        y = torch.addmm(self.bias, x, self.weight)
        if self.lora_a is None or self.lora_b is None:
            return y
        return torch.addmm(y, x @ self.lora_a, self.lora_b, alpha=self.lora_factor)

    def per_head(self, x: Tensor) -> Tensor:  # (B, H, C) -> (B, H, D), head h of x through head h's columns
        n_head = x.shape[1]
        y = _heads_matmul(x, _by_head(self.weight, n_head))
        if self.lora_a is not None and self.lora_b is not None:
            y = y + self.lora_factor * _heads_matmul(x @ self.lora_a, _by_head(self.lora_b, n_head))
        return y + self.bias.view(n_head, -1)

    def transposed_per_head(self, q: Tensor) -> Tensor:  # (B, H, D) -> (B, H, C), without the bias
        n_head = q.shape[1]
        u = _heads_matmul(q, _by_head(self.weight, n_head).transpose(1, 2))
        if self.lora_a is not None and self.lora_b is not None:
            inner = _heads_matmul(q, _by_head(self.lora_b, n_head).transpose(1, 2))
            u = u + self.lora_factor * (inner @ self.lora_a.t())
        return u


def _by_head(weight: Tensor, n_head: int) -> Tensor:  # (in, H * D) -> (H, in, D)
    return weight.view(weight.shape[0], n_head, -1).transpose(0, 1)


def _heads_matmul(x: Tensor, weight: Tensor) -> Tensor:  # (B, H, m), (H, m, n) -> (B, H, n)
    return torch.bmm(x.transpose(0, 1), weight).transpose(0, 1)


def _quicker_in_float32(qkv: Tensor, t: int) -> bool:
    """Whether attention over t positions is quicker in float32: on the CPU its bfloat16 backward pass is slow."""
    return qkv.dtype == torch.bfloat16 and qkv.requires_grad and qkv.device.type == "cpu" and t <= 256


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection to queries, keys and values."""

    def __init__(self, n_embd: int, n_head: int):
        super().__init__()
        self.n_head = n_head
        self.c_attn = Linear(n_embd, 3 * n_embd, groups=3)
        self.c_proj = Linear(n_embd, n_embd)

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:  # (n_tokens, C) -> (n_tokens, C)
        return self.c_proj(self.context(x, layout))

    def context(self, x: Tensor, layout: PackedLayout) -> Tensor:
        """The heads' weighted sums of values, before the output projection: (n_tokens, C) -> (n_tokens, C)."""
        qkv = self.c_attn(x)
        groups = layout.length_groups()
        contexts = [self._attend(qkv[s : s + n * t], n, t, n_keys, layout.causal) for s, n, t, n_keys in groups]
        return contexts[0] if len(groups) == 1 else torch.cat(contexts)

    def _attend(self, qkv: Tensor, n: int, t: int, n_keys: int, causal: bool) -> Tensor:  # (n * t, 3C) -> (n * t, C)
        if t == 1:
            # A single position attends to itself alone: queries and keys get gradients of exactly zero.
            return qkv.chunk(3, dim=1)[2]
        in_float32 = _quicker_in_float32(qkv, t)
        if in_float32:
            qkv = qkv.float()
        q, k, v = qkv.view(n, t, 3, self.n_head, -1).permute(2, 0, 3, 1, 4).unbind(0)  # each (n, H, t, D)
        with torch.autocast("cpu", enabled=False) if in_float32 else contextlib.nullcontext():
            if n_keys == t:
                context = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
            else:
                context = self._attend_to_first(q, k[:, :, :n_keys], v[:, :, :n_keys], causal)
        return context.transpose(1, 2).reshape(n * t, -1)

    @staticmethod
    def _attend_to_first(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        """Attention to the first positions alone: (n, H, t, D), and twice (n, H, n_keys, D) -> (n, H, t, D)."""
        if not causal:
            return F.scaled_dot_product_attention(q, k, v)
        n_keys = k.shape[2]
        keys = F.scaled_dot_product_attention(q[:, :, :n_keys], k, v, is_causal=True)
        return torch.cat([keys, F.scaled_dot_product_attention(q[:, :, n_keys:], k, v)], dim=2)

    def forward_pooled(self, normalized: Tensor, norm: nn.LayerNorm, layout: PackedLayout) -> Tensor:
        """Attention of each example's pooled position alone.

        With one query, the key and value projections can be applied on the query's side. For each head the score of
        position j is (Wk^T q) . h_j, and the context is Wv (sum_j a_j h_j) + bv. This costs O(T C) a head instead of
        O(T C D). The key bias adds the same number to all scores and drops out of the softmax; so does the norm's
        bias on the keys' side.

        Args:
            normalized: (n_tokens, C), hidden states normalised without the affine part of `norm`.

        Returns: (B, C).
        """
        n_head, width, pooled = self.n_head, normalized.shape[1], layout.pooled
        assert pooled is not None, "the mean over positions has no pooled one"
        query, key, value = LinearPart.of(self.c_attn)
        q = query(normalized[pooled] * norm.weight + norm.bias).view(len(pooled), n_head, -1)  # (B, H, D)
        u = key.transposed_per_head(q) * norm.weight  # (B, H, C)
        h = layout.padded(normalized)  # (B, T, C)
        scores = torch.bmm(u, h.transpose(1, 2)) / math.sqrt(width // n_head)  # (B, H, T)
        if layout.attention_mask is not None:
            scores = scores.masked_fill(~layout.attention_mask[:, None], -torch.inf)
        context = torch.bmm(scores.softmax(dim=2), h)  # (B, H, C)
        return self.c_proj(value.per_head(context * norm.weight + norm.bias).reshape(len(pooled), width))


class MLP(nn.Module):
    """The feed-forward layers, 4 C wide, with GELU in its tanh form."""

    def __init__(self, n_embd: int):
        super().__init__()
        self.c_fc = Linear(n_embd, 4 * n_embd)
        self.c_proj = Linear(4 * n_embd, n_embd)
        self.packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:  # (n, C) -> (n, C)
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))

    def pack(self) -> None:
        """Reorder the first layer's weight for oneDNN, which then applies GELU while it writes the product."""
        self.packed = torch.ops.mkldnn._reorder_linear_weight(self.c_fc.weight.t().contiguous())

    def hidden(self, x: Tensor) -> Tensor:
        """The in-place twin of GELU of the first layer, for a frozen block: (n, C) -> (n, 4C)."""
        if self.packed is not None:
            return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.c_fc.bias, "gelu", [], "tanh")
        return torch.ops.aten.gelu_(self.c_fc(x), approximate="tanh")


class Block(nn.Module):
    """A transformer block.

    It has two ways forward: `forward` computes all positions, `forward_pooled` the pooled one of each example.
    `forward_` is the twin of `forward` that works in place, for frozen blocks.
    """

    def __init__(self, n_embd: int, n_head: int):
        super().__init__()
        self.ln_1 = nn.LayerNorm(n_embd, eps=1e-5)
        self.attn = Attention(n_embd, n_head)
        self.ln_2 = nn.LayerNorm(n_embd, eps=1e-5)
        self.mlp = MLP(n_embd)

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:  # (n_tokens, C) -> (n_tokens, C)
        x = x + self.attn(self.ln_1(x), layout)
        return x + self.mlp(self.ln_2(x))

    def forward_(self, x: Tensor, layout: PackedLayout) -> None:
        """The same as `forward`, line by line, in place and without gradients: float32 only. x: (n_tokens, C)."""
        self.attn.c_proj.add_to_(x, self.attn.context(self.ln_1(x), layout))
        self.mlp.c_proj.add_to_(x, self.mlp.hidden(self.ln_2(x)))

    def forward_pooled(self, x: Tensor, layout: PackedLayout) -> Tensor:  # (n_tokens, C) -> (B, C)
        normalized = F.layer_norm(x, x.shape[1:], eps=self.ln_1.eps)
        x = x[layout.pooled] + self.attn.forward_pooled(normalized, self.ln_1, layout)
        return x + self.mlp(self.ln_2(x))


def mean_pool(x: Tensor, layout: PackedLayout) -> Tensor:
    """The mean over each example's positions, or the first of them: (n_tokens, C) -> (B, C)."""
    if layout.n_averaged is not None:
        padded = layout.padded(x)
        counted = torch.arange(padded.shape[1], device=x.device) < layout.n_averaged[:, None]
        return (padded * counted[:, :, None]).sum(dim=1) / layout.n_averaged[:, None]
    return torch.cat([x[s : s + n * t].view(n, t, -1).mean(dim=1) for s, n, t, _ in layout.length_groups()])


class Classifier(nn.Module):
    """GPT-2 from one of its blocks on, with a two-class head.

    Args:
        first_block: None for the whole model, which takes token ids. 0 to n_layer - 1 for the blocks from that one on,
            which take the hidden states that enter it. n_layer for the head alone, which takes one final hidden state
            an example.
    """

    def __init__(
        self, n_layer: int, n_head: int, n_embd: int, n_positions: int, vocabulary: int, first_block: int | None
    ):
        super().__init__()
        self.first_block = first_block
        if first_block is None:
            self.wte = nn.Embedding(vocabulary, n_embd)
            self.wpe = nn.Embedding(n_positions, n_embd)
        self.h = nn.ModuleDict({str(i): Block(n_embd, n_head) for i in range(first_block or 0, n_layer)})
        if self.h:
            self.ln_f = nn.LayerNorm(n_embd, eps=1e-5)
        self.head = Linear(n_embd, N_CLASSES)

    def forward(self, inputs: Tensor, layout: PackedLayout) -> Tensor:
        """Logits of each example.

        Args:
            inputs: int64 (n_tokens,) token ids, (n_tokens, C) hidden states, or (B, C) for the head alone.

        Returns: (B, 2).
        """
        if not self.h:
            return self.head(inputs)
        x = inputs
        if self.first_block is None:
            x = self.wte(inputs) + self.wpe(layout.positions(inputs.device))
        *lower, last = self.blocks
        for block in lower:
            x = block(x, layout)
        if layout.pooled is None:
            return self.head(mean_pool(self.ln_f(last(x, layout)), layout))
        return self.head(self.ln_f(last.forward_pooled(x, layout)))

    @property
    def blocks(self) -> list[Block]:
        """The blocks that it has, the lowest first."""
        return [block for block in self.h.values() if isinstance(block, Block)]

    def linear_layers(self) -> list[tuple[Linear, tuple[str, ...]]]:
        """Every linear layer with the names of its groups, in the order in which LoRA's matrices are drawn."""
        layers: list[tuple[Linear, tuple[str, ...]]] = []
        for block in self.blocks:
            for name, groups in BLOCK_LAYERS.items():
                layer = block.get_submodule(name)
                assert isinstance(layer, Linear)
                layers.append((layer, groups))
        return [*layers, (self.head, ("head",))]

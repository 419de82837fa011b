"""GPT-2 as a two-class classifier, on packed batches.

A batch holds its messages one behind the other, [n_tokens, ...], with no padding between them. The parts of the
model are called B messages, T positions of a message, C channels (n_embd), H heads, D = C / H. Parameters carry the
names and layouts of the Hugging Face checkpoints: linear weights are [in, out].
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


@dataclass(frozen=True)
class Sequences:
    """How a packed batch falls into messages; made by `sequences`.

    lengths: attended positions of each message; equal lengths stand side by side.
    causal: whether a position attends only to itself and those before it.
    rows: int64 [B], the packed position that is read in each message; None for the mean over all.
    unreached: bool [B, T], the positions that the one read does not attend to; None if it attends to all.
    """

    lengths: tuple[int, ...]
    causal: bool
    rows: Tensor | None
    unreached: Tensor | None

    def runs(self) -> list[tuple[int, int, int]]:
        """(first packed position, messages, length) of each run of messages of one length."""
        runs, start, position = [], 0, 0
        for index, length in enumerate(self.lengths):
            if index + 1 == len(self.lengths) or self.lengths[index + 1] != length:
                count = index + 1 - start
                runs.append((position, count, length))
                start, position = index + 1, position + count * length
        return runs

    def positions(self, device: torch.device) -> Tensor:
        """Where in its message each packed position stands, int64 [n_tokens]."""
        if len(runs := self.runs()) == 1:
            # No word from the host: this may be recorded as a CUDA graph.
            ((_, n, t),) = runs
            return torch.arange(t, device=device).repeat(n)
        return torch.cat([torch.arange(t).repeat(n) for _, n, t in runs]).to(device)

    def padded(self, x: Tensor) -> Tensor:
        """Packed [n_tokens, C] as [B, longest, C], zeros behind shorter messages."""
        if len(set(self.lengths)) == 1:
            return x.view(len(self.lengths), self.lengths[0], -1)
        return pad_sequence(x.split(self.lengths), batch_first=True)


def reached(lengths: Tensor, read: Tensor, causal: bool) -> Tensor:
    """How many of its message's positions the read one attends to: int64 [B], (B,), (B,) -> (B,)."""
    return torch.minimum(lengths, read + 1) if causal else lengths


def sequences(lengths: Tensor, read: Tensor | None, causal: bool, device: torch.device | str = "cpu") -> Sequences:
    """Describe a packed batch.

    Args:
        lengths: int64 [B] on the CPU, equal ones side by side.
        read: int64 [B] on the CPU, the position in each message whose logits count; None for the mean.
    """
    rows = unreached = None
    if read is not None:
        rows = (lengths.cumsum(0) - lengths + read).to(device)
        reach = reached(lengths, read, causal)
        longest = int(lengths.max())
        if bool((reach < longest).any()):
            unreached = (torch.arange(longest) >= reach[:, None]).to(device)
    return Sequences(tuple(lengths.tolist()), causal, rows, unreached)


class Linear(nn.Module):
    """x W + b, and with LoRA x W + b + alpha (x A) B, one A and B for each of `groups` equal parts of the output.

    weight: [in, out]; bias: [out]; lora_a: [in, groups * rank]; lora_b: [groups, rank, out / groups].
    """

    def __init__(self, n_in: int, n_out: int, groups: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.empty(n_out))
        self.groups = groups
        self.lora_a: nn.Parameter | None = None
        self.lora_b: nn.Parameter | None = None
        self.alpha = 0.0

    def add_lora(self, rank: int, alpha: float, generator: torch.Generator) -> None:
        """Add adapters: each A drawn as [in, rank] by kaiming_uniform_(a=sqrt(5)), each B zero."""
        n_in, n_out = self.weight.shape
        # As the reference stores A, its second dimension counts as fan-in: the bound is 1 / sqrt(rank).
        drawn = [
            nn.init.kaiming_uniform_(torch.empty(n_in, rank), a=math.sqrt(5), generator=generator)
            for _ in range(self.groups)
        ]
        self.lora_a = nn.Parameter(torch.cat(drawn, dim=1).to(self.weight.dtype))
        self.lora_b = nn.Parameter(torch.zeros(self.groups, rank, n_out // self.groups, dtype=self.weight.dtype))
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:  # (n, in) -> (n, out)
        if x.is_cuda:
            y = torch.addmm(self.bias, x, self.weight)
        else:  # addmm would first copy the bias over the whole output, and then read it again
            y = torch.mm(x, self.weight)
            y.add_(self.bias.to(y.dtype))  # two types would take three times as long
        if self.lora_a is None or self.lora_b is None:
            return y
        b = self.lora_b[0] if self.groups == 1 else torch.block_diag(*self.lora_b)
        return torch.addmm(y, x @ self.lora_a, b, alpha=self.alpha)

    def add_to_(self, y: Tensor, x: Tensor) -> Tensor:
        """y += x W + b, in place, for a frozen layer: (n, out), (n, in) -> (n, out)."""
        return y.add_(self.bias).addmm_(x, self.weight)


class LinearPart:
    """One group of a Linear's output, split into heads: weight [C, H, D], seen from either side."""

    def __init__(self, weight: Tensor, bias: Tensor, lora_a: Tensor | None, lora_b: Tensor | None, alpha: float):
        self.weight, self.bias, self.lora_a, self.lora_b, self.alpha = weight, bias, lora_a, lora_b, alpha

    @staticmethod
    def of(linear: Linear) -> "list[LinearPart]":
        """All groups of a layer, by one split: the backward pass puts their gradients together in one go."""
        groups = linear.groups
        weights, biases = linear.weight.chunk(groups, dim=1), linear.bias.chunk(groups)
        lora_a: Sequence[Tensor | None] = [None] * groups
        lora_b: Sequence[Tensor | None] = [None] * groups
        if linear.lora_a is not None and linear.lora_b is not None:
            lora_a, lora_b = linear.lora_a.chunk(groups, dim=1), linear.lora_b.unbind()
        parts = zip(weights, biases, lora_a, lora_b, strict=True)
        return [LinearPart(*part, linear.alpha) for part in parts]

    def __call__(self, x: Tensor) -> Tensor:  # (B, C) -> (B, C)
        y = torch.addmm(self.bias, x, self.weight)
        if self.lora_a is None or self.lora_b is None:
            return y
        return torch.addmm(y, x @ self.lora_a, self.lora_b, alpha=self.alpha)

    def per_head(self, x: Tensor) -> Tensor:  # (B, H, C) -> (B, H, D), head h of x through head h's columns
        n_head = x.shape[1]
        y = _heads_matmul(x, _by_head(self.weight, n_head))
        if self.lora_a is not None and self.lora_b is not None:
            y = y + self.alpha * _heads_matmul(x @ self.lora_a, _by_head(self.lora_b, n_head))
        return y + self.bias.view(n_head, -1)

    def transposed_per_head(self, q: Tensor) -> Tensor:  # (B, H, D) -> (B, H, C), without the bias
        n_head = q.shape[1]
        u = _heads_matmul(q, _by_head(self.weight, n_head).transpose(1, 2))
        if self.lora_a is not None and self.lora_b is not None:
            inner = _heads_matmul(q, _by_head(self.lora_b, n_head).transpose(1, 2))
            u = u + self.alpha * (inner @ self.lora_a.t())
        return u


def _by_head(weight: Tensor, n_head: int) -> Tensor:  # (in, H * D) -> (H, in, D)
    return weight.view(weight.shape[0], n_head, -1).transpose(0, 1)


def _heads_matmul(x: Tensor, weight: Tensor) -> Tensor:  # (B, H, m), (H, m, n) -> (B, H, n)
    return torch.bmm(x.transpose(0, 1), weight).transpose(0, 1)


def _quicker_in_float32(qkv: Tensor, t: int) -> bool:
    """Whether attention is: on the CPU its backward pass is up to four times slower in bfloat16 for short messages."""
    return qkv.dtype == torch.bfloat16 and qkv.requires_grad and qkv.device.type == "cpu" and t <= 256


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection to queries, keys and values."""

    def __init__(self, n_embd: int, n_head: int):
        super().__init__()
        self.n_head = n_head
        self.c_attn = Linear(n_embd, 3 * n_embd, groups=3)
        self.c_proj = Linear(n_embd, n_embd)

    def forward(self, x: Tensor, batch: Sequences) -> Tensor:  # (n_tokens, C) -> (n_tokens, C)
        return self.c_proj(self.context(x, batch))

    def context(self, x: Tensor, batch: Sequences) -> Tensor:
        """The heads' weighted sums of values, before the output projection: (n_tokens, C) -> (n_tokens, C)."""
        qkv = self.c_attn(x)
        runs = batch.runs()
        contexts = [self._attend(qkv[s : s + n * t], n, t, batch.causal) for s, n, t in runs]
        return contexts[0] if len(runs) == 1 else torch.cat(contexts)

    def _attend(self, qkv: Tensor, n: int, t: int, causal: bool) -> Tensor:  # (n * t, 3C) -> (n * t, C)
        if t == 1:
            # A lone position attends to itself alone: queries and keys get gradients of exactly zero.
            return qkv.chunk(3, dim=1)[2]
        in_float32 = _quicker_in_float32(qkv, t)
        if in_float32:
            qkv = qkv.float()
        q, k, v = qkv.view(n, t, 3, self.n_head, -1).permute(2, 0, 3, 1, 4).unbind(0)  # each (n, H, t, D)
        with torch.autocast("cpu", enabled=False) if in_float32 else contextlib.nullcontext():
            context = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return context.transpose(1, 2).reshape(n * t, -1)

    def read(self, normalized: Tensor, norm: nn.LayerNorm, batch: Sequences) -> Tensor:
        """Attention of the one position read in each message.

        With a single query the key and value projections move to its side: for each head the score of position j is
        (Wk^T q) . h_j, and the context is Wv (sum_j a_j h_j) + bv. This costs O(T C) a head, not O(T C D). The key
        bias adds the same to all scores and drops out of the softmax; so does the norm's bias on the keys' side.

        Args:
            normalized: (n_tokens, C), hidden states normalised without the affine part of `norm`.
        """
        n_head, width, rows = self.n_head, normalized.shape[1], batch.rows
        assert rows is not None, "no position is read: the mean is over all of them"
        query, key, value = LinearPart.of(self.c_attn)
        q = query(normalized[rows] * norm.weight + norm.bias).view(len(rows), n_head, -1)  # (B, H, D)
        u = key.transposed_per_head(q) * norm.weight  # (B, H, C)
        h = batch.padded(normalized)  # (B, T, C)
        scores = torch.bmm(u, h.transpose(1, 2)) / math.sqrt(width // n_head)  # (B, H, T)
        if batch.unreached is not None:
            scores = scores.masked_fill(batch.unreached[:, None], -torch.inf)
        context = torch.bmm(scores.softmax(dim=2), h)  # (B, H, C)
        return self.c_proj(value.per_head(context * norm.weight + norm.bias).reshape(len(rows), width))


class MLP(nn.Module):
    """The feed-forward part, 4 C wide, with GELU in its tanh form."""

    def __init__(self, n_embd: int):
        super().__init__()
        self.c_fc = Linear(n_embd, 4 * n_embd)
        self.c_proj = Linear(4 * n_embd, n_embd)
        self.packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:  # (n, C) -> (n, C)
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))

    def pack(self) -> None:
        """Lay the first layer's weight out for oneDNN, which then applies GELU while it writes the product."""
        self.packed = torch.ops.mkldnn._reorder_linear_weight(self.c_fc.weight.t().contiguous())

    def hidden(self, x: Tensor) -> Tensor:
        """GELU of the first layer, without a graph: (n, C) -> (n, 4C)."""
        if self.packed is not None:
            return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.c_fc.bias, "gelu", [], "tanh")
        return torch.ops.aten.gelu_(self.c_fc(x), approximate="tanh")


class Block(nn.Module):
    """A transformer block, for all positions (`forward`) or for the one read in each message (`read`)."""

    def __init__(self, n_embd: int, n_head: int):
        super().__init__()
        self.ln_1 = nn.LayerNorm(n_embd, eps=1e-5)
        self.attn = Attention(n_embd, n_head)
        self.ln_2 = nn.LayerNorm(n_embd, eps=1e-5)
        self.mlp = MLP(n_embd)

    def forward(self, x: Tensor, batch: Sequences) -> Tensor:  # (n_tokens, C) -> (n_tokens, C)
        x = x + self.attn(self.ln_1(x), batch)
        return x + self.mlp(self.ln_2(x))

    def forward_(self, x: Tensor, batch: Sequences) -> None:
        """As `forward`, for a frozen block in float32: in place and without a graph. x: (n_tokens, C)."""
        self.attn.c_proj.add_to_(x, self.attn.context(self.ln_1(x), batch))
        self.mlp.c_proj.add_to_(x, self.mlp.hidden(self.ln_2(x)))

    def read(self, x: Tensor, batch: Sequences) -> Tensor:  # (n_tokens, C) -> (B, C)
        normalized = F.layer_norm(x, x.shape[1:], eps=self.ln_1.eps)
        x = x[batch.rows] + self.attn.read(normalized, self.ln_1, batch)
        return x + self.mlp(self.ln_2(x))


def mean_pool(x: Tensor, batch: Sequences) -> Tensor:
    """The mean over each message's positions: (n_tokens, C) -> (B, C)."""
    return torch.cat([x[s : s + n * t].view(n, t, -1).mean(dim=1) for s, n, t in batch.runs()])


class Classifier(nn.Module):
    """GPT-2 from `first_block` on, with a two-class head.

    `first_block` None: the whole model, which takes token ids. 0 to n_layer - 1: the blocks from that one on, which
    take the hidden states that enter it. n_layer: the head alone, which takes one final hidden state a message.
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

    def forward(self, inputs: Tensor, batch: Sequences) -> Tensor:
        """Logits of each message.

        Args:
            inputs: int64 (n_tokens,) token ids, (n_tokens, C) hidden states, or (B, C) for the head alone.

        Returns: (B, 2).
        """
        if not self.h:
            return self.head(inputs)
        x = inputs
        if self.first_block is None:
            x = self.wte(inputs) + self.wpe(batch.positions(inputs.device))
        *lower, last = self.blocks
        for block in lower:
            x = block(x, batch)
        if batch.rows is None:
            return self.head(mean_pool(self.ln_f(last(x, batch)), batch))
        return self.head(self.ln_f(last.read(x, batch)))

    @property
    def blocks(self) -> list[Block]:
        """Those that it has, from the lowest up."""
        return [block for block in self.h.values() if isinstance(block, Block)]

    def linear_layers(self) -> list[Linear]:
        """Every linear layer in the order in which LoRA's matrices are drawn, the head last."""
        layers: list[Linear] = []
        for block in self.blocks:
            layers += [block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj]
        return [*layers, self.head]

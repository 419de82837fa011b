"""Pretrains the demo's miniature GPT-2 models: next-token prediction on generated conversations, for seconds."""

import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..common.files import write_whole
from ..common.logs import logger
from ..data.demo_language import generate_pretraining_text
from ..settings.constants import PRETRAINING_BATCH_SIZE, PRETRAINING_STEPS, VOCABULARY_SIZE
from ..settings.models import ModelConfig
from .model import Block, packed_layout

WARM_UP_STEPS = 20
DECAY = 0.3  # the fraction of the steps, at the end, over which the learning rate falls to zero
LEARNING_RATE = 1.2e-2
# Small weights let the reference's small learning rate change much, whatever head a seed draws.
WEIGHT_DECAY = 0.5
INITIAL_STD = 0.08
# A high initial gain of the final norm speeds up pretraining, and scales the updates of the head.
INITIAL_FINAL_GAIN = 4.0


class LanguageModel(nn.Module):
    """GPT-2 with its token embedding as output layer; parameters have the names of the Hugging Face files."""

    def __init__(self, model: ModelConfig, vocabulary: int):
        super().__init__()
        self.wte = nn.Embedding(vocabulary, model.n_embd)
        self.wpe = nn.Embedding(model.n_positions, model.n_embd)
        self.h = nn.ModuleList(Block(model.n_embd, model.n_head) for _ in range(model.n_layer))
        self.ln_f = nn.LayerNorm(model.n_embd, eps=1e-5)

    def forward(self, ids: Tensor) -> Tensor:  # (B, T) -> (B * T, vocabulary)
        n, t = ids.shape
        layout = packed_layout(torch.full((n,), t), pooled=None, causal=True)
        x = (self.wte(ids) + self.wpe.weight[:t]).flatten(0, 1)
        for block in self.h:
            x = block(x, layout)
        return self.ln_f(x) @ self.wte.weight.t()


def pretrain(model: ModelConfig, path: Path, seed: int, steps: int = PRETRAINING_STEPS) -> tuple[float, float]:
    """Pretrain a miniature and write its weights; the same seed and number of threads give the same file.

    Returns: the loss of the first batch and the mean loss of the last ten.
    """
    generator = torch.Generator().manual_seed(seed)
    streams = torch.tensor(generate_pretraining_text(steps * PRETRAINING_BATCH_SIZE, model.n_positions + 1, seed))
    tokens, streams = streams.unique(return_inverse=True)
    language_model = LanguageModel(model, len(tokens))
    _initialise(language_model, generator)
    losses = _train(language_model, streams.view(steps, PRETRAINING_BATCH_SIZE, -1))
    first, last = losses[0], sum(losses[-10:]) / len(losses[-10:])
    logger.info(f"pretrained for {steps} steps: loss {first:.2f} before, {last:.2f} after")
    with write_whole(path) as partial:
        partial.write_bytes(save(_weights_file(language_model, model, tokens, generator), metadata={"format": "pt"}))
    return first, last


def _initialise(language_model: LanguageModel, generator: torch.Generator) -> None:
    residual_std = INITIAL_STD / math.sqrt(2 * len(language_model.h))
    for name, parameter in language_model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 2:
            std = residual_std if name.endswith("c_proj.weight") else INITIAL_STD
            nn.init.normal_(parameter, std=std, generator=generator)
    nn.init.constant_(language_model.ln_f.weight, INITIAL_FINAL_GAIN)


def _train(language_model: LanguageModel, batches: Tensor) -> list[float]:
    """Train one step on each of the batches, int64 [steps, B, T + 1].

    Returns: the loss of every batch.
    """
    steps = len(batches)
    optimizer = torch.optim.AdamW(
        language_model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARM_UP_STEPS, (steps - step) / (DECAY * steps))
    )
    losses = []
    for ids in tqdm(batches, desc="pretraining", unit="step", file=sys.stderr, mininterval=1):
        loss = F.cross_entropy(language_model(ids[:, :-1]), ids[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(language_model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(loss.item())
    return losses


def _weights_file(
    language_model: LanguageModel, model: ModelConfig, tokens: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Every tensor of a Hugging Face GPT-2 file, including the attention masks.

    Tokens that do not occur in the text keep their initial embedding.
    """
    tensors = {name: tensor.contiguous() for name, tensor in language_model.state_dict().items()}
    learned = tensors["wte.weight"]
    wte = nn.init.normal_(torch.empty(VOCABULARY_SIZE, model.n_embd), std=INITIAL_STD, generator=generator)
    tensors["wte.weight"] = wte.index_copy(0, tokens, learned)
    for index in range(model.n_layer):
        mask = torch.ones(model.n_positions, model.n_positions).tril()
        tensors[f"h.{index}.attn.bias"] = mask.view(1, 1, *mask.shape)
    return tensors

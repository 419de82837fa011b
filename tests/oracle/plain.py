"""The reference written out plainly, for comparison with the fast path.

Padded batches of token ids run through a whole GPT-2, every position of every layer, with PyTorch's own data loaders
and its global random generator. Nothing is shared with the package but the settings of a row. Parameters and losses
have torch's default dtype.
"""

import math
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from gpt2_ablations.settings.experiment import Experiment

VOCABULARY_SIZE = 50257
PAD_TOKEN = 50256
N_CLASSES = 2


@dataclass(frozen=True)
class Dimensions:
    """The size of a GPT-2."""

    n_layer: int
    n_head: int
    n_embd: int
    n_positions: int


@dataclass(frozen=True)
class Texts:
    """The texts of one split: token ids, uncut and unpadded, and labels."""

    tokens: list[list[int]]
    labels: list[int]


@dataclass
class Run:
    """What a training run computed, step by step.

    evaluations: (step, training loss, validation loss); epochs: accuracies on 5 batches of training and validation;
    correct: correct predictions and number of texts of each split; first_gradients: by parameter, at the first update.
    """

    batch_losses: list[float] = field(default_factory=list)
    evaluations: list[tuple[int, float, float]] = field(default_factory=list)
    epochs: list[tuple[float, float]] = field(default_factory=list)
    correct: dict[str, tuple[int, int]] = field(default_factory=dict)
    test_logits: Tensor | None = None
    first_gradients: dict[str, Tensor] = field(default_factory=dict)
    kept_epoch: int | None = None


class NoLoss(Exception):
    """Every label of a batch is ignored."""

    def __init__(self, step: int):
        super().__init__(f"step {step}")
        self.step = step


class LoRALinear(nn.Module):
    """A linear layer x W + b with adapters: x W + b + alpha ((x A) B)."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float):
        super().__init__()
        self.linear, self.alpha = linear, alpha
        self.lora_a = nn.Parameter(torch.empty(linear.in_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        self.lora_b = nn.Parameter(torch.zeros(rank, linear.out_features))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.alpha * (x @ self.lora_a @ self.lora_b)


class LayerNorm(nn.Module):
    """Mean 0 and variance 1 over the channels, then scale and shift."""

    def __init__(self, n_embd: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(n_embd)), nn.Parameter(torch.zeros(n_embd))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        variance = centred.square().mean(dim=-1, keepdim=True)
        return centred / torch.sqrt(variance + 1e-5) * self.weight + self.bias


class Attention(nn.Module):
    """Multi-head self-attention with three separate projections, an explicit mask and an explicit softmax."""

    def __init__(self, n_embd: int, n_head: int, causal: bool):
        super().__init__()
        self.n_head, self.causal = n_head, causal
        self.query = nn.Linear(n_embd, n_embd)
        self.key = nn.Linear(n_embd, n_embd)
        self.value = nn.Linear(n_embd, n_embd)
        self.projection = nn.Linear(n_embd, n_embd)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:  # (B, T, C), (B, T) -> (B, T, C)
        b, t, c = x.shape
        q, k, v = (
            part(x).view(b, t, self.n_head, c // self.n_head).transpose(1, 2)  # (B, H, T, D)
            for part in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(c // self.n_head)  # (B, H, T, T)
        if self.causal:
            future = torch.ones(t, t, dtype=torch.bool).triu(diagonal=1)
            scores = scores.masked_fill(future, -torch.inf)
        if padding is not None:
            scores = scores.masked_fill(padding[:, None, None, :], -torch.inf)
        context = torch.softmax(scores, dim=-1) @ v
        return self.projection(context.transpose(1, 2).reshape(b, t, c))


class FeedForward(nn.Module):
    """Two linear layers with GELU, in its tanh form, between them."""

    def __init__(self, n_embd: int):
        super().__init__()
        self.inward = nn.Linear(n_embd, 4 * n_embd)
        self.outward = nn.Linear(4 * n_embd, n_embd)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inward(x)
        gelu = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return self.outward(gelu)


class Block(nn.Module):
    """A transformer block, normalised before each half."""

    def __init__(self, n_embd: int, n_head: int, causal: bool):
        super().__init__()
        self.norm_1, self.norm_2 = LayerNorm(n_embd), LayerNorm(n_embd)
        self.attention = Attention(n_embd, n_head, causal)
        self.feed_forward = FeedForward(n_embd)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        x = x + self.attention(self.norm_1(x), padding)
        return x + self.feed_forward(self.norm_2(x))


class GPT2Classifier(nn.Module):
    """A whole GPT-2 that gives two logits at every position.

    Layers draw their random weights in the order in which they are created.
    """

    def __init__(self, dimensions: Dimensions, causal: bool, mask_padding: bool):
        super().__init__()
        self.mask_padding = mask_padding
        n_embd = dimensions.n_embd
        self.token_embedding = nn.Embedding(VOCABULARY_SIZE, n_embd)
        self.position_embedding = nn.Embedding(dimensions.n_positions, n_embd)
        self.blocks = nn.ModuleList(Block(n_embd, dimensions.n_head, causal) for _ in range(dimensions.n_layer))
        self.final_norm = LayerNorm(n_embd)
        self.head: nn.Module | None = None

    def forward(self, ids: Tensor) -> Tensor:  # (B, T) -> (B, T, 2)
        padding = ids == PAD_TOKEN if self.mask_padding else None
        x = self.token_embedding(ids) + self.position_embedding(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x, padding)
        return self.head(self.final_norm(x))


def build_model(
    experiment: Experiment, dimensions: Dimensions, seed: int, pretrained: dict[str, Tensor] | None
) -> GPT2Classifier:
    """The model of a row before its first step, with what the row trains set to require gradients.

    Args:
        pretrained: tensors by their names in the Hugging Face GPT-2 files; None for `weights: random`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2Classifier(dimensions, not experiment.disable_causal_mask, experiment.mask_padding)
        if pretrained is not None:
            load_pretrained(model, pretrained)
        model.requires_grad_(False)

        torch.manual_seed(seed)
        model.head = nn.Linear(dimensions.n_embd, N_CLASSES)
        layers = experiment.trainable_layers.removeprefix("last_").split("_")
        number = {"block": 1, "two": 2, "layer": 0, "all": 0, "lora": 0}
        trained_blocks = number[layers[0]] if layers[0] in number else int(layers[0])
        for block in list(model.blocks)[dimensions.n_layer - trained_blocks :]:
            block.requires_grad_(True)
        if trained_blocks:
            model.final_norm.requires_grad_(True)
        if experiment.trainable_layers == "all":
            model.requires_grad_(True)
        if experiment.trainable_layers == "lora":
            add_lora(model, experiment)
    return model


def add_lora(model: GPT2Classifier, experiment: Experiment) -> None:
    """Wrap the linear layers that the row adapts, the head last."""
    rank, alpha = experiment.lora_rank, experiment.lora_alpha
    factor = {"alpha": alpha, "alpha/rank": alpha / rank, "alpha/sqrt(rank)": alpha / math.sqrt(rank)}
    wanted = experiment.lora_layers

    def wrap(module: nn.Module, name: str, option: str) -> None:
        if wanted == "all" or option in wanted:
            setattr(module, name, LoRALinear(getattr(module, name), rank, factor[experiment.lora_scaling]))

    for block in model.blocks:
        for name in ("query", "key", "value"):
            wrap(block.attention, name, name)
        wrap(block.attention, "projection", "attention_output")
        wrap(block.feed_forward, "inward", "mlp_in")
        wrap(block.feed_forward, "outward", "mlp_out")
    wrap(model, "head", "head")


@torch.no_grad()
def load_pretrained(model: GPT2Classifier, pretrained: dict[str, Tensor]) -> None:
    """Copy the tensors of a Hugging Face GPT-2 file, whose linear weights are [in, out]."""

    def norm(module: LayerNorm, name: str) -> None:
        module.weight.copy_(pretrained[f"{name}.weight"])
        module.bias.copy_(pretrained[f"{name}.bias"])

    def linear(modules: list[nn.Linear], name: str) -> None:
        weights = pretrained[f"{name}.weight"].chunk(len(modules), dim=1)
        biases = pretrained[f"{name}.bias"].chunk(len(modules))
        for module, weight, bias in zip(modules, weights, biases, strict=True):
            module.weight.copy_(weight.T)
            module.bias.copy_(bias)

    model.token_embedding.weight.copy_(pretrained["wte.weight"])
    model.position_embedding.weight.copy_(pretrained["wpe.weight"])
    for index, block in enumerate(model.blocks):
        norm(block.norm_1, f"h.{index}.ln_1")
        norm(block.norm_2, f"h.{index}.ln_2")
        linear([block.attention.query, block.attention.key, block.attention.value], f"h.{index}.attn.c_attn")
        linear([block.attention.projection], f"h.{index}.attn.c_proj")
        linear([block.feed_forward.inward], f"h.{index}.mlp.c_fc")
        linear([block.feed_forward.outward], f"h.{index}.mlp.c_proj")
    norm(model.final_norm, "ln_f")


class PaddedTexts(Dataset):
    """Texts cut and padded to `context` tokens; unchanged if `context` is None."""

    def __init__(self, texts: Texts, context: int | None):
        self.items = []
        for tokens, label in zip(texts.tokens, texts.labels, strict=True):
            if context is not None:
                tokens = tokens[:context] + [PAD_TOKEN] * (context - len(tokens))
            self.items.append((torch.tensor(tokens), label))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.items[index]


def context_length(experiment: Experiment, training: Texts, dimensions: Dimensions) -> int | None:
    """The number of tokens that texts are cut and padded to; None without padding."""
    if experiment.no_padding:
        return None
    return {
        "longest_training_example": max(map(len, training.tokens)),
        "model_context_length": dimensions.n_positions,
    }.get(experiment.context_length, experiment.context_length)


class Finetuning:
    """The reference's loop over one row."""

    def __init__(self, experiment: Experiment, model: GPT2Classifier, data: dict[str, Texts], context: int | None):
        self.experiment, self.model = experiment, model
        self.loaders = {
            split: DataLoader(
                PaddedTexts(data[split], context),
                batch_size=experiment.batch_size,
                shuffle=split == "train",
                drop_last=split == "train",
            )
            for split in ("train", "validation", "test")
        }
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.trained.values(),
            lr=experiment.learning_rate,
            weight_decay=experiment.weight_decay,
            foreach=False,
            fused=False,
        )
        n_updates = experiment.num_epochs * math.ceil(len(self.loaders["train"]) / experiment.accumulation_steps)
        warm_up = experiment.warmup_steps

        def factor(update: int) -> float:
            if update < warm_up:
                return update / warm_up
            fraction = (update - warm_up) / max(1, n_updates - warm_up)
            falling = {"constant": 1.0, "linear": 1 - fraction, "cosine": (1 + math.cos(math.pi * fraction)) / 2}
            return falling[experiment.lr_schedule]

        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        self.criterion = self._criterion(data["train"].labels)
        self.run = Run()

    def _criterion(self, labels: list[int]) -> nn.CrossEntropyLoss:
        """The training loss."""
        experiment, weights = self.experiment, self.experiment.class_weights
        if weights == "balanced":
            counts = [max(1, labels.count(label)) for label in range(N_CLASSES)]
            weights = [len(labels) / (N_CLASSES * count) for count in counts]
        return nn.CrossEntropyLoss(
            weight=None if weights is None else torch.tensor(weights, dtype=torch.get_default_dtype()),
            ignore_index=experiment.ignore_index,
            label_smoothing=experiment.label_smoothing,
        )

    def finetune(self, seed: int) -> Run:
        """Train all epochs, then evaluate the three splits.

        Raises:
            NoLoss: every label of a batch is ignored.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for epoch in range(1, self.experiment.num_epochs + 1):
                self._train_epoch()
                if self.experiment.keep == "best_validation":
                    self._keep(epoch)
            if self.experiment.keep == "best_validation":
                self.model.load_state_dict(self.kept)
            for split, loader in self.loaders.items():
                self.run.correct[split] = self._count_correct(loader)
            with torch.no_grad():
                self.run.test_logits = torch.cat([self._predict(ids) for ids, _ in self.loaders["test"]])
        return self.run

    def _train_epoch(self) -> None:
        loader = self.loaders["train"]
        for number, (ids, labels) in enumerate(loader, start=1):
            step = len(self.run.batch_losses)
            self._loss(ids, labels, step)  # stops where no label counts
            loss = self.criterion(self._predict(ids), labels)
            self.run.batch_losses.append(loss.item())
            (loss / self.experiment.accumulation_steps).backward()
            if number % self.experiment.accumulation_steps == 0 or number == len(loader):
                self._update()
            if step % 50 == 0:
                losses = [self._mean_loss(self.loaders[split], step) for split in ("train", "validation")]
                self.run.evaluations.append((step, *losses))
        counts = [self._count_correct(self.loaders[split], batches=5) for split in ("train", "validation")]
        self.run.epochs.append(tuple(correct / total for correct, total in counts))

    def _update(self) -> None:
        gradients = {name: p.grad for name, p in self.trained.items()}
        assert all(gradient is not None for gradient in gradients.values())
        if not self.run.first_gradients:
            self.run.first_gradients = {name: gradient.clone() for name, gradient in gradients.items()}
        if self.experiment.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.trained.values(), self.experiment.max_grad_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def _keep(self, epoch: int) -> None:
        """Keep the parameters if they classify the validation split better than those of all earlier epochs."""
        dataset = self.loaders["validation"].dataset
        logits = torch.cat([self._predict(ids[None]) for ids, _ in dataset])
        labels = torch.tensor([label for _, label in dataset])
        accuracy = float((logits.argmax(dim=1) == labels).double().mean())
        loss = float(F.cross_entropy(logits, labels, ignore_index=self.experiment.ignore_index))
        score = (accuracy, -loss if math.isfinite(loss) else -math.inf)
        if self.run.kept_epoch is None or score > self.best:
            self.best, self.run.kept_epoch = score, epoch
            self.kept = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def _predict(self, ids: Tensor) -> Tensor:  # (B, T) -> (B, 2)
        logits = self.model(ids)
        if self.experiment.average_embeddings:
            if self.experiment.average_over == "real":
                real = (ids != PAD_TOKEN)[:, :, None]
                return (logits * real).sum(dim=1) / real.sum(dim=1)
            return logits.mean(dim=1)
        if self.experiment.trainable_token_pos == "first":
            return logits[:, 0]
        if self.experiment.trainable_token_pos == "last":
            return logits[:, -1]
        last_real = [max(i for i, token in enumerate(text) if token != PAD_TOKEN) for text in ids.tolist()]
        return logits[torch.arange(len(ids)), last_real]

    def _loss(self, ids: Tensor, labels: Tensor, step: int) -> Tensor:
        if bool((labels == self.experiment.ignore_index).all()):
            raise NoLoss(step)
        return F.cross_entropy(self._predict(ids), labels, ignore_index=self.experiment.ignore_index)

    @torch.no_grad()
    def _mean_loss(self, loader: DataLoader, step: int) -> float:
        losses = [self._loss(ids, labels, step).item() for ids, labels in islice(loader, 5)]
        return sum(losses) / len(losses)

    @torch.no_grad()
    def _count_correct(self, loader: DataLoader, batches: int | None = None) -> tuple[int, int]:
        correct = total = 0
        for ids, labels in islice(loader, batches):
            correct += int((self._predict(ids).argmax(dim=1) == labels).sum())
            total += len(labels)
        return correct, total

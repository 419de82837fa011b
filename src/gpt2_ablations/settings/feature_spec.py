"""What the frozen layers of a row compute, and the identity under which rows share their features."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from .config import Config
from .constants import CHUNK_TOKENS
from .dataset_format import SMS_FORMAT
from .experiment import Attended, Experiment, Pooling, masks_padding
from .models import ModelConfig


@dataclass(frozen=True)
class FeatureSpec:
    """What the frozen layers of a row compute, without the options that only the trained layers use.

    Attributes:
        blocks: how many blocks are computed; n_layer includes the final norm, and one vector an example is kept.
        attended: the positions that are computed, as `Experiment.attended`.
        kept: `all` of them; or of the final hidden states the pooled position or a mean, as `Experiment.pooling`.
        context_length: as the row states it; None without padding.
        seed: of random weights; None for pretrained ones.
    """

    model_size: str
    blocks: int
    attended: Attended
    kept: Literal["all"] | Pooling
    context_length: int | str | None
    causal: bool
    precision: str
    seed: int | None

    @property
    def no_padding(self) -> bool:
        return self.context_length is None

    @property
    def masks_padding(self) -> bool:
        """Whether padding is computed to which no position attends."""
        return masks_padding(self.attended)


# What says how examples are cut and padded, and which positions are computed.
Row = Experiment | FeatureSpec


def feature_spec(experiment: Experiment, model: ModelConfig, seed: int, precision: str) -> FeatureSpec | None:
    """The features that a row uses; None if it trains or adapts every block, and so has no frozen layers."""
    blocks = experiment.n_frozen_blocks(model.n_layer)
    if blocks is None:
        return None
    context = experiment.context_length
    if context == "model_context_length":
        context = model.n_positions
    return FeatureSpec(
        model_size=experiment.model_size,
        blocks=blocks,
        attended=experiment.attended,
        kept="all" if blocks < model.n_layer else experiment.pooling,
        context_length=None if experiment.no_padding else context,
        causal=experiment.causal,
        precision=precision,
        seed=seed if experiment.weights == "random" else None,
    )


def feature_identity(spec: FeatureSpec, model: ModelConfig, config: Config, device: str = "auto") -> str:
    """The identity of features: equal for all rows and seeds that can share them, and the name of their file.

    It is a hash over what the hidden states depend on: weights, splits, tokenizer and the spec. It does not depend on
    where the same bytes come from, nor on the model's name or options of the trained layers.

    Args:
        device: the configured one. What `auto` means is known only in the job, which may run on another machine; a row
            does not use features of another device than its own.
    """
    identity = asdict(spec)
    del identity["model_size"]
    identity["dimensions"] = list(model.dimensions.values())
    if spec.seed is None:
        identity["weights"] = model.sha256 or model.source
    identity["dataset"] = config.dataset.sha256 or config.dataset.sources
    if config.dataset.format != SMS_FORMAT:
        identity["format"] = asdict(config.dataset.format)
    identity["tokenizer"] = config.tokenizer.name
    if device not in ("auto", "cpu"):
        identity["device"] = device
    canonical = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def tokens_per_shard(model: ModelConfig, max_memory_mb: int) -> int:
    """Positions whose hidden states, with the work on a chunk, take so many MiB."""
    # The largest tensors of a chunk: queries, keys and values (3 C), the feed-forward before and after GELU (8 C),
    # norms and sums (4 C). One block of weights (12 C^2) is in memory with them.
    c = model.n_embd
    work = 4 * (15 * c * CHUNK_TOKENS + 12 * c * c)
    return max(CHUNK_TOKENS, (max_memory_mb * 2**20 - work) // (4 * c))

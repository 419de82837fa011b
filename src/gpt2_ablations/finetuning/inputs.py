"""What the trained part of a row takes, from hidden states or from token ids."""

from ..data.tokens import AttendedSplit, first_copies
from ..settings.experiment import Experiment
from .batches import ModelInputs
from .features import FeatureSplit, pooled_positions


def hidden_inputs(experiment: Experiment, split: FeatureSplit) -> ModelInputs:
    """The inputs of a row whose lower part is frozen."""
    head_only = experiment.trainable_layers == "last_layer"
    return ModelInputs(
        store=split.hidden,
        starts=split.starts,
        lengths=split.lengths,
        labels=split.labels,
        read=None if head_only else pooled_positions(experiment.pooling, split.lengths, split.real_lengths),
        causal=experiment.causal,
    )


def token_inputs(experiment: Experiment, split: AttendedSplit) -> ModelInputs:
    """The inputs of a row that trains or adapts every block."""
    first = first_copies(split.ids.split(split.lengths.tolist()), split.real_lengths)
    return ModelInputs(
        store=split.ids,
        starts=(split.lengths.cumsum(0) - split.lengths)[first],
        lengths=split.lengths,
        labels=split.labels,
        read=pooled_positions(experiment.pooling, split.lengths, split.real_lengths),
        causal=experiment.causal,
    )

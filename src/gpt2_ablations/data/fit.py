"""Whether a row can be trained on some data: what jobs refuse, and the plan finds before them. No torch here."""

from collections.abc import Mapping

from ..settings.experiment import Experiment
from ..settings.feature_spec import Row

ADJECTIVES = {"train": "training"}


def too_long(experiment: Row, n_positions: int, longest: Mapping[str, int], at_least: bool = False) -> str | None:
    """Why a row cannot take its texts, and what to do; None if it can.

    Args:
        experiment: the row, or what its frozen layers compute.
        n_positions: of the row's model.
        longest: tokens of the longest example of each split.
        at_least: whether an example may have more tokens than `longest` says.
    """
    if not experiment.no_padding and experiment.context_length != "longest_training_example":
        return None
    split = max(longest, key=longest.__getitem__) if experiment.no_padding else "train"
    if longest[split] <= n_positions:
        return None
    if experiment.no_padding:
        why, advice = " and no_padding never cuts", "shorten the text or drop no_padding"
    else:
        why, advice = "", f"set context_length to an integer up to {n_positions}"
    return (
        f"the longest {ADJECTIVES.get(split, split)} example has {'at least ' * at_least}{longest[split]} tokens{why};"
        f" {experiment.model_size} has {n_positions} positions; {advice}"
    )


def too_few(experiment: Experiment, n_examples: int) -> str | None:
    """Why a row cannot be trained on so many training examples; None if it can."""
    if experiment.batch_size <= n_examples:
        return None
    return (
        f"batch_size is {experiment.batch_size} and there are {n_examples} training examples: no whole batch; allowed:"
        f" 1 to {n_examples}"
    )

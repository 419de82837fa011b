"""What is known of the examples before they are downloaded or tokenized, and which rows cannot be trained on them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import InputError
from ..common.text import counted
from ..data.dataset import Examples, split_examples
from ..data.download.sources import SourceError, is_local, local_path
from ..data.fit import too_few, too_long
from ..data.provenance import tokens_made_from
from ..settings.config import Config
from ..settings.constants import SPLITS
from ..settings.experiment import Experiment
from ..settings.models import ModelConfig
from ..settings.paths import Paths
from .checks import examples_on_disk
from .costs import read_lengths
from .up_to_date import metadata_of
from .workflow import Workflow

# A larger file is not read at the start of an invocation.
MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class _Longest:
    """Tokens of the longest example of each split, and whether an example may have more than that."""

    tokens: dict[str, int]
    at_least: bool = False


def examine_data(workflow: Workflow, rows: Collection[str]) -> Examples | None:
    """Before an invocation trains rows: check that they fit the data.

    Args:
        rows: those that it will train.

    Returns: the examples; None if nothing is trained, or if their file is large or not on this machine.

    Raises:
        InputError: the data is wrong, or a row cannot be trained on it.
    """
    examples = examples_on_disk(workflow.config, MAX_BYTES) if rows else None
    check_data_fit(workflow.config, workflow.models, {row: workflow.experiments[row] for row in rows}, examples)
    return examples


def check_data_fit(
    config: Config, models: Mapping[str, ModelConfig], experiments: Mapping[str, Experiment], examples: Examples | None
) -> None:
    """Check that rows can be trained on the data. Arguments as for `misfits`.

    Raises:
        InputError: a row cannot.
    """
    if found := misfits(config, models, experiments, examples):
        row, reason = next(iter(found.items()))
        more = f" (and {counted(len(found) - 1, 'more row')})" if len(found) > 1 else ""
        raise InputError(f"{config.experiments}: row {row}: {reason}{more}")


def misfits(
    config: Config, models: Mapping[str, ModelConfig], experiments: Mapping[str, Experiment], examples: Examples | None
) -> dict[str, str]:
    """The rows that cannot be trained on the data, and why.

    What the tokenized data says counts if it is up to date, or else what can be known of the examples.

    Args:
        models: by name.
        experiments: the rows to check, by id.
        examples: as `examples_on_disk` returns them.
    """
    if not experiments:
        return {}
    tokens = Paths(config.results).tokens
    made_from = metadata_of(tokens).get("made_from")
    if made_from and made_from == tokens_made_from(config):
        lengths = read_lengths(tokens)
        n_train = len(lengths.train)
        longest: _Longest | None = _Longest({name: int(getattr(lengths, name).max()) for name in SPLITS})
    elif examples is not None:
        n_train = examples.split_sizes["train"]
        longest = _longest(config, examples, min(models[e.model_size].n_positions for e in experiments.values()))
    else:
        return {}
    found = {}
    for row, experiment in experiments.items():
        reason = too_few(experiment, n_train)
        if longest is not None:
            n_positions = models[experiment.model_size].n_positions
            reason = reason or too_long(experiment, n_positions, longest.tokens, longest.at_least)
        if reason:
            found[row] = reason
    return found


def _longest(config: Config, examples: Examples, n_positions: int) -> _Longest | None:
    """None if each example fits into so many positions: no token is shorter than a byte."""
    sizes = [len(text.encode()) for text in examples.texts]
    if max(sizes) <= n_positions:
        return None
    from ..data.tokenizer import load_tokenizer

    folder = _tokenizer_folder(config)
    # A word has at least one token.
    encode = str.split if folder is None else load_tokenizer(config.tokenizer.name, folder)
    splits = split_examples(examples, config.dataset.format)
    tokens = {
        name: max((len(encode(examples.texts[index])) for index in indices if sizes[index] > n_positions), default=0)
        for name, indices in splits.items()
    }
    return _Longest(tokens, at_least=folder is None)


def _tokenizer_folder(config: Config) -> Path | None:
    """A folder of this machine that holds the tokenizer; None if there is none."""
    folders = [Paths(config.results).tokenizer]
    for source in config.tokenizer.sources:
        try:
            folders += [local_path(source)] if is_local(source) else []
        except SourceError:  # the job that fetches the file reports the error
            continue
    if config.tokenizer.name == "bytes":
        return folders[0]
    return next((f for f in folders if (f / "vocab.bpe").is_file() and (f / "encoder.json").is_file()), None)

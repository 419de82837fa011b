"""The input files that an invocation needs: their sources and sizes, and whether they exist already.

No server is asked; the command `check-sources` does that.
"""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...settings.config import Config
from ...settings.constants import VOCABULARY_SIZE
from ...settings.models import ModelConfig
from ...settings.paths import DEMO_FOLDER, Paths
from .fetch import TOKENIZER_FILES
from .sources import SourceError, is_local, local_file, printable_source, scheme_of

# The zip of the SMS Spam Collection, and the two files of the GPT-2 BPE, in bytes.
MESSAGES_BYTES = 207_707
TOKENIZER_BYTES = 456_318 + 1_042_301


@dataclass(frozen=True)
class Needed:
    """A file, or the two files of the tokenizer.

    Attributes:
        what: `messages`, `tokenizer` or `weights`.
        sources: in the order in which they are tried, without secrets.
        size: in bytes; expected, until the file exists.
        state: `here`, `in the download cache`, `on this machine` (it will be copied), `made here` (by a rule of the
            demo) or `download`.
        model: whose weights; None for other files.
    """

    what: str
    sources: list[str]
    size: int
    state: str
    model: str | None = None

    @property
    def download_bytes(self) -> int:
        """Bytes that will be downloaded."""
        return self.size if self.state == "download" else 0

    @property
    def disk_bytes(self) -> int:
        """Bytes that the file will take on the disk; 0 if it is there or in the download cache."""
        return self.size if self.state in ("download", "on this machine", "made here") else 0

    @property
    def goes_to_cache(self) -> bool:
        """Whether it will be stored in the cache of Hugging Face files and linked from the results folder."""
        return self.state == "download" and scheme_of(self.sources[0]) == "hf"


def needed_files(config: Config, models: dict[str, ModelConfig], used: Collection[str]) -> list[Needed]:
    """The messages, the tokenizer, and the pretrained weights of the models in use.

    Args:
        config: the configuration.
        models: all models by name.
        used: names of the models whose pretrained weights are needed.
    """
    paths = Paths(config.results)
    found = [_needed("messages", config.dataset.sources, [paths.messages], MESSAGES_BYTES)]
    if config.tokenizer.name != "bytes":
        files = [paths.tokenizer / name for name, _, _ in TOKENIZER_FILES]
        found.append(_needed("tokenizer", config.tokenizer.sources, files, TOKENIZER_BYTES))
    for name, model in models.items():
        if name in used:
            found.append(_needed("weights", [model.source], [paths.weights(name)], weights_file_bytes(model), name))
    return found


def weights_file_bytes(model: ModelConfig) -> int:
    """The approximate size in bytes of a GPT-2 weight file of Hugging Face.

    Such a file holds float32 weights and, for every block, a float32 causal mask of n_positions by n_positions.
    """
    c = model.n_embd
    weights = (VOCABULARY_SIZE + model.n_positions) * c + model.n_layer * (12 * c * c + 13 * c) + 2 * c
    return 4 * (weights + model.n_layer * model.n_positions**2)


def _needed(what: str, sources: list[str], files: list[Path], size: int, model: str | None = None) -> Needed:
    shown, first = [printable_source(source) for source in sources], sources[0]
    if all(file.is_file() for file in files):
        return Needed(what, shown, sum(file.stat().st_size for file in files), "here", model)
    if first.startswith(DEMO_FOLDER):
        return Needed(what, shown, size, "made here", model)
    state = "on this machine" if is_local(first) else "download"
    with suppress(SourceError, OSError):  # the job that fetches the file reports the error
        if is_local(first):
            size = local_file(first).stat().st_size or size
        elif scheme_of(first) == "hf":
            from . import hub  # imported on use: it takes half a second

            state = "in the download cache" if hub.cached(first) else state
    return Needed(what, shown, size, state, model)

"""What a run needs from elsewhere: where each file comes from, how large it is, and whether it is here already.

Nothing is asked of any server; `check-sources` does that.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ...settings.config import Config, ModelConfig
from ...settings.constants import VOCABULARY_SIZE
from ...settings.paths import DEMO_FOLDER, Paths
from .fetch import TOKENIZER_FILES
from .sources import SourceError, is_local, local_path, scheme_of, shown

# The reference's messages, zipped, and the two files of the GPT-2 BPE, in bytes.
MESSAGES_BYTES = 207_707
TOKENIZER_BYTES = 456_318 + 1_042_301


@dataclass(frozen=True)
class Needed:
    """A file, or the tokenizer's two.

    Attributes:
        what: `messages`, `tokenizer` or `weights`; model: whose weights.
        places: where it comes from, in the order in which they are tried, without secrets.
        size: bytes, as far as known before it is there.
        state: `here`, `in the download cache`, `on this machine` (copied), `made here` (the demo's), or `download`.
        begun: bytes of an unfinished download that goes on.
    """

    what: str
    places: list[str]
    size: int
    state: str
    model: str | None = None
    begun: int = 0

    @property
    def download_bytes(self) -> int:
        """Bytes that come over the network."""
        return self.size - min(self.begun, self.size) if self.state == "download" else 0

    @property
    def disk_bytes(self) -> int:
        """Bytes that it will take on the disk; in the download cache they lie already."""
        return self.size if self.state in ("download", "on this machine", "made here") else 0

    @property
    def goes_to_cache(self) -> bool:
        """Whether it will be kept in the shared cache of Hugging Face files, and linked from the results folder."""
        return self.state == "download" and scheme_of(self.places[0]) == "hf"

    @property
    def made_here(self) -> bool:
        """Whether the workflow itself makes it: the demo's messages and models."""
        return self.state == "made here"


def needed_files(config: Config, models: dict[str, ModelConfig], used: Collection[str]) -> list[Needed]:
    """The messages, the tokenizer, and the weights of the models that are used pretrained."""
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
    """About the size of a GPT-2 file as Hugging Face has them: float32 weights and, in every block, the causal mask."""
    c = model.n_embd
    weights = (VOCABULARY_SIZE + model.n_positions) * c + model.n_layer * (12 * c * c + 13 * c) + 2 * c
    return 4 * (weights + model.n_layer * model.n_positions**2)


def _needed(what: str, sources: list[str], files: list[Path], size: int, model: str | None = None) -> Needed:
    places = [shown(source) for source in sources]
    if all(file.is_file() for file in files):
        return Needed(what, places, sum(file.stat().st_size for file in files), "here", model)
    first = sources[0]
    if first.startswith(DEMO_FOLDER):
        return Needed(what, places, size, "made here", model)
    if is_local(first):
        return Needed(what, places, _size_on_disk(first, size), "on this machine", model)
    if scheme_of(first) == "hf" and _is_cached(first):
        return Needed(what, places, size, "in the download cache", model)
    begun = sum(_size_of(file.with_name(f".{file.name}.part")) for file in files)
    return Needed(what, places, size, "download", model, begun)


def _size_on_disk(source: str, otherwise: int) -> int:
    try:
        return _size_of(local_path(source)) or otherwise
    except SourceError:
        return otherwise


def _size_of(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:
        return 0


def _is_cached(source: str) -> bool:
    from . import hub  # loaded when it is needed: it takes half a second

    try:
        return hub.cached(hub.parse_hub_source(source)) is not None
    except (SourceError, OSError):
        return False

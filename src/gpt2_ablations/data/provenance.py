"""What the tokens and the weights are made from, by content: neither dates nor, with a sha256, sources count."""

import json
from dataclasses import asdict

from ..common.hashing import digest, digest_file, is_as_new, sha256_of, weights_digest
from ..common.source_code import command_digest
from ..settings.config import Config
from ..settings.constants import SPLITS
from ..settings.models import ModelConfig
from ..settings.paths import Paths
from .download.sources import SourceError, is_local, local_path


def tokens_made_from(config: Config) -> str | None:
    """A digest of the code, the settings and the files that determine the tokens; None if one of the files is missing.

    Tokens need not be made again while it stays the same.
    """
    paths = Paths(config.results)
    try:
        messages = sha256_of(paths.messages)
        if config.dataset.sha256 is None:
            origin = [_content(source) for source in config.dataset.sources]
        elif config.dataset.sha256 == messages:
            origin = []
        else:
            return None
        splits = [sha256_of(paths.split(name)) for name in SPLITS]
    except OSError:
        return None
    settings = [asdict(config.dataset.format), config.tokenizer.name]
    return digest(json.dumps([command_digest("split-messages", "tokenize"), settings, origin, messages, splits]))


def weights_made_from(config: Config, name: str, model: ModelConfig) -> str | None:
    """The sha256 of a model's weights, with their source if the configuration does not state the sha256.

    None if there are no weights and their sha256 is not known.
    """
    if model.sha256 is not None:
        return model.sha256
    copy = Paths(config.results).weights(name)
    try:
        original = local_path(model.source) if is_local(model.source) else None
        if original is not None and original.is_file() and not is_as_new(copy, original):
            found = sha256_of(original)
        else:
            found = weights_digest(copy) if copy.is_file() else digest_file(copy).read_text().strip()
    except (OSError, SourceError):
        return None
    return f"{found} {digest(model.source)}"


def _content(source: str) -> str:
    """The sha256 of a local source; another source itself, as a digest, because it can hold a password."""
    return sha256_of(local_path(source)) if is_local(source) and local_path(source).is_file() else digest(source)

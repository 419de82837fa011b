"""The job that fetches the pretrained weights of one GPT-2 size."""

from pathlib import Path

from ..common.errors import InputError
from ..common.files import write_text_whole
from ..common.hashing import digest_file, sha256_of
from ..data.download import fetch_file
from ..data.download.sources import printable_source
from ..settings.config import Config
from ..settings.models import configured_models
from ..settings.paths import Paths
from .weight_files import check_pretrained_weights


def fetch_weights(config: Config, model_size: str) -> None:
    """Fetch a model's weights, check every tensor, and write the file's sha256 beside it.

    Raises:
        InputError: the source does not give the file, or the file does not fit the model.
    """
    model = configured_models(config)[model_size]
    destination = Paths(config.results).weights(model_size)
    entry = f"{config.models}: {model_size}"
    accepted = False

    def accept(path: Path) -> None:
        nonlocal accepted
        try:
            check_pretrained_weights(path, model)
        except InputError as error:
            raise InputError(
                f"{entry}: source: {str(error).replace(str(path), printable_source(model.source))}"
            ) from None
        accepted = True

    fetch_file(
        [model.source],
        destination,
        model.sha256,
        f"{entry}: source",
        sha_setting=f"{entry}: sha256",
        accept=accept,
    )
    if not accepted:  # the file was there already
        accept(destination)
    write_text_whole(digest_file(destination), sha256_of(destination) + "\n")

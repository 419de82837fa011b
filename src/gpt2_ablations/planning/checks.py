"""Checks beyond the configuration's schema: that the files it names exist and contain what they should."""

import hashlib
import math
import os
from pathlib import Path

from ..common.errors import InputError
from ..common.files import existing_part
from ..common.hashing import sha256_of
from ..data.dataset import Examples, parse_messages
from ..data.download.archives import read_messages
from ..data.download.sources import SourceError, is_local, join_source, local_file, local_path
from ..settings.config import Config
from ..settings.experiment import Experiment
from ..settings.models import ModelConfig
from ..settings.paths import DEMO_FOLDER, Paths
from ..settings.published import load_published
from ..settings.questions import load_questions
from ..settings.rows import pretrained_models


def check_configuration(config: Config, models: dict[str, ModelConfig], experiments: dict[str, Experiment]) -> None:
    """Check the results folder, the sources' paths and the inputs of the reports.

    Raises:
        InputError: one of them is wrong.
    """
    check_results_folder(config.results)
    check_sources_outside_results(config, models)
    check_reports(config, experiments)


def check_reports(config: Config, experiments: dict[str, Experiment]) -> None:
    """Check what only the reports read, so that a mistake is found before training starts.

    Raises:
        InputError: the published figures or the questions are wrong.
    """
    if config.published is not None:
        load_published(config.published)
    load_questions(config.comparisons, experiments)


def check_results_folder(folder: str) -> None:
    """Check that the results folder can be created or written to.

    Raises:
        InputError: it cannot.
    """
    path = Path(folder)
    try:
        existing = existing_part(path)
        allowed = os.access(existing, os.W_OK | os.X_OK)
    except OSError as error:
        raise InputError(f"results is '{folder}': {error.strerror}; name a folder that can be created") from None
    if not existing.is_dir():
        what = "which" if existing == path else f"and {existing}"
        raise InputError(f"results is '{folder}', {what} is a file; name a folder")
    if not allowed:
        what = "which" if existing == path else f"and {existing}"
        raise InputError(
            f"results is '{folder}', {what} cannot be written to; make it writable, or choose another folder"
        )


def check_sources_outside_results(config: Config, models: dict[str, ModelConfig]) -> None:
    """Check that no source is the output of the rule that reads it. Snakemake deletes outputs before a rule runs.

    Raises:
        InputError: a source is such an output.
    """
    paths = Paths(config.results)
    written = [("dataset.sources", source, paths.messages) for source in config.dataset.sources]
    written += [("tokenizer.sources", source, paths.tokenizer) for source in config.tokenizer.sources]
    for name, model in models.items():
        written.append((f"{config.models}: {name}: source", model.source, paths.weights(name)))
    for where, source, path in written:
        if refers_to(source, path):
            raise InputError(
                f"{where}: {source} is the workflow's own output, which is deleted before it is written; "
                "move your copy out of the results folder and set its new path here"
            )


def refers_to(source: str, path: Path) -> bool:
    """Whether a source is the file or folder at `path`, so that removing `path` would remove the source.

    The file need not exist. A symbolic link at `path` may point to the source: removing the link keeps the source. A
    source that is a symbolic link to `path` refers to it.
    """
    if not is_local(source):
        return False
    try:
        named, removed = local_path(source), path.parent.resolve() / path.name
        return removed in (named.parent.resolve() / named.name, named.resolve())
    except (OSError, RuntimeError, SourceError):
        return False  # reading the source reports the error


def check_sources_on_disk(
    config: Config, models: dict[str, ModelConfig], selected: dict[str, Experiment]
) -> Examples | None:
    """Check the inputs on this machine. The command `check-sources` asks for those that are downloaded.

    Returns: the examples, as `examples_on_disk`.

    Raises:
        InputError: the data set, the tokenizer or the weights of a selected row are missing or not as expected.
    """
    examples = examples_on_disk(config)
    _check_tokenizer(config)
    needed = pretrained_models(selected)
    for name in models:
        if name in needed:
            _check_weights(config, name, models[name])
    return examples


def examples_on_disk(config: Config, max_bytes: float = math.inf) -> Examples | None:
    """The examples, if their file is on this machine: a local source, or the copy that has the expected sha256.

    Args:
        max_bytes: a larger file is not read.

    Raises:
        InputError: no local source has the file, or its content is wrong.
    """
    copy = Paths(config.results).messages
    if not _all_on_disk(config.dataset.sources):
        sha256 = config.dataset.sha256
        if sha256 is None or not copy.is_file() or copy.stat().st_size > max_bytes or sha256_of(copy) != sha256:
            return None
        return parse_messages(copy.read_bytes(), copy, config.dataset.format)
    failures = []
    for source in config.dataset.sources:
        try:
            file = local_file(source)
            if file.stat().st_size > max_bytes:
                return None
            content = read_messages(file)
        except SourceError as error:
            failures.append(f"{source}: {error}")
            continue
        found = hashlib.sha256(content).hexdigest()
        if config.dataset.sha256 in (None, found):
            return parse_messages(content, source, config.dataset.format)
        failures.append(f"{source}: its sha256 is {found}; set dataset.sha256: null for your own data")
    if not copy.is_file():
        raise InputError(f"dataset.sources: {'; '.join(failures)}; list the path of your copy first in dataset.sources")
    return None


def _check_tokenizer(config: Config) -> None:
    tokenizer = config.tokenizer
    if tokenizer.name == "bytes" or not _all_on_disk(tokenizer.sources):
        return
    from ..data.download.fetch import TOKENIZER_FILES

    for name, other_name, _ in TOKENIZER_FILES:
        if (Paths(config.results).tokenizer / name).is_file():
            continue
        failures = []
        for path in [join_source(source, wanted) for source in tokenizer.sources for wanted in (name, other_name)]:
            try:
                local_file(path)
                break
            except SourceError as error:
                failures.append(f"{path}: {error}")
        else:
            raise InputError(
                f"tokenizer.sources: {'; '.join(failures)};"
                f" list the folder that contains {name} first in tokenizer.sources"
            )


def _check_weights(config: Config, name: str, model: ModelConfig) -> None:
    if not _all_on_disk([model.source]):
        return
    from ..gpt2.weight_files import WeightFile

    where = f"{config.models}: {name}: source"
    try:
        path = local_file(model.source)
    except SourceError as error:
        if Paths(config.results).weights(name).is_file():
            return
        raise InputError(f"{where}: {model.source}: {error}; set source to the path of your copy") from None
    try:
        WeightFile(path, model)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _all_on_disk(sources: list[str]) -> bool:
    """Whether all sources are files of this machine. The demo's are not: its rules create them."""
    return all(is_local(source) and not source.startswith(DEMO_FOLDER) for source in sources)

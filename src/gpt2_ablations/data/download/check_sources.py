"""Asks every configured source for its file without downloading it."""

import hashlib
from dataclasses import dataclass

from ...common.hashing import sha256_of
from ...settings.config import Config
from ...settings.models import ModelConfig
from .archives import read_messages
from .fetch import TOKENIZER_FILES
from .sources import SourceError, is_local, join_source, local_file, printable_source, scheme_of


@dataclass(frozen=True)
class SourceAnswer:
    """The answer of one source about one file.

    Attributes:
        what: the file, such as `messages`.
        source: without secrets.
        text: the answer in words: size and hash, or why the source does not have the file.
        good: whether the source has the file, as far as its answer shows.
    """

    what: str
    source: str
    text: str
    good: bool


def check_sources(config: Config, models: dict[str, ModelConfig]) -> list[SourceAnswer]:
    """Ask every source of the messages, the tokenizer and the models.

    Args:
        config: the configuration.
        models: all models by name.
    """
    dataset, tokenizer = config.dataset, config.tokenizer
    answers = [_answer("messages", [source], dataset.sha256) for source in dataset.sources]
    if tokenizer.name == "gpt2":
        for name, other_name, sha256 in TOKENIZER_FILES:
            for source in tokenizer.sources:
                answers.append(_answer(name, [join_source(source, name), join_source(source, other_name)], sha256))
    answers += [_answer(f"weights of {name}", [model.source], model.sha256) for name, model in models.items()]
    return answers


def format_answers(answers: list[SourceAnswer]) -> str:
    """The answers as text, one line for each: file, source, answer."""
    return "\n".join(f"{answer.what}  {answer.source}  {answer.text}" for answer in answers)


def files_without_source(answers: list[SourceAnswer]) -> list[str]:
    """The files that no source has."""
    good = {answer.what for answer in answers if answer.good}
    return [what for what in dict.fromkeys(answer.what for answer in answers) if what not in good]


def _answer(what: str, sources: list[str], expected: str | None) -> SourceAnswer:
    """The answer about a file that a source may have under several names."""
    for source in sources:
        try:
            size, found = _ask(what, source)
        except SourceError as error:
            answer = SourceAnswer(what, printable_source(source), f"does not answer: {error}", good=False)
            continue
        text = "size unknown" if size is None else f"{size:,} bytes"
        if expected is None:
            text += ", hash unchecked"
        elif found is None:
            text += ", hash unknown"
        else:
            text += ", hash agrees" if found == expected else f", hash differs ({found})"
        return SourceAnswer(what, printable_source(source), text, good=None in (found, expected) or found == expected)
    return answer


def _ask(what: str, source: str) -> tuple[int | None, str | None]:
    """Size in bytes and sha256 of the file at a source, None for what it does not report."""
    if is_local(source):
        path = local_file(source)
        found = hashlib.sha256(read_messages(path)).hexdigest() if what == "messages" else sha256_of(path)
        return path.stat().st_size, found
    if scheme_of(source) == "hf":
        from . import hub

        cached = hub.cached(source)
        size, sha256 = (cached.stat().st_size, sha256_of(cached)) if cached else hub.announcement(source, retry=False)
        return size, None if what == "messages" else sha256  # the sha256 of a zip tells nothing about its member
    from . import web

    return web.announced_size(source), None

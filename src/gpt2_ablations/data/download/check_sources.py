"""Asks every configured source for its file without downloading it."""

import hashlib
from dataclasses import dataclass, replace

from ...common.hashing import sha256_of
from ...settings.config import Config
from ...settings.models import ModelConfig
from . import web
from .archives import read_messages
from .fetch import TOKENIZER_FILES, local_file
from .retry_policy import RetryPolicy, retry_policy_from_environment
from .sources import SourceError, is_local, join_source, printable_source, scheme_of


@dataclass(frozen=True)
class SourceAnswer:
    """The answer of one source about one file.

    Attributes:
        what: the file, such as `messages`.
        source: without secrets.
        size: in bytes, of the zip if the messages are in one; None if the source does not report it.
        found: sha256 of the file; None if it is unknown before the download.
        expected: the configured sha256; None if the file is not checked.
        problem: why the source does not have the file; None if it does.
    """

    what: str
    source: str
    size: int | None = None
    found: str | None = None
    expected: str | None = None
    problem: str | None = None

    @property
    def good(self) -> bool:
        """Whether the source has the file, as far as its answer shows."""
        return self.problem is None and (None in (self.found, self.expected) or self.found == self.expected)


def check_sources(
    config: Config, models: dict[str, ModelConfig], policy: RetryPolicy | None = None
) -> list[SourceAnswer]:
    """Ask every source of the messages, the tokenizer and the models, each in one attempt.

    Args:
        config: the configuration.
        models: all models by name.
        policy: default: `retry_policy_from_environment()`. Its number of attempts is not used.

    Raises:
        InputError: an environment variable of the retry policy is not valid.
    """
    policy = replace(policy or retry_policy_from_environment(), attempts=1)
    dataset, tokenizer = config.dataset, config.tokenizer
    answers = [_answer("messages", [source], dataset.sha256, policy) for source in dataset.sources]
    if tokenizer.name == "gpt2":
        for name, other_name, sha256 in TOKENIZER_FILES:
            for source in tokenizer.sources:
                names = [join_source(source, name), join_source(source, other_name)]
                answers.append(_answer(name, names, sha256, policy))
    for name, model in models.items():
        answers.append(_answer(f"weights of {name}", [model.source], model.sha256, policy))
    return answers


def format_answers(answers: list[SourceAnswer]) -> str:
    """The answers as text, one line for each: file, source, answer."""
    return "\n".join(f"{answer.what}  {answer.source}  {_answer_text(answer)}" for answer in answers)


def files_without_source(answers: list[SourceAnswer]) -> list[str]:
    """The files that no source has."""
    good = {answer.what for answer in answers if answer.good}
    return [what for what in dict.fromkeys(answer.what for answer in answers) if what not in good]


def _answer(what: str, sources: list[str], sha256: str | None, policy: RetryPolicy) -> SourceAnswer:
    """The answer about a file that a source may have under several names: the first that is not missing."""
    for source in sources:
        try:
            size, found = _ask(what, source, policy)
            return SourceAnswer(what, printable_source(source), size, found, sha256)
        except SourceError as error:
            answer = SourceAnswer(what, printable_source(source), expected=sha256, problem=str(error))
            if not error.missing:
                break
    return answer


def _ask(what: str, source: str, policy: RetryPolicy) -> tuple[int | None, str | None]:
    """Size in bytes and sha256 of the file at a source, None for what it does not report."""
    if is_local(source):
        path = local_file(source)
        found = hashlib.sha256(read_messages(path)).hexdigest() if what == "messages" else sha256_of(path)
        return path.stat().st_size, found
    if scheme_of(source) == "hf":
        from . import hub

        hub_source = hub.parse_hub_source(source)
        cached = hub.cached(hub_source)
        if cached is not None:
            return cached.stat().st_size, None if what == "messages" else sha256_of(cached)
        file = hub.metadata(hub_source, policy)
        return file.size, None if what == "messages" else file.sha256
    return web.announced_size(source, policy), None


def _answer_text(answer: SourceAnswer) -> str:
    if answer.problem:
        return f"does not answer: {answer.problem}"
    size = "size unknown" if answer.size is None else f"{answer.size:,} bytes"
    if answer.expected is None:
        return f"{size}, hash unchecked"
    if answer.found is None:
        return f"{size}, hash unknown"
    return f"{size}, hash agrees" if answer.found == answer.expected else f"{size}, hash differs ({answer.found})"

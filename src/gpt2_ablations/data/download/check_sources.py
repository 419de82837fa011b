"""Asks every configured source for its file, without fetching it."""

import hashlib
from dataclasses import dataclass, replace

from ...common.hashing import sha256_of
from ...settings.config import Config, ModelConfig
from . import web
from .archives import read_messages
from .fetch import TOKENIZER_FILES, local_file
from .retry_policy import RetryPolicy, retry_policy_from_environment
from .sources import SourceError, is_local, joined, scheme_of, shown


@dataclass(frozen=True)
class SourceAnswer:
    """What one place says of one file.

    Attributes:
        what: the file, such as "messages".
        place: the source, without secrets.
        size: bytes; of the zip, where the messages come in one. None: not said.
        found: its sha256, None if it cannot be had without fetching the file.
        expected: the configured sha256, None if unchecked.
        problem: why the place does not answer, None if it does.
    """

    what: str
    place: str
    size: int | None = None
    found: str | None = None
    expected: str | None = None
    problem: str | None = None

    @property
    def good(self) -> bool:
        """Whether the place has the file, as far as one can tell."""
        return self.problem is None and (None in (self.found, self.expected) or self.found == self.expected)


def check_sources(
    config: Config, models: dict[str, ModelConfig], policy: RetryPolicy | None = None
) -> list[SourceAnswer]:
    """Ask every source of the messages, the tokenizer and the models, each once.

    Raises:
        InputError: the environment asks for a patience that is none.
    """
    policy = replace(policy or retry_policy_from_environment(), attempts=1)
    dataset, tokenizer = config.dataset, config.tokenizer
    answers = [_answer("messages", [source], dataset.sha256, policy) for source in dataset.sources]
    if tokenizer.name == "gpt2":
        for name, other_name, sha256 in TOKENIZER_FILES:
            for source in tokenizer.sources:
                places = [joined(source, name), joined(source, other_name)]
                answers.append(_answer(name, places, sha256, policy))
    for name, model in models.items():
        answers.append(_answer(f"weights of {name}", [model.source], model.sha256, policy))
    return answers


def format_answers(answers: list[SourceAnswer]) -> str:
    """The answers as text, a line each: what, place, answer."""
    return "\n".join(f"{answer.what}  {answer.place}  {_said(answer)}" for answer in answers)


def without_source(answers: list[SourceAnswer]) -> list[str]:
    """The files that no place has."""
    good = {answer.what for answer in answers if answer.good}
    return [what for what in dict.fromkeys(answer.what for answer in answers) if what not in good]


def _answer(what: str, places: list[str], sha256: str | None, policy: RetryPolicy) -> SourceAnswer:
    """The answer of the first of a file's names at one source that is not missing."""
    for place in places:
        try:
            size, found = _ask(what, place, policy)
            return SourceAnswer(what, shown(place), size, found, sha256)
        except SourceError as error:
            answer = SourceAnswer(what, shown(place), expected=sha256, problem=str(error))
            if not error.missing:
                break
    return answer


def _ask(what: str, place: str, policy: RetryPolicy) -> tuple[int | None, str | None]:
    """Size in bytes and sha256 of the file at a place, None for what it does not say."""
    if is_local(place):
        path = local_file(place)
        found = hashlib.sha256(read_messages(path)).hexdigest() if what == "messages" else sha256_of(path)
        return path.stat().st_size, found
    if scheme_of(place) == "hf":
        from . import hub

        hub_source = hub.parse_hub_source(place)
        cached = hub.cached(hub_source)
        if cached is not None:
            return cached.stat().st_size, None if what == "messages" else sha256_of(cached)
        file = hub.metadata(hub_source, policy)
        return file.size, None if what == "messages" else file.sha256
    return web.announced(place, policy), None


def _said(answer: SourceAnswer) -> str:
    if answer.problem:
        return f"does not answer: {answer.problem}"
    size = "size unknown" if answer.size is None else f"{answer.size:,} bytes"
    if answer.expected is None:
        return f"{size}, hash unchecked"
    if answer.found is None:
        return f"{size}, hash unknown"
    return f"{size}, hash agrees" if answer.found == answer.expected else f"{size}, hash differs ({answer.found})"

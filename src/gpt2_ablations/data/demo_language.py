"""The demo's language: generated messages of two kinds, and conversations of them to pretrain on.

The words are the program's own. The kinds share a grammar and most words occur in both, so that a message says by
several words together, and never with certainty, which kind it is.
"""

import math
import random
from pathlib import Path

from ..common.files import write_text_whole
from ..settings.constants import PAD_TOKEN

LABELS = {"ham": 0, "spam": 1}
MESSAGES_PER_KIND = 500
MESSAGES_SEED = 123
LONGEST_MESSAGE = 40

# For each slot of the grammar the words that ham and spam prefer; a shared one says nothing.
GREETINGS = (("hey", "mum", "so", "ok", "now"), ("dear", "free", "so", "ok", "now"))
VERBS = (("meet", "feed", "tidy", "bake", "open"), ("get", "pay", "win", "claim", "send"))
NOUNS = (("snow", "ring", "desk", "coat", "car"), ("card", "ticket", "loan", "gift", "cost"))
DETERMINERS = ("the", "a", "my", "your")
OWN_WORDS = 0.85  # how often a slot holds a word of the message's own kind
OWN_WORDS_IN_CONVERSATION = 0.95
DISGUISED = 0.04  # how many messages have the words of the other kind
TYPOS = 0.1  # how many messages lack a letter


def generate_messages(path: Path, seed: int = MESSAGES_SEED) -> None:
    """Write the demo's messages, a line each: label, tab, text; the same ones for the same seed."""
    lines = (f"{label}\t{text}\n" for label, text in _messages(seed))
    write_text_whole(path, "".join(lines))


def _messages(seed: int) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    messages = []
    for _ in range(MESSAGES_PER_KIND):
        for label, kind in LABELS.items():
            words_of = 1 - kind if rng.random() < DISGUISED else kind
            messages.append((label, _message(rng, words_of, OWN_WORDS, greeting=True)))
    return messages


def _message(rng: random.Random, kind: int, own_words: float, greeting: bool) -> str:
    def word(slot: tuple[tuple[str, ...], tuple[str, ...]]) -> str:
        return rng.choice(slot[kind if rng.random() < own_words else 1 - kind])

    words = [word(GREETINGS)] if greeting else []
    for _ in range(rng.randint(2, 3)):
        words += [word(VERBS), rng.choice(DETERMINERS), word(NOUNS)]
    while len(" ".join(words)) > LONGEST_MESSAGE:
        words.pop()
    text = " ".join(words)
    if rng.random() < TYPOS:
        lost = rng.randrange(1, len(text) - 1)
        text = text[:lost] + text[lost + 1 :]
    return text


def generate_pretraining_text(n_streams: int, length: int, seed: int) -> list[list[int]]:
    """Conversations as token ids: unlabelled text of the demo's language, none of its messages among it.

    A conversation's messages are of one kind; the first greets. Runs of the padding token stand between them, as
    end-of-text tokens stand between documents, some as long as the padding of a short message. What comes after a run
    depends on what stood before it, so a model has to carry the kind across the padding.

    Args:
        length: tokens of each stream.
    """
    rng = random.Random(seed)
    known = {text for _, text in _messages(MESSAGES_SEED)}
    return [_conversation(rng, length, known) for _ in range(n_streams)]


def _conversation(rng: random.Random, length: int, known: set[str]) -> list[int]:
    kind = rng.choice(list(LABELS.values()))
    tokens: list[int] = []
    while len(tokens) < length:
        text = _message(rng, kind, OWN_WORDS_IN_CONVERSATION, greeting=not tokens)
        if text not in known:
            # Short runs are the common ones: they show soon, and often, that the kind stays.
            run = int(math.exp(rng.uniform(0, math.log(LONGEST_MESSAGE))))
            tokens += [*text.encode(), *[PAD_TOKEN] * run]
    return tokens[:length]

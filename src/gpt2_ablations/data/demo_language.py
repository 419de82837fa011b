"""The demo's language: generated messages of two classes, and conversations of such messages for pretraining.

Both classes share a grammar, and every word occurs in messages of both. Several words together make a class likely, but
never certain.
"""

import math
import random
from pathlib import Path

from ..common.files import write_text_whole
from ..settings.constants import PAD_TOKEN

LABELS = {"ham": 0, "spam": 1}
MESSAGES_PER_CLASS = 500
MESSAGES_SEED = 123
LONGEST_MESSAGE = 40  # characters

# For each slot of the grammar, the words that ham prefers and those that spam prefers. Some are in both.
GREETINGS = (("hey", "mum", "so", "ok", "now"), ("dear", "free", "so", "ok", "now"))
VERBS = (("meet", "feed", "tidy", "bake", "open"), ("get", "pay", "win", "claim", "send"))
NOUNS = (("snow", "ring", "desk", "coat", "car"), ("card", "ticket", "loan", "gift", "cost"))
DETERMINERS = ("the", "a", "my", "your")
# Probabilities.
OWN_WORD = 0.85  # that a slot holds a word that the message's class prefers
OWN_WORD_IN_CONVERSATION = 0.95
DISGUISE = 0.04  # that a message has the words of the other class
TYPO = 0.1  # that a message lacks a letter


def generate_messages(path: Path, seed: int = MESSAGES_SEED) -> None:
    """Write the demo's messages, one per line: label, tab, text. The same seed gives the same messages."""
    lines = (f"{label}\t{text}\n" for label, text in _messages(seed))
    write_text_whole(path, "".join(lines))


def _messages(seed: int) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    messages = []
    for _ in range(MESSAGES_PER_CLASS):
        for label, label_class in LABELS.items():
            words_of = 1 - label_class if rng.random() < DISGUISE else label_class
            messages.append((label, _message(rng, words_of, OWN_WORD, greeting=True)))
    return messages


def _message(rng: random.Random, words_of: int, own_word: float, greeting: bool) -> str:
    """One message.

    Args:
        words_of: the class whose words it prefers, 0 or 1.
        own_word: probability that a slot holds such a word.
        greeting: whether it begins with a greeting.
    """

    def word(slot: tuple[tuple[str, ...], tuple[str, ...]]) -> str:
        return rng.choice(slot[words_of if rng.random() < own_word else 1 - words_of])

    words = [word(GREETINGS)] if greeting else []
    for _ in range(rng.randint(2, 3)):
        words += [word(VERBS), rng.choice(DETERMINERS), word(NOUNS)]
    while len(" ".join(words)) > LONGEST_MESSAGE:
        words.pop()
    text = " ".join(words)
    if rng.random() < TYPO:
        lost = rng.randrange(1, len(text) - 1)
        text = text[:lost] + text[lost + 1 :]
    return text


def generate_pretraining_text(n_streams: int, length: int, seed: int) -> list[list[int]]:
    """Conversations as token ids: unlabelled text of the demo's language that contains none of the demo's messages.

    All messages of a conversation have one class, and the first begins with a greeting. Padding tokens separate the
    messages, as end-of-text tokens separate documents. The longest separators are as long as the padding of a short
    message. A model must carry the class across the padding to predict what follows.

    Args:
        n_streams: number of conversations.
        length: tokens of each conversation.
        seed: of the random numbers.

    Returns: `n_streams` lists of `length` token ids.
    """
    rng = random.Random(seed)
    known = {text for _, text in _messages(MESSAGES_SEED)}
    return [_conversation(rng, length, known) for _ in range(n_streams)]


def _conversation(rng: random.Random, length: int, known: set[str]) -> list[int]:
    words_of = rng.choice(list(LABELS.values()))
    tokens: list[int] = []
    while len(tokens) < length:
        text = _message(rng, words_of, OWN_WORD_IN_CONVERSATION, greeting=not tokens)
        if text not in known:
            # Short separators are more frequent: from them a model learns sooner that the class does not change.
            padding = int(math.exp(rng.uniform(0, math.log(LONGEST_MESSAGE))))
            tokens += [*text.encode(), *[PAD_TOKEN] * padding]
    return tokens[:length]

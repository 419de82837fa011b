"""The one exception for mistakes a user can fix."""

import re

_USER_AND_PASSWORD = re.compile(r"(?<=://)[^\s/?#'\"]*@")
_QUERY = re.compile(r"(\w://[^\s?'\"]*\?)[^\s'\"]*[^\s'\":;,.)]")


class InputError(Exception):
    """A user's mistake. Its text is one line: where, what was found, what is allowed, what to do.

    Whatever it quotes stays on that line and shows no secret of an address.
    """

    def __init__(self, message: str):
        super().__init__(without_secrets(printable(message)))


class Superseded(Exception):
    """A newer job has taken this one's place. It is no failure: a failed job's outputs, by now the other's, would be
    removed."""


def without_secrets(text: str) -> str:
    """A text whose addresses have lost user, password and query: queries hold tokens."""
    return _QUERY.sub(r"\1…", _USER_AND_PASSWORD.sub("", text))


def printable(text: str) -> str:
    """A text in one line, with `?` for what would break it or could command a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)

"""The one exception for mistakes a user can mend."""


class InputError(Exception):
    """A user's mistake. Its text is one line: where, what was found, what is allowed, what to do."""


class Superseded(Exception):
    """A newer job has taken this one's place. It is no failure: a failed job's outputs, by now the other's, would be
    removed."""

"""The one exception for mistakes a user can mend."""


class InputError(Exception):
    """A user's mistake. Its text is one line: where, what was found, what is allowed, what to do."""

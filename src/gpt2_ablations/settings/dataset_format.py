"""How a file of labelled texts is written."""

from dataclasses import dataclass

DELIMITERS = {"tab": "\t", "comma": ",", "semicolon": ";"}
QUOTING = ("standard", "none")


@dataclass(frozen=True)
class DatasetFormat:
    """How a file of labelled texts is written; the defaults are those of the SMS Spam Collection.

    Attributes:
        delimiter: a key of `DELIMITERS`.
        label_column, text_column: names in the first line; None for a file without them: a label, then a text.
        labels: the names of class 0 and class 1.
        encoding: a text encoding of Python's.
        quoting: one of `QUOTING`; with `none`, quotes are characters like others.
    """

    delimiter: str = "tab"
    label_column: str | None = None
    text_column: str | None = None
    labels: tuple[str, str] = ("ham", "spam")
    encoding: str = "utf-8"
    quoting: str = "standard"

    @property
    def expected(self) -> str:
        """What a line holds, in words."""
        if self.label_column is None:
            return f"a label, a {self.delimiter} and a message"
        return f"{self.delimiter}-separated columns '{self.label_column}' and '{self.text_column}'"


def is_encoding(name: str) -> bool:
    """Whether Python knows a text encoding of this name."""
    try:
        "a".encode(name)
    except (LookupError, ValueError):
        return False
    return True


SMS_FORMAT = DatasetFormat()

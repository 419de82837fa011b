"""Exceptions of this program, and texts that are safe to print."""

import re
import sys

# The second form is of a password with `/`, `?` or `#` in it: what follows the colon is not a port.
_USER_AND_PASSWORD = re.compile(r"(?<=://)(?:[^\s/?#]*@|[^\s/?#@:\[]*:(?!\d*(?:[\s/?#'\":;,.)]|$))\S*@)")
_QUERY = re.compile(r"(\w://[^\s?]*\?)\S*[^\s'\":;,.)\]}]")
# What errors of torch that are no torch.OutOfMemoryError say: on MPS, of the CPU's allocator, and of CUDA's libraries.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


class InputError(Exception):
    """A mistake that the user can fix; it is printed without a traceback.

    Its text is one line: the file or key, what was found, what is allowed, what to do. Control characters become `?`,
    and addresses lose user, password and query.
    """

    def __init__(self, message: str):
        super().__init__(without_secrets(printable(message)))


def outside_locale(error: UnicodeEncodeError) -> InputError:
    """The error to raise for a path or text that the locale's encoding lacks."""
    found = error.object[error.start : error.end]
    return InputError(
        f"the encoding of the locale is {error.encoding}, which cannot write {found!r} of {error.object!r}; set"
        " LC_ALL=C.UTF-8 and run again"
    )


class Superseded(Exception):
    """Another job owns these outputs now.

    The job exits with 0, because Snakemake would delete the outputs of a failed job.
    """


def without_secrets(text: str) -> str:
    """A text without the user, password and query of the addresses in it. Queries can hold access tokens.

    Everything that is written for people goes through it: messages, logs, reports and notes.
    """
    return _QUERY.sub(r"\1…", _USER_AND_PASSWORD.sub("", text))


def printable(text: str) -> str:
    """A text with `?` for each unprintable character, such as a newline or a terminal's control code."""
    return "".join(character if character.isprintable() else "?" for character in text)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was too small, of the host or of any device."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)

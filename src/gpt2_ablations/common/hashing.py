"""sha256 digests of files and texts."""

import hashlib
import os
from functools import cache
from pathlib import Path


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file's bytes, as 64 hexadecimal digits.

    A process reads a file once, as long as it does not change: a workflow asks for each of its runs.
    """
    status = os.stat(path)
    return _sha256_of(os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ino)


@cache
def _sha256_of(path: str, *status: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(text: str) -> str:
    """The first 16 hexadecimal digits of a text's sha256: a rule's parameter that changes when the text changes."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_file(weights: Path) -> Path:
    """The path of the small file beside a weight file that holds its sha256: `NAME.sha256`."""
    return weights.with_name(weights.name + ".sha256")


def is_as_new(file: Path, other: Path) -> bool:
    """Whether a file exists and was changed no earlier than another one."""
    return file.is_file() and file.stat().st_mtime_ns >= other.stat().st_mtime_ns


def weights_digest(weights: Path) -> str:
    """The sha256 of a weight file, as 64 hexadecimal digits.

    It is read from `digest_file`, or computed if that is missing or older than the weights.
    """
    beside = digest_file(weights)
    if is_as_new(beside, weights):
        return beside.read_text().strip()
    return sha256_of(weights)

"""Reads the messages file, bare or from a zip. The member is read into memory; nothing is unpacked to disk."""

import lzma
import os
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from .sources import SourceError

MEMBER = "SMSSpamCollection"
TABLES = (".csv", ".tsv")
LIMIT_VARIABLE = "GPT2_ABLATIONS_MAX_DOWNLOAD_MB"
LIMIT_MB = 64  # of a download that is no weight file; the SMS Spam Collection has 0.5
# Exceptions of zipfile for damaged zips, found by fuzzing.
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, OverflowError)


def download_limit() -> int:
    """The most bytes that a downloaded file may have, weights aside: 64 MiB, or as many as the variable says.

    It protects the machine from a server that sends without end, so it is a setting of the machine, not of a table.

    Raises:
        SourceError: the variable is no number of MiB.
    """
    text = os.environ.get(LIMIT_VARIABLE) or str(LIMIT_MB)
    if not text.isdecimal() or int(text) == 0:
        raise SourceError(f"{LIMIT_VARIABLE} is {text!r}; allowed: a number of MiB from 1")
    return int(text) * 2**20


def too_large(what: str, limit: int) -> SourceError:
    """The error to raise for a file over the limit."""
    return SourceError(f"{what} is larger than {limit // 2**20} MiB; allow more with {LIMIT_VARIABLE}")


def read_messages(path: Path, limit: int | None = None) -> bytes:
    """The bytes of the messages file: the file itself, or a member of a zip.

    The member is called `SMSSpamCollection`, or else it is the zip's only CSV or TSV file.

    Args:
        limit: the most bytes of the messages; None for a file of the user's own.

    Raises:
        SourceError: the zip is unsafe, encrypted, damaged or without the member, or the file is empty, too large or an
            HTML page.
    """
    if limit is not None and path.stat().st_size > limit:
        raise too_large("it", limit)
    if zipfile.is_zipfile(path):
        return _read_member(path, limit)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot be read ({error.strerror})") from None
    if content.startswith(b"PK\x03\x04"):
        raise SourceError("a damaged zip: its end is missing")
    check_beginning(content)
    return content


def check_beginning(content: bytes) -> None:
    """Check the first 512 bytes of a file.

    Raises:
        SourceError: the file is empty, or an HTML page such as a login page.
    """
    if not content:
        raise SourceError("an empty file")
    start = content[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise SourceError("an HTML page in place of the file")


def _read_member(path: Path, limit: int | None) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            member = _messages_member(archive.infolist(), limit)
            with archive.open(member) as file:
                # One byte more than allowed detects a member that is larger than the zip says.
                content = file.read() if limit is None else file.read(limit + 1)
    except NotImplementedError:
        raise SourceError("the zip uses a compression method that Python does not support") from None
    except RuntimeError:  # zipfile needs a password
        raise SourceError("the zip is encrypted") from None
    except DAMAGED as error:
        raise SourceError(f"a damaged zip ({' '.join(str(error).split()) or type(error).__name__})") from None
    name = _shown(member.filename)
    if limit is not None and len(content) > limit:
        raise too_large(f"{name} in the zip", limit)
    if not content:
        raise SourceError(f"{name} in the zip is empty")
    return content


def _messages_member(members: list[zipfile.ZipInfo], limit: int | None) -> zipfile.ZipInfo:
    for member in members:
        name = member.orig_filename.replace("\\", "/")
        if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/"):
            raise SourceError(f"the zip's member {_shown(name)} would leave its folder")
        if limit is not None and member.file_size > limit:
            raise too_large(f"the zip's member {_shown(name)}", limit)
    paths = [(PurePosixPath(member.filename), member) for member in members if not member.is_dir()]
    found = [member for path, member in paths if path.name == MEMBER]
    # macOS adds hidden files.
    found = found or [member for path, member in paths if path.suffix.lower() in TABLES and path.name[0] != "."]
    if len(found) != 1:
        names = ", ".join(_shown(member.filename) for member in found[:4]) or f"neither {MEMBER} nor a CSV or TSV file"
        raise SourceError(f"the zip holds {names}; allowed: one {MEMBER}, or else one CSV or TSV file")
    member = found[0]
    if stat.S_ISLNK(member.external_attr >> 16):
        raise SourceError(f"{_shown(member.filename)} in the zip is a link")
    return member


def _shown(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:57] + "...")

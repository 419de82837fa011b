"""Reads the messages file, bare or from a zip. The member is read into memory; nothing is unpacked to disk."""

import lzma
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from .sources import SourceError

MEMBER = "SMSSpamCollection"
LIMIT = 64 * 2**20  # bytes of a small file; the SMS Spam Collection has 477,907
# Exceptions of zipfile for damaged zips, found by fuzzing.
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, OverflowError)


def read_messages(path: Path) -> bytes:
    """The bytes of the messages file: the member `SMSSpamCollection` of a zip, or the file itself.

    Raises:
        SourceError: the zip is unsafe, encrypted, damaged or without the member, or the file is empty, too large or an
            HTML page.
    """
    if path.stat().st_size > LIMIT:
        raise SourceError(f"larger than {LIMIT} bytes, so it is not the messages file")
    if zipfile.is_zipfile(path):
        return _read_member(path)
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


def _read_member(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_messages_member(archive.infolist())) as file:
            # One byte more than allowed detects a member that is larger than the zip says.
            content = file.read(LIMIT + 1)
    except NotImplementedError:
        raise SourceError("the zip uses a compression method that Python does not support") from None
    except RuntimeError:  # zipfile needs a password
        raise SourceError("the zip is encrypted") from None
    except DAMAGED as error:
        raise SourceError(f"a damaged zip ({' '.join(str(error).split()) or type(error).__name__})") from None
    if len(content) > LIMIT:
        raise SourceError(f"{MEMBER} in the zip is larger than {LIMIT} bytes")
    if not content:
        raise SourceError(f"{MEMBER} in the zip is empty")
    return content


def _messages_member(members: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    for member in members:
        name = member.orig_filename.replace("\\", "/")
        shown = repr(name if len(name) <= 60 else name[:57] + "...")
        if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/"):
            raise SourceError(f"the zip's member {shown} would leave its folder")
        if member.file_size > LIMIT:
            raise SourceError(f"the zip's member {shown} has {member.file_size} bytes; at most {LIMIT} are allowed")
    found = [member for member in members if PurePosixPath(member.filename).name == MEMBER and not member.is_dir()]
    if len(found) != 1:
        raise SourceError(f"the zip holds {len(found) or 'no'} files named {MEMBER}")
    if stat.S_ISLNK(found[0].external_attr >> 16):
        raise SourceError(f"{MEMBER} in the zip is a link")
    return found[0]

"""Fetches a file from a list of sources and verifies it.

Sources are tried in order. A file gets its final name only if its sha256 is correct, and a file with the correct sha256
is not fetched again.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from ...common.errors import InputError
from ...common.files import cannot_be_written, write_whole
from ...common.hashing import digest, sha256_of
from ...common.logs import logger
from .archives import check_beginning, download_limit, read_messages
from .sources import SourceError, check_sha256, is_local, join_source, local_file, printable_source, scheme_of

# The name of each file, its name in Hugging Face repositories, and its sha256.
TOKENIZER_FILES = [
    ("vocab.bpe", "merges.txt", "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"),
    ("encoder.json", "vocab.json", "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"),
]


def fetch_file(
    sources: list[str],
    destination: Path,
    sha256: str | None,
    setting: str,
    *,
    sha_setting: str | None = None,
    accept: Callable[[Path], None] | None = None,
) -> None:
    """Fetch a file from the first source that provides it.

    A download that `accept` refuses is kept beside `destination` for the next call: the mistake may be in the settings.
    Files of the hub are in its cache.

    Args:
        sources: https addresses, `hf://org/repo@REVISION/path`, `file://` addresses and paths.
        destination: the final path of the file.
        sha256: of the file. With None, the file is not checked, and fetched again even if it exists.
        setting: the configuration key that lists the sources, for messages.
        sha_setting: the configuration key of the sha256, for messages; None if the user cannot change it.
        accept: called with the file before it gets its final name; raises an error to refuse it.

    Raises:
        InputError: no source provides the file, or it cannot be written.
    """

    def take(source: str, partial: Path) -> None:
        refused = destination.with_name(f".{destination.name}.{digest(source)}.refused")
        if refused.is_file() and (sha256 is None or sha256_of(refused) == sha256):
            os.replace(refused, partial)
        else:
            refused.unlink(missing_ok=True)
            _take(source, partial, sha256, sha_setting)
        try:
            if accept:
                accept(partial)
        except InputError as error:
            if is_local(source) or scheme_of(source) == "hf":
                raise
            os.replace(partial, refused)
            raise InputError(f"{error}; the download is kept as {refused}, delete it to download again") from None

    advice = f"list its path first in {setting}" if setting.endswith("sources") else f"set {setting} to its path"
    _fetch(sources, destination, sha256, take, destination.name, setting, f"Download it yourself and {advice}")


def fetch_messages(sources: list[str], destination: Path, sha256: str | None) -> None:
    """Fetch the messages file from the first source that provides it, bare or in a zip.

    Args:
        sources: as for `fetch_file`.
        destination: the final path of the bare file.
        sha256: of the bare file, because zips of the same file differ. With None, the file is not checked.

    Raises:
        InputError: no source provides the messages, or they cannot be written.
    """

    def take(source: str, partial: Path) -> None:
        limit = None if is_local(source) else download_limit()
        _take(source, partial, None, max_bytes=limit)
        content = read_messages(partial, limit)
        check_sha256(hashlib.sha256(content).hexdigest(), sha256, "dataset.sha256" if is_local(source) else None)
        partial.unlink()  # it may be a link to the shared cache
        partial.write_bytes(content)

    advice = "Download it yourself and list its path first in dataset.sources"
    _fetch(sources, destination, sha256, take, "the dataset", "dataset.sources", advice)


def fetch_tokenizer(sources: list[str], folder: Path) -> None:
    """Fetch the two files of the GPT-2 BPE, `vocab.bpe` and `encoder.json`, into a folder.

    Args:
        sources: address prefixes and folders that hold the files, also under the names `merges.txt` and `vocab.json`.
        folder: the folder of the final files.

    Raises:
        InputError: no source provides one of the files, or it cannot be written.
    """
    advice = "Download vocab.bpe and encoder.json yourself and list their folder first in tokenizer.sources"
    for name, other_name, sha256 in TOKENIZER_FILES:
        files = [join_source(source, wanted) for source in sources for wanted in (name, other_name)]

        def take(source: str, partial: Path, sha256: str = sha256) -> None:
            _take(source, partial, sha256, max_bytes=download_limit())

        _fetch(files, folder / name, sha256, take, f"the tokenizer's {name}", "tokenizer.sources", advice)


def _fetch(
    sources: list[str],
    destination: Path,
    sha256: str | None,
    take: Callable[[str, Path], None],
    what: str,
    setting: str,
    advice: str,
) -> None:
    """Write `destination` with the first source with which `take(source, partial_file)` raises no SourceError.

    Raises:
        InputError: all sources failed, and why each did; or the file cannot be written.
    """
    failures: list[str] = []
    lock = destination.with_name(f".{destination.name}.lock")
    try:
        if _is_good(destination, sha256):  # also in a folder that cannot be written to
            return
        destination.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            try:
                if _is_good(destination, sha256):  # another process has fetched it meanwhile
                    return
                for source in sources:
                    try:
                        with write_whole(destination) as partial:
                            return take(source, partial)
                    except SourceError as error:
                        failures.append(f"{printable_source(source)}: {error}")
                        if len(failures) < len(sources):
                            logger.info(f"{setting}: {failures[-1]}; trying the next source")
            finally:
                lock.unlink(missing_ok=True)  # before the release: a waiting process then locks a new file
    except OSError as error:
        raise cannot_be_written(destination, error) from None
    note = f" with sha256 {sha256}" if sha256 else ""
    raise InputError(f"{setting}: could not download {what}{note} from any source ({'; '.join(failures)}). {advice}")


def _take(
    source: str, partial: Path, sha256: str | None, sha_setting: str | None = None, max_bytes: int | None = None
) -> None:
    """Copy, link or download a file to `partial` and verify it.

    Raises:
        SourceError: the source does not provide the file.
    """
    # Imported on use, because these imports take long.
    if scheme_of(source) == "hf":
        from . import hub

        return hub.link_or_copy(hub.fetch(source, sha256), partial)
    if is_local(source):
        # A copy, not a link: the user may change the original later.
        with open(local_file(source), "rb") as original, open(partial, "wb") as copy:
            while block := _read(original):
                copy.write(block)
    else:
        from . import web

        web.download(source, partial, max_bytes)
    with open(partial, "rb") as file:
        check_beginning(file.read(512))
    if sha256 is not None:
        check_sha256(sha256_of(partial), sha256, sha_setting if is_local(source) else None)


def _read(original: BinaryIO) -> bytes:
    """Up to a megabyte. That the source cannot be read is told from a copy that cannot be written."""
    try:
        return original.read(2**20)
    except OSError as error:
        raise SourceError(f"cannot be read ({error.strerror})") from None


def _is_good(destination: Path, sha256: str | None) -> bool:
    return sha256 is not None and destination.is_file() and sha256_of(destination) == sha256

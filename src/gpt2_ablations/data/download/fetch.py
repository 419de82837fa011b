"""Turns a list of places and a hash into a verified file under its final name.

Places are tried in order. A file that has its hash is never fetched again, and one that has not never gets the name.
"""

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ...common.errors import InputError
from ...common.files import cannot_be_written, write_whole
from ...common.hashing import sha256_of
from . import web
from .archives import looks_like_a_page, read_messages
from .retry_policy import RetryPolicy, retry_policy_from_environment
from .sources import SourceError, is_at, is_local, joined, local_path, scheme_of, shown

__all__ = ["fetch_file", "fetch_messages", "fetch_tokenizer", "is_local", "local_path", "sha256_of"]

SMALL = 2**26  # bytes; no messages and no tokenizer file is larger
# The name it gets, the same bytes' name in Hugging Face repositories, their sha256.
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
    policy: RetryPolicy | None = None,
) -> None:
    """Fetch a file from the first place that gives it.

    Args:
        sources: https addresses, `hf://org/repo@REVISION/path`, `file://` addresses and paths.
        sha256: of the file; None: unchecked, and fetched again even if it is there.
        setting: the configuration key that lists the sources, for messages.
        sha_setting: the key of the hash, if the user may change it.
        accept: looks at the file before it gets its name, and raises what is wrong with it.

    Raises:
        InputError: no place gives the file, or it cannot be written.
    """
    destination, policy = Path(destination), policy or retry_policy_from_environment()

    def take(place: str) -> None:
        _take_file(place, destination, sha256, sha_setting, policy, accept=accept)

    with _writing(destination, sha256, sources) as wanted:
        if wanted:
            _first_good(sources, take, f"{destination.name}{_with_hash(sha256)}", setting, "your copy")


def fetch_messages(
    sources: list[str],
    destination: Path,
    sha256: str | None,
    *,
    setting: str = "dataset.sources",
    sha_setting: str = "dataset.sha256",
    policy: RetryPolicy | None = None,
) -> None:
    """Fetch the messages from the first place that gives them, bare or as `SMSSpamCollection` in a zip.

    Args:
        sha256: of the bare file, since zips get packed again; None: unchecked.

    Raises:
        InputError: no place gives the messages, or they cannot be written.
    """
    destination, policy = Path(destination), policy or retry_policy_from_environment()

    def take(place: str) -> None:
        with _partial_file(destination, keep=False) as partial:
            content = read_messages(read_or_download(place, partial, policy, SMALL))
        _check(hashlib.sha256(content).hexdigest(), sha256, sha_setting if is_local(place) else None)
        with write_whole(destination) as partial:
            partial.write_bytes(content)

    with _writing(destination, sha256, sources) as wanted:
        if wanted:
            _first_good(sources, take, f"the messages file{_with_hash(sha256)}", setting, "your copy")


def fetch_tokenizer(
    sources: list[str], folder: Path, *, setting: str = "tokenizer.sources", policy: RetryPolicy | None = None
) -> None:
    """Fetch GPT-2's `vocab.bpe` and `encoder.json` into a folder.

    Args:
        sources: address prefixes and folders that hold them, also under the names `merges.txt` and `vocab.json`.

    Raises:
        InputError: no place gives one of them, or it cannot be written.
    """
    policy = policy or retry_policy_from_environment()
    for name, other_name, sha256 in TOKENIZER_FILES:
        _fetch_tokenizer_file(sources, Path(folder) / name, other_name, sha256, setting, policy)


def _fetch_tokenizer_file(
    sources: list[str], destination: Path, other_name: str, sha256: str, setting: str, policy: RetryPolicy
) -> None:
    name = destination.name

    def take_named(prefix: str, wanted: str) -> None:
        _take_file(joined(prefix, wanted), destination, sha256, None, policy, SMALL)

    def take(prefix: str) -> None:
        try:
            return take_named(prefix, name)
        except SourceError as error:
            reason = f"{name}: {error}"
            if not error.missing:
                raise SourceError(reason) from None
        try:
            take_named(prefix, other_name)
        except SourceError as error:
            raise SourceError(f"{reason}, {other_name}: {error}") from None

    with _writing(destination, sha256, [joined(source, name) for source in sources]) as wanted:
        if wanted:
            what = f"GPT-2's {name}{_with_hash(sha256)}"
            _first_good(sources, take, what, setting, "the folder that holds vocab.bpe and encoder.json")


def read_or_download(place: str, partial: Path, policy: RetryPolicy, max_bytes: int | None = None) -> Path:
    """The path of a file with a place's content: the local file, the one in the hub's cache, or `partial`.

    Raises:
        SourceError: the place does not give the file.
    """
    if is_local(place):
        return local_file(place)
    if scheme_of(place) == "hf":
        from . import hub  # loaded when it is needed: with a local file, nothing of the network is

        return hub.fetch(place, None, policy)
    web.download(place, partial, policy, max_bytes)
    return partial


def local_file(place: str) -> Path:
    """The path of a local source that can be read.

    Raises:
        SourceError: there is no such file, or it cannot be read.
    """
    path = local_path(place)
    try:
        if path.is_dir():
            raise SourceError("a folder, not a file")
        if not path.is_file():
            raise SourceError("no such file", missing=True)
        path.open("rb").close()
    except OSError as error:
        raise SourceError(f"cannot be read ({error.strerror})") from None
    return path


def _take_file(
    place: str,
    destination: Path,
    sha256: str | None,
    sha_setting: str | None,
    policy: RetryPolicy,
    max_bytes: int | None = None,
    accept: Callable[[Path], None] | None = None,
) -> None:
    """Fetch one file from one place.

    Raises:
        SourceError: the place does not give it.
    """
    accept = accept or (lambda path: None)
    if is_local(place):
        _copy_local(local_file(place), destination, sha256, sha_setting, accept)
    elif scheme_of(place) == "hf":
        from . import hub

        path = hub.fetch(place, sha256, policy)
        accept(path)
        hub.link_or_copy(path, destination)
    else:
        _download(place, destination, sha256, policy, max_bytes, accept)


def _copy_local(
    path: Path, destination: Path, sha256: str | None, sha_setting: str | None, accept: Callable[[Path], None]
) -> None:
    # A copy, no link: the user may change the original, and the verified bytes must stay.
    with write_whole(destination) as partial:
        shutil.copyfile(path, partial)
        _check_file(partial, sha256, sha_setting)
        accept(partial)


def _download(
    address: str,
    destination: Path,
    sha256: str | None,
    policy: RetryPolicy,
    max_bytes: int | None,
    accept: Callable[[Path], None],
) -> None:
    # Only a hash can tell that the beginning left by an earlier run, or another place, is that of this file.
    with _partial_file(destination, keep=sha256 is not None) as partial:
        resumed = partial.exists()
        web.download(address, partial, policy, max_bytes)
        try:
            _check_file(partial, sha256, None)
        except SourceError:
            partial.unlink()
            if not resumed:
                raise
            return _download(address, destination, sha256, policy, max_bytes, accept)
        with write_whole(destination) as whole:
            partial.rename(whole)
            accept(whole)


@contextmanager
def _partial_file(destination: Path, keep: bool) -> Iterator[Path]:
    """Where a download grows; with `keep`, one that breaks is resumed by the next place or the next run."""
    partial = destination.with_name(f".{destination.name}.part")
    if not keep:
        partial.unlink(missing_ok=True)
    try:
        yield partial
    finally:
        if not keep:
            partial.unlink(missing_ok=True)


def _check_file(path: Path, sha256: str | None, sha_setting: str | None) -> None:
    with open(path, "rb") as file:
        beginning = file.read(512)
    if not beginning:
        raise SourceError("an empty file")
    if looks_like_a_page(beginning):
        raise SourceError("an HTML page in place of the file")
    if sha256 is not None:
        _check(sha256_of(path), sha256, sha_setting)


def _check(found: str, sha256: str | None, sha_setting: str | None) -> None:
    if sha256 not in (None, found):
        hint = f"; set {sha_setting}: null for your own data" if sha_setting else ""
        raise SourceError(f"its sha256 is {found}, not {sha256[:12]}…{hint}")


def _is_good(destination: Path, sha256: str | None) -> bool:
    return sha256 is not None and destination.is_file() and sha256_of(destination) == sha256


def _first_good(sources: list[str], take: Callable[[str], None], what: str, setting: str, copy: str) -> None:
    """Try the places in order.

    Raises:
        InputError: none of them is good; it lists why.
    """
    failures = []
    for place in sources:
        try:
            return take(place)
        except SourceError as error:
            failures.append(f"{shown(place)}: {error}")
            if len(failures) < len(sources):
                print(f"{setting}: {failures[-1]}; trying the next place", file=sys.stderr)
    first = f"put the path of {copy} first in" if setting.endswith("sources") else f"write the path of {copy} to"
    raise InputError(f"{setting}: no place gives {what}: {'; '.join(failures)}. Get it by hand and {first} {setting}")


def _with_hash(sha256: str | None) -> str:
    return f" (sha256 {sha256})" if sha256 else ""


@contextmanager
def _writing(destination: Path, sha256: str | None, sources: list[str]) -> Iterator[bool]:
    """Keep other processes from fetching the same file at once, and remove a bad one that is there.

    Yields:
        Whether the file is still to be fetched.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        if _is_good(destination, sha256):  # also in a folder that cannot be written to
            yield False
            return
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _lock(destination):
            wanted = not _is_good(destination, sha256)
            own = any(is_at(source, destination) for source in sources)
            if wanted and sha256 is not None and not own:
                destination.unlink(missing_ok=True)
            yield wanted
    except OSError as error:
        raise cannot_be_written(destination, error) from None


@contextmanager
def _lock(destination: Path) -> Iterator[None]:
    path = destination.with_name(f".{destination.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{destination}: another process is fetching it; waiting", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while the lock is held: who waits for it notices, and locks a new file
        lock.release()

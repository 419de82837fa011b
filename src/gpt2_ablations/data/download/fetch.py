"""Fetches a file from a list of sources and verifies it.

Sources are tried in order. A file gets its final name only if its sha256 is correct, and a file with the correct sha256
is not fetched again.
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
from .archives import looks_like_html, read_messages
from .retry_policy import RetryPolicy, retry_policy_from_environment
from .sources import SourceError, is_local, join_source, local_path, printable_source, refers_to, scheme_of

MAX_SMALL_FILE = 2**26  # bytes; the messages and the tokenizer's files are smaller
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
    policy: RetryPolicy | None = None,
) -> None:
    """Fetch a file from the first source that provides it.

    Args:
        sources: https addresses, `hf://org/repo@REVISION/path`, `file://` addresses and paths.
        destination: the final path of the file.
        sha256: of the file. With None, the file is not checked, and fetched again even if it exists.
        setting: the configuration key that lists the sources, for messages.
        sha_setting: the configuration key of the sha256, for messages; None if the user cannot change it.
        accept: called with the file before it gets its final name; raises an error to refuse it.
        policy: default: `retry_policy_from_environment()`.

    Raises:
        InputError: no source provides the file, or it cannot be written.
    """
    destination, policy = Path(destination), policy or retry_policy_from_environment()

    def take(source: str) -> None:
        _take_file(source, destination, sha256, sha_setting, policy, accept=accept)

    with _locked(destination, sha256, sources) as missing:
        if missing:
            _try_in_order(sources, take, f"{destination.name}{_sha256_note(sha256)}", setting)


def fetch_messages(
    sources: list[str],
    destination: Path,
    sha256: str | None,
    *,
    setting: str = "dataset.sources",
    sha_setting: str = "dataset.sha256",
    policy: RetryPolicy | None = None,
) -> None:
    """Fetch the messages file from the first source that provides it, bare or as `SMSSpamCollection` in a zip.

    Args:
        sources: as for `fetch_file`.
        destination: the final path of the bare file.
        sha256: of the bare file, because zips of the same file differ. With None, the file is not checked.
        setting: the configuration key that lists the sources, for messages.
        sha_setting: the configuration key of the sha256, for messages.
        policy: default: `retry_policy_from_environment()`.

    Raises:
        InputError: no source provides the messages, or they cannot be written.
    """
    destination, policy = Path(destination), policy or retry_policy_from_environment()

    def take(source: str) -> None:
        with _partial_file(destination, keep=False) as partial:
            content = read_messages(_read_or_download(source, partial, policy, MAX_SMALL_FILE))
        _check(hashlib.sha256(content).hexdigest(), sha256, sha_setting if is_local(source) else None)
        with write_whole(destination) as partial:
            partial.write_bytes(content)

    with _locked(destination, sha256, sources) as missing:
        if missing:
            _try_in_order(sources, take, f"the dataset{_sha256_note(sha256)}", setting)


def fetch_tokenizer(
    sources: list[str], folder: Path, *, setting: str = "tokenizer.sources", policy: RetryPolicy | None = None
) -> None:
    """Fetch the two files of the GPT-2 BPE, `vocab.bpe` and `encoder.json`, into a folder.

    Args:
        sources: address prefixes and folders that hold the files, also under the names `merges.txt` and `vocab.json`.
        folder: the folder of the final files.
        setting: the configuration key that lists the sources, for messages.
        policy: default: `retry_policy_from_environment()`.

    Raises:
        InputError: no source provides one of the files, or it cannot be written.
    """
    policy = policy or retry_policy_from_environment()
    for name, other_name, sha256 in TOKENIZER_FILES:
        _fetch_tokenizer_file(sources, Path(folder) / name, other_name, sha256, setting, policy)


def _fetch_tokenizer_file(
    sources: list[str], destination: Path, other_name: str, sha256: str, setting: str, policy: RetryPolicy
) -> None:
    name = destination.name

    def take_named(prefix: str, wanted: str) -> None:
        _take_file(join_source(prefix, wanted), destination, sha256, None, policy, MAX_SMALL_FILE)

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

    with _locked(destination, sha256, [join_source(source, name) for source in sources]) as missing:
        if missing:
            what = f"the tokenizer's {name}{_sha256_note(sha256)}"
            _try_in_order(sources, take, what, setting, files="vocab.bpe and encoder.json")


def local_file(source: str) -> Path:
    """The path of a local source that can be read.

    Raises:
        SourceError: the file does not exist or cannot be read.
    """
    path = local_path(source)
    try:
        if path.is_dir():
            raise SourceError("a folder, not a file")
        if not path.is_file():
            raise SourceError("no such file", missing=True)
        path.open("rb").close()
    except OSError as error:
        raise SourceError(f"cannot be read ({error.strerror})") from None
    return path


def _read_or_download(source: str, partial: Path, policy: RetryPolicy, max_bytes: int) -> Path:
    """The path of the content of a source: the local file, the file in the Hugging Face cache, or `partial`.

    Raises:
        SourceError: the source does not provide the file.
    """
    if is_local(source):
        return local_file(source)
    if scheme_of(source) == "hf":
        from . import hub  # imported on use: local files and plain downloads do not need it

        return hub.fetch(source, None, policy)
    web.download(source, partial, policy, max_bytes)
    return partial


def _take_file(
    source: str,
    destination: Path,
    sha256: str | None,
    sha_setting: str | None,
    policy: RetryPolicy,
    max_bytes: int | None = None,
    accept: Callable[[Path], None] | None = None,
) -> None:
    """Fetch a file from one source.

    Raises:
        SourceError: the source does not provide the file.
    """
    accept = accept or (lambda path: None)
    if is_local(source):
        _copy_local(local_file(source), destination, sha256, sha_setting, accept)
    elif scheme_of(source) == "hf":
        from . import hub

        path = hub.fetch(source, sha256, policy)
        accept(path)
        hub.link_or_copy(path, destination)
    else:
        _download(source, destination, sha256, policy, max_bytes, accept)


def _copy_local(
    path: Path, destination: Path, sha256: str | None, sha_setting: str | None, accept: Callable[[Path], None]
) -> None:
    # A copy, not a link: the user may change the original later.
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
    # A partial file of an earlier attempt or another source is resumed only if the sha256 can verify the result.
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
    """The path of the partial file of a download.

    With `keep`, the file remains after an error and is resumed from the next source or in the next invocation.
    """
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
    if looks_like_html(beginning):
        raise SourceError("an HTML page in place of the file")
    if sha256 is not None:
        _check(sha256_of(path), sha256, sha_setting)


def _check(found: str, sha256: str | None, sha_setting: str | None) -> None:
    if sha256 not in (None, found):
        hint = f"; set {sha_setting}: null for your own data" if sha_setting else ""
        raise SourceError(f"its sha256 is {found}, not {sha256[:12]}…{hint}")


def _is_good(destination: Path, sha256: str | None) -> bool:
    return sha256 is not None and destination.is_file() and sha256_of(destination) == sha256


def _try_in_order(
    sources: list[str], take: Callable[[str], None], what: str, setting: str, files: str | None = None
) -> None:
    """Call `take` with each source until one succeeds.

    Args:
        take: fetches the file from a source; raises SourceError.
        what: the file, for the message.
        setting: the configuration key of the sources, for the message.
        files: names of the files that a folder must hold to be a source; None if a source is the file itself.

    Raises:
        InputError: all sources failed. The message lists the reasons.
    """
    failures = []
    for source in sources:
        try:
            return take(source)
        except SourceError as error:
            failures.append(f"{printable_source(source)}: {error}")
            if len(failures) < len(sources):
                print(f"{setting}: {failures[-1]}; trying the next source", file=sys.stderr)
    if files:
        advice = f"Download {files} yourself and list their folder first in {setting}"
    elif setting.endswith("sources"):
        advice = f"Download it yourself and list its path first in {setting}"
    else:
        advice = f"Download it yourself and set {setting} to its path"
    raise InputError(f"{setting}: could not download {what} from any source ({'; '.join(failures)}). {advice}")


def _sha256_note(sha256: str | None) -> str:
    return f" with sha256 {sha256}" if sha256 else ""


@contextmanager
def _locked(destination: Path, sha256: str | None, sources: list[str]) -> Iterator[bool]:
    """Lock a file against other processes that fetch it, and remove it if its sha256 is wrong.

    Yields:
        Whether the file must be fetched.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        if _is_good(destination, sha256):  # also in a folder that cannot be written to
            yield False
            return
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _lock(destination):
            missing = not _is_good(destination, sha256)
            is_source = any(refers_to(source, destination) for source in sources)
            if missing and sha256 is not None and not is_source:
                destination.unlink(missing_ok=True)
            yield missing
    except OSError as error:
        raise cannot_be_written(destination, error) from None


@contextmanager
def _lock(destination: Path) -> Iterator[None]:
    path = destination.with_name(f".{destination.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{destination}: waiting for another process that is downloading this file", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the release: a waiting process then locks a new file
        lock.release()

"""Files of Hugging Face repositories, through huggingface_hub and the cache that all checkouts share."""

import functools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

# Xet transfers go past the client that is watched here: no timeout, no refusal of plain http would hold for them.
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")

import httpx2
import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.utils import logging
from huggingface_hub.utils.tqdm import tqdm

from ...common.files import write_whole
from ...common.hashing import sha256_of
from ...common.logs import progress_stream
from ...common.progress import report
from .retry_policy import Pace, RetryPolicy, TooSlow, answer_in_time, with_retries
from .sources import SourceError, check_address, check_redirect

PLACE = re.compile(r"hf://(?P<repository>[^/@]+/[^/@]+)@(?P<revision>[^/@]+)/(?P<name>.+)")
SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
SLACK = 2**24  # bytes that a download may take beyond twice its file's size
TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)


class HubSource(NamedTuple):
    """`hf://org/repo@REVISION/path/in/repo` in parts."""

    repository: str
    revision: str
    name: str


@dataclass(frozen=True)
class HubFile:
    """What the hub says of a file: its size in bytes, and its sha256 if it is a large (LFS) file."""

    size: int | None
    sha256: str | None


def parse_hub_source(source: str) -> HubSource:
    """Take an `hf://` place apart.

    Raises:
        SourceError: it is no such place.
    """
    match = PLACE.fullmatch(source)
    if not match:
        raise SourceError("not a place of the form hf://org/repo@REVISION/path/in/repo")
    place = HubSource(match["repository"], unquote(match["revision"]), match["name"])
    # Both become paths inside the cache.
    if not {"", ".", ".."}.isdisjoint(re.split(r"[/\\\0]", f"{place.revision}/{place.name}")):
        raise SourceError("its revision or its path would leave the repository")
    return place


def fetch(source: str, sha256: str | None, policy: RetryPolicy) -> Path:
    """The verified file in the shared cache, downloaded if it is not there yet.

    Raises:
        SourceError: the hub does not give the file, or gives another one.
    """
    place = parse_hub_source(source)
    was_cached = cached(place) is not None
    path = with_retries(lambda: _download(place, sha256, policy), source, policy)
    if sha256 is None or (found := sha256_of(path)) == sha256:
        return path
    if was_cached and not _is_what_the_hub_meant(path, found) and not constants.is_offline_mode():
        # The file was damaged in the cache; get it once more.
        path = with_retries(lambda: _download(place, sha256, policy, again=True), source, policy)
        if (found := sha256_of(path)) == sha256:
            return path
    if not _is_what_the_hub_meant(path, found):
        _remove_from_cache(path)
    raise SourceError(f"its sha256 is {found}, not {sha256[:12]}…")


def metadata(place: HubSource, policy: RetryPolicy) -> HubFile:
    """What the hub says of a file; nothing is downloaded.

    Raises:
        SourceError: the hub does not answer, or has no such file.
    """
    with _watched(policy):
        url = huggingface_hub.hf_hub_url(place.repository, place.name, revision=place.revision)
        ask = functools.partial(huggingface_hub.get_hf_file_metadata, url, timeout=policy.timeout)
        found = answer_in_time(ask, policy)
    if found.commit_hash is None or found.etag is None:
        raise SourceError("what answers is no Hugging Face hub (HF_ENDPOINT, a proxy or a login page?)")
    return HubFile(found.size, found.etag if SHA256.fullmatch(found.etag) else None)


def cached(place: HubSource) -> Path | None:
    """The file in the shared cache, None if it is not there."""
    found = huggingface_hub.try_to_load_from_cache(place.repository, place.name, revision=place.revision)
    return Path(found) if isinstance(found, str) else None


def link_or_copy(path: Path, destination: Path) -> None:
    """Give a file of the cache its final name without a second copy of its bytes, where the disk allows."""
    path = path.resolve()
    with write_whole(destination) as partial:
        try:
            os.link(path, partial)
            os.utime(partial)  # Snakemake expects an output to be younger than the rule's inputs
            return
        except OSError:  # another disk, or another user's file
            partial.unlink(missing_ok=True)
        try:
            os.symlink(path, partial)
        except OSError:
            shutil.copyfile(path, partial)


class _Bar(tqdm):
    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings | {"file": progress_stream()})
        self._bytes = settings.get("initial") or 0  # the bar itself stands still where it is not shown

    def update(self, n=1):
        self._bytes += n or 0
        report("download", self._bytes, self.total)
        return super().update(n)


def _download(place: HubSource, sha256: str | None, policy: RetryPolicy, again: bool = False) -> Path:
    expected = None
    if again or cached(place) is None:
        # Asked first: huggingface_hub's own way retries half a minute whatever our patience is, and a file that the
        # repository announces with another hash need not be downloaded.
        announced = metadata(place, policy)
        if sha256 and announced.sha256 and announced.sha256 != sha256:
            raise SourceError(f"its sha256 is {announced.sha256}, not {sha256[:12]}…")
        expected = announced.size
    with _watched(policy, expected, retried=True):
        path = huggingface_hub.hf_hub_download(
            place.repository,
            place.name,
            revision=place.revision,
            etag_timeout=policy.timeout,
            force_download=again,
            tqdm_class=_Bar,
        )
    return Path(path)


def _is_what_the_hub_meant(path: Path, found: str) -> bool:
    """Whether a cached file has the hash that the hub announced: the cache names large files by it."""
    return path.is_symlink() and Path(os.readlink(path)).name == found


def _remove_from_cache(path: Path) -> None:
    blob = path.parent / os.readlink(path) if path.is_symlink() else path
    for file in (path.resolve(), blob, path):
        with suppress(OSError):  # a cache of somebody else
            file.unlink(missing_ok=True)


class _Watch:
    """What one download may cost: `attempts` failures without progress, and about twice the file's bytes."""

    def __init__(self, policy: RetryPolicy, expected: int | None):
        self.policy, self.failures, self.bytes = policy, 0, 0
        self.most = None if expected is None else 2 * expected + SLACK

    def count(self, size: int) -> None:
        self.bytes += size
        if self.most is not None and self.bytes > self.most:
            raise SourceError(f"given up after {self.bytes} bytes: the connection is cut again and again")

    def fail(self, reason: str, received: int) -> None:
        # Less than a block is lost: huggingface_hub writes and resumes by blocks.
        self.failures = 1 if received >= constants.DOWNLOAD_CHUNK_SIZE else self.failures + 1
        if self.failures >= self.policy.attempts:
            raise SourceError(f"{reason} ({self.failures} attempts)")


_watch: ContextVar[_Watch | None] = ContextVar("_watch", default=None)


class _WatchedStream(httpx2.SyncByteStream):
    """A response's body, watched as it arrives.

    huggingface_hub resumes after ReadTimeout and RemoteProtocolError, though not after a reset connection's ReadError.
    """

    def __init__(self, stream: httpx2.SyncByteStream, watch: _Watch):
        self._stream, self._watch = stream, watch

    def __iter__(self) -> Iterator[bytes]:
        watch, pace, before = self._watch, Pace(self._watch.policy), self._watch.bytes
        try:
            for chunk in self._stream:
                watch.count(len(chunk))
                pace.count(len(chunk))
                yield chunk
        except TooSlow as error:
            watch.fail(str(error), watch.bytes - before)
            raise httpx2.ReadTimeout(str(error)) from None
        except httpx2.ReadTimeout:
            watch.fail("no more bytes came", watch.bytes - before)
            raise
        except (httpx2.ReadError, httpx2.RemoteProtocolError) as error:
            watch.fail("the connection was cut", watch.bytes - before)
            raise httpx2.RemoteProtocolError(str(error)) from None

    def close(self) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@functools.cache
def _watch_the_client() -> None:
    default = huggingface_hub.get_session()

    def check_request(request: httpx2.Request) -> None:
        check_address(str(request.url))

    def check_response(response: httpx2.Response) -> None:
        if response.has_redirect_location:
            check_redirect(str(response.request.url), str(response.request.url.join(response.headers["Location"])))
        elif (
            response.request.method == "GET"
            and (watch := _watch.get())
            and isinstance(response.stream, httpx2.SyncByteStream)
        ):
            response.stream = _WatchedStream(response.stream, watch)

    def client() -> httpx2.Client:
        hooks: dict[str, list[Callable[..., Any]]] = {
            "request": [*default.event_hooks["request"], check_request],
            "response": [*default.event_hooks["response"], check_response],
        }
        return httpx2.Client(event_hooks=hooks, follow_redirects=True, timeout=None)

    huggingface_hub.set_client_factory(client)


@contextmanager
def _watched(policy: RetryPolicy, expected: int | None = None, retried: bool = False) -> Iterator[None]:
    """Run huggingface_hub under our limits, silently, and turn its errors into reasons.

    Args:
        expected: bytes to come.
        retried: huggingface_hub itself asks again after a cut connection.
    """
    _watch_the_client()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its warnings show whole addresses, with the keys of signed ones
    token = _watch.set(_Watch(policy, expected))
    try:
        yield
    except SourceError:
        raise
    except Exception as error:
        reason = _source_error(error, policy)
        if retried and isinstance(error, httpx2.ConnectError | httpx2.TimeoutException | httpx2.RemoteProtocolError):
            reason.transient = False
        raise reason from None
    finally:
        _watch.reset(token)
        logging.set_verbosity(verbosity)


def _source_error(error: Exception, policy: RetryPolicy) -> SourceError:
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return _source_error(error.__cause__, policy)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return SourceError("not in the cache, and HF_HUB_OFFLINE forbids to download it", missing=True)
    if isinstance(error, errors.GatedRepoError):
        return SourceError("the repository is gated: accept its terms on the site and log in with `hf auth login`")
    if isinstance(error, errors.RepositoryNotFoundError):
        return SourceError("no such repository, or a private one that needs a token (`hf auth login`)")
    if isinstance(error, errors.RevisionNotFoundError):
        return SourceError("the repository has no such revision")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return SourceError("the repository has no such file at this revision", missing=True)
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        return SourceError(f"HTTP {status} ({error.response.reason_phrase})", transient=status in TRANSIENT_STATUSES)
    if isinstance(error, errors.HFValidationError):
        return SourceError("not a name of a repository")
    if isinstance(error, httpx2.TooManyRedirects):
        return SourceError("redirects in a loop")
    if isinstance(error, httpx2.TimeoutException | TimeoutError):
        return SourceError(f"no answer for {policy.timeout:g} s", transient=True)
    if isinstance(error, httpx2.ProxyError):
        return SourceError("the proxy refuses or does not answer", transient=True)
    if isinstance(error, httpx2.RemoteProtocolError):
        return SourceError("the connection was cut", transient=True)
    if isinstance(error, httpx2.TransportError):
        return SourceError(f"no connection ({_innermost(error)})", transient=True)
    if isinstance(error, OSError) and error.strerror:
        return SourceError(f"cannot be stored in the cache {constants.HF_HUB_CACHE} ({error.strerror})")
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return SourceError("the server sends another number of bytes than it announced", transient=True)
    return SourceError(f"huggingface_hub failed with {type(error).__name__}")


def _innermost(error: BaseException) -> str:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or type(error).__name__

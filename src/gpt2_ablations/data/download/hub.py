"""Files of Hugging Face repositories, fetched by huggingface_hub into the cache that all checkouts share."""

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

# Xet transfers do not use the HTTP client below, so its time limits and its refusal of plain http would not apply.
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

HUB_SOURCE = re.compile(r"hf://(?P<repository>[^/@]+/[^/@]+)@(?P<revision>[^/@]+)/(?P<name>.+)")
SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
SLACK = 2**24  # bytes that a download may receive beyond twice the size of its file
TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)


class HubSource(NamedTuple):
    """The parts of `hf://REPOSITORY@REVISION/NAME`; the name may contain folders."""

    repository: str
    revision: str
    name: str


@dataclass(frozen=True)
class HubFile:
    """What the hub reports about a file: its size in bytes, and its sha256 if it is a large (LFS) file."""

    size: int | None
    sha256: str | None


def parse_hub_source(source: str) -> HubSource:
    """Parse an `hf://` source.

    Raises:
        SourceError: the source does not have this form.
    """
    match = HUB_SOURCE.fullmatch(source)
    if not match:
        raise SourceError("not of the form hf://org/repo@REVISION/path/in/repo")
    parsed = HubSource(match["repository"], unquote(match["revision"]), match["name"])
    # Revision and name become paths in the cache.
    if not {"", ".", ".."}.isdisjoint(re.split(r"[/\\\0]", f"{parsed.revision}/{parsed.name}")):
        raise SourceError("its revision or its path would leave the repository")
    return parsed


def fetch(source: str, sha256: str | None, policy: RetryPolicy) -> Path:
    """Fetch and verify a file of the hub.

    Returns: its path in the shared cache.

    Raises:
        SourceError: the hub does not provide the file, or its sha256 is wrong.
    """
    hub_source = parse_hub_source(source)
    was_cached = cached(hub_source) is not None
    path = with_retries(lambda: _download(hub_source, sha256, policy), source, policy)
    if sha256 is None or (found := sha256_of(path)) == sha256:
        return path
    if was_cached and not _is_as_announced(path, found) and not constants.is_offline_mode():
        # The file in the cache is damaged: download it again.
        path = with_retries(lambda: _download(hub_source, sha256, policy, again=True), source, policy)
        if (found := sha256_of(path)) == sha256:
            return path
    if not _is_as_announced(path, found):
        _remove_from_cache(path)
    raise SourceError(f"its sha256 is {found}, not {sha256[:12]}…")


def metadata(source: HubSource, policy: RetryPolicy) -> HubFile:
    """What the hub reports about a file. Nothing is downloaded.

    Raises:
        SourceError: the hub does not answer, or has no such file.
    """
    with _limited(policy):
        url = huggingface_hub.hf_hub_url(source.repository, source.name, revision=source.revision)
        ask = functools.partial(huggingface_hub.get_hf_file_metadata, url, timeout=policy.timeout)
        found = answer_in_time(ask, policy)
    if found.commit_hash is None or found.etag is None:
        raise SourceError("the server is not a Hugging Face hub; check HF_ENDPOINT, proxy and login")
    return HubFile(found.size, found.etag if SHA256.fullmatch(found.etag) else None)


def cached(source: HubSource) -> Path | None:
    """The path of a file in the shared cache; None if it is not there."""
    found = huggingface_hub.try_to_load_from_cache(source.repository, source.name, revision=source.revision)
    return Path(found) if isinstance(found, str) else None


def link_or_copy(path: Path, destination: Path) -> None:
    """Give a file of the cache its final name: as a hard link, or else a symbolic link, or else a copy."""
    path = path.resolve()
    with write_whole(destination) as partial:
        try:
            os.link(path, partial)
            os.utime(partial)  # Snakemake expects outputs to be newer than the rule's inputs
            return
        except OSError:  # another disk, or another user's file
            partial.unlink(missing_ok=True)
        try:
            os.symlink(path, partial)
        except OSError:
            shutil.copyfile(path, partial)


class _Bar(tqdm):
    """A progress bar on the console that also writes the job's progress file."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings | {"file": progress_stream()})
        self._bytes = settings.get("initial") or 0  # a bar that is not displayed does not count

    def update(self, n=1):
        self._bytes += n or 0
        report("download", self._bytes, self.total)
        return super().update(n)


def _download(source: HubSource, sha256: str | None, policy: RetryPolicy, again: bool = False) -> Path:
    expected = None
    if again or cached(source) is None:
        # Ask for the metadata first. huggingface_hub retries this request for half a minute, whatever our retry policy
        # is, and a file with another sha256 need not be downloaded.
        announced = metadata(source, policy)
        if sha256 and announced.sha256 and announced.sha256 != sha256:
            raise SourceError(f"its sha256 is {announced.sha256}, not {sha256[:12]}…")
        expected = announced.size
    with _limited(policy, expected, retried=True):
        path = huggingface_hub.hf_hub_download(
            source.repository,
            source.name,
            revision=source.revision,
            etag_timeout=policy.timeout,
            force_download=again,
            tqdm_class=_Bar,
        )
    return Path(path)


def _is_as_announced(path: Path, found: str) -> bool:
    """Whether a cached file has the sha256 that the hub announced. The cache names large files by their sha256."""
    return path.is_symlink() and Path(os.readlink(path)).name == found


def _remove_from_cache(path: Path) -> None:
    blob = path.parent / os.readlink(path) if path.is_symlink() else path
    for file in (path.resolve(), blob, path):
        with suppress(OSError):  # another user's cache
            file.unlink(missing_ok=True)


class _Limits:
    """The limits of one download: `attempts` failures without progress, and about twice the bytes of the file."""

    def __init__(self, policy: RetryPolicy, expected: int | None):
        self.policy, self.failures, self.bytes = policy, 0, 0
        self.max_bytes = None if expected is None else 2 * expected + SLACK

    def count(self, size: int) -> None:
        self.bytes += size
        if self.max_bytes is not None and self.bytes > self.max_bytes:
            raise SourceError(f"gave up after {self.bytes} bytes: the connection is cut again and again")

    def fail(self, reason: str, received: int) -> None:
        # huggingface_hub writes and resumes in blocks, so fewer bytes than a block are no progress.
        self.failures = 1 if received >= constants.DOWNLOAD_CHUNK_SIZE else self.failures + 1
        if self.failures >= self.policy.attempts:
            raise SourceError(f"{reason} ({self.failures} attempts)")


_limits: ContextVar[_Limits | None] = ContextVar("_limits", default=None)


class _LimitedStream(httpx2.SyncByteStream):
    """The body of a response, with limits on its size and rate.

    huggingface_hub resumes after ReadTimeout and RemoteProtocolError, but not after ReadError, which a reset connection
    causes. A ReadError is therefore raised as RemoteProtocolError.
    """

    def __init__(self, stream: httpx2.SyncByteStream, limits: _Limits):
        self._stream, self._limits = stream, limits

    def __iter__(self) -> Iterator[bytes]:
        limits, pace, before = self._limits, Pace(self._limits.policy), self._limits.bytes
        try:
            for block in self._stream:
                limits.count(len(block))
                pace.count(len(block))
                yield block
        except TooSlow as error:
            limits.fail(str(error), limits.bytes - before)
            raise httpx2.ReadTimeout(str(error)) from None
        except httpx2.ReadTimeout:
            limits.fail("no more bytes arrived", limits.bytes - before)
            raise
        except (httpx2.ReadError, httpx2.RemoteProtocolError) as error:
            limits.fail("the connection was cut", limits.bytes - before)
            raise httpx2.RemoteProtocolError(str(error)) from None

    def close(self) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@functools.cache
def _install_client() -> None:
    """Let huggingface_hub use an HTTP client that checks addresses and applies the limits."""
    default = huggingface_hub.get_session()

    def check_request(request: httpx2.Request) -> None:
        check_address(str(request.url))

    def check_response(response: httpx2.Response) -> None:
        if response.has_redirect_location:
            check_redirect(str(response.request.url), str(response.request.url.join(response.headers["Location"])))
        elif (
            response.request.method == "GET"
            and (limits := _limits.get())
            and isinstance(response.stream, httpx2.SyncByteStream)
        ):
            response.stream = _LimitedStream(response.stream, limits)

    def client() -> httpx2.Client:
        hooks: dict[str, list[Callable[..., Any]]] = {
            "request": [*default.event_hooks["request"], check_request],
            "response": [*default.event_hooks["response"], check_response],
        }
        return httpx2.Client(event_hooks=hooks, follow_redirects=True, timeout=None)

    huggingface_hub.set_client_factory(client)


@contextmanager
def _limited(policy: RetryPolicy, expected: int | None = None, retried: bool = False) -> Iterator[None]:
    """Call huggingface_hub with our limits and without its warnings, and convert its errors.

    Args:
        expected: size of the file in bytes; None if it is unknown.
        retried: huggingface_hub itself retries after a cut connection, so that such an error is permanent here.

    Raises:
        SourceError: for every exception in the block.
    """
    _install_client()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its warnings contain signed addresses
    token = _limits.set(_Limits(policy, expected))
    try:
        yield
    except SourceError:
        raise
    except Exception as error:
        converted = _source_error(error, policy)
        if retried and isinstance(error, httpx2.ConnectError | httpx2.TimeoutException | httpx2.RemoteProtocolError):
            converted.transient = False
        raise converted from None
    finally:
        _limits.reset(token)
        logging.set_verbosity(verbosity)


def _source_error(error: Exception, policy: RetryPolicy) -> SourceError:
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return _source_error(error.__cause__, policy)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return SourceError("not in the cache, and HF_HUB_OFFLINE forbids the download", missing=True)
    if isinstance(error, errors.GatedRepoError):
        return SourceError("the repository is gated; accept its terms on the site and log in with `hf auth login`")
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
        return SourceError("not a valid name of a repository")
    if isinstance(error, httpx2.TooManyRedirects):
        return SourceError("too many redirects")
    if isinstance(error, httpx2.TimeoutException | TimeoutError):
        return SourceError(f"no answer for {policy.timeout:g} s", transient=True)
    if isinstance(error, httpx2.ProxyError):
        return SourceError("the proxy refuses the connection or does not answer", transient=True)
    if isinstance(error, httpx2.RemoteProtocolError):
        return SourceError("the connection was cut", transient=True)
    if isinstance(error, httpx2.TransportError):
        return SourceError(f"no connection ({_innermost(error)})", transient=True)
    if isinstance(error, OSError) and error.strerror:
        return SourceError(f"cannot be stored in the cache {constants.HF_HUB_CACHE} ({error.strerror})")
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return SourceError("the server sent a different number of bytes than announced", transient=True)
    return SourceError(f"huggingface_hub failed with {type(error).__name__}")


def _innermost(error: BaseException) -> str:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or type(error).__name__

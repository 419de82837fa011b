"""Downloads over https and http, with timeouts, retries, resuming and a progress bar."""

import functools
from pathlib import Path
from urllib.parse import urljoin

import requests
import urllib3
from tqdm import tqdm

from ...common.logs import progress_stream
from ...common.progress import report
from .retry_policy import Pace, RetryPolicy, answer_in_time, with_retries
from .sources import SourceError, check_address, check_redirect, file_name

BLOCK = 2**16  # bytes read at a time
MAX_REDIRECTS = 10
TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)
# `identity`: with compression in transit, lengths and ranges would not refer to the bytes of the file.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "gpt2-ablations"}


def download(address: str, partial: Path, policy: RetryPolicy, max_bytes: int | None = None) -> None:
    """Download a file to `partial`. If `partial` exists, the download resumes after its last byte.

    `partial` remains if the download fails.

    Args:
        address: https or http.
        partial: the path of the partial file.
        policy: attempts, pauses, timeout and minimum rate.
        max_bytes: a larger file is refused; None: no limit.

    Raises:
        SourceError: the address does not provide the file.
    """
    transfer = _Transfer(address, partial, policy, max_bytes)
    with_retries(transfer.attempt, address, policy, transfer.size)


def announced_size(address: str, policy: RetryPolicy) -> int | None:
    """The size in bytes that a server reports for a file; None if it reports none. Nothing is downloaded.

    Raises:
        SourceError: the server does not answer, or it answers with an error or an HTML page.
    """
    with requests.Session() as session:
        response = _ask(session, "HEAD", address, policy, {})
        if response.status_code in (403, 405, 501):  # the server supports GET only
            response.close()
            response = _ask(session, "GET", address, policy, {})
        with response:
            _check_status(response)
            if response.headers.get("Content-Type", "").lower().startswith("text/html"):
                raise SourceError("an HTML page in place of the file")
            return _length(response)


class _Cut(SourceError):
    """The connection was cut in the middle of the body."""


class _Transfer:
    """The download of one file, over several attempts."""

    def __init__(self, address: str, partial: Path, policy: RetryPolicy, max_bytes: int | None):
        self.address, self.partial, self.policy, self.max_bytes = address, partial, policy, max_bytes
        self.version: str | None = None  # ETag or Last-Modified of the file that `partial` is the beginning of

    def size(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def attempt(self) -> None:
        """Fetch the missing part of the file.

        Raises:
            SourceError: this attempt failed.
        """
        start = self.size()
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and self.version:
            headers["If-Range"] = self.version
        with requests.Session() as session, _ask(session, "GET", self.address, self.policy, headers) as response:
            if response.status_code == 416:
                if response.headers.get("Content-Range") == f"bytes */{start}":
                    return  # the file was complete already
                self.partial.unlink()
                raise SourceError("the partial file is longer than the file on the server", transient=True)
            _check_status(response)
            start = _resumed_at(response, start)
            length = _length(response)
            total = None if length is None else start + length
            self._check_size(total or 0)
            etag = response.headers.get("ETag", "")
            self.version = response.headers.get("Last-Modified") if etag.startswith("W/") else etag or None
            try:
                self._receive(response, start, total)
            except _Cut:
                if total is None:
                    raise
        if total is not None and self.size() != total:
            raise SourceError(f"the connection was cut: {self.size()} of {total} bytes", transient=True)

    def _receive(self, response: requests.Response, start: int, total: int | None) -> None:
        pace = Pace(self.policy)
        bar = tqdm(
            desc=file_name(self.address),
            initial=start,
            total=total,
            unit="B",
            unit_scale=True,
            file=progress_stream(),
            disable=None,  # on a terminal only
        )
        with bar, open(self.partial, "ab" if start else "wb") as file:
            while block := _read(response, self.policy):
                file.write(block)
                bar.update(len(block))
                report("download", file.tell(), total)
                self._check_size(file.tell())
                pace.count(len(block))

    def _check_size(self, size: int) -> None:
        if self.max_bytes is not None and size > self.max_bytes:
            raise SourceError(f"larger than {self.max_bytes} bytes, so it is not the file")


def _ask(session: requests.Session, method: str, address: str, policy: RetryPolicy, headers: dict) -> requests.Response:
    """Send a request and follow redirects. The body of the response is not read.

    Redirects are followed here and not by requests, which would neither check them nor skip their bodies.
    """
    check_address(address)
    for _ in range(MAX_REDIRECTS + 1):
        request = functools.partial(
            session.request, method, address, headers={**HEADERS, **headers}, timeout=policy.timeout
        )
        try:
            response = answer_in_time(functools.partial(request, stream=True, allow_redirects=False), policy)
        except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError, TimeoutError) as error:
            raise _source_error(error, policy) from None
        target = session.get_redirect_target(response)
        if target is None:
            return response
        response.close()
        target = urljoin(address, target)
        check_redirect(address, target)
        address = target
    raise SourceError(f"more than {MAX_REDIRECTS} redirects")


def _read(response: requests.Response, policy: RetryPolicy) -> bytes:
    try:
        # read1 returns the bytes that have arrived. read and iter_content wait for a full block, however slow it is.
        return response.raw.read1(BLOCK, decode_content=False)
    except urllib3.exceptions.ProtocolError:
        raise _Cut("the connection was cut", transient=True) from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _source_error(error, policy) from None


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status not in (200, 206):
        wait = response.headers.get("Retry-After", "")
        raise SourceError(
            f"HTTP {status} ({response.reason})",
            transient=status in TRANSIENT_STATUSES,
            missing=status in (404, 410),
            wait=float(wait) if wait.isdecimal() else 0,
        )
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise SourceError("the server compresses the file in transit, although the request forbids it")


def _resumed_at(response: requests.Response, start: int) -> int:
    """The offset of the body in the file: `start` if the server resumes, 0 if it sends the whole file."""
    if response.status_code != 206:
        return 0
    if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise SourceError("the server sent a different part of the file than requested")
    return start


def _length(response: requests.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _source_error(error: Exception, policy: RetryPolicy) -> SourceError:
    """The reason of an exception in words. The libraries' own messages contain the whole address."""
    # requests wraps an error several times; the innermost one tells the reason.
    causes: list[BaseException] = [error]
    while (inner := _cause(causes[-1])) is not None and inner not in causes:
        causes.append(inner)
    if any(isinstance(cause, requests.exceptions.SSLError | urllib3.exceptions.SSLError) for cause in causes):
        return SourceError("the server's TLS certificate is not accepted")
    if any(isinstance(cause, requests.exceptions.ProxyError | urllib3.exceptions.ProxyError) for cause in causes):
        return SourceError("the proxy refuses the connection or does not answer", transient=True)
    if any(isinstance(cause, urllib3.exceptions.NameResolutionError) for cause in causes):
        return SourceError("the host name is unknown", transient=True)
    if isinstance(error, ValueError | UnicodeError):  # malformed addresses
        return SourceError("not a valid address")
    reason = next(filter(None, (getattr(cause, "strerror", None) for cause in reversed(causes))), None)
    if reason:
        return SourceError(f"no connection ({reason})", transient=True)
    if any(isinstance(cause, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError) for cause in causes):
        return SourceError(f"no answer for {policy.timeout:g} s", transient=True)
    return SourceError("the connection was cut", transient=True)


def _cause(error: BaseException) -> BaseException | None:
    nested = [getattr(error, "reason", None), *error.args, error.__cause__, error.__context__]
    return next((cause for cause in nested if isinstance(cause, BaseException)), None)

"""Downloads over https, and over plain http where it is allowed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from .archives import too_large
from .progress_bar import ProgressBar
from .sources import SourceError, check_address, failed_download

ATTEMPTS = 4
BACKOFF = 0.5  # seconds before the third attempt; doubles with each further one
TIMEOUT = 30.0  # seconds to connect, and seconds without a byte
MAX_RETRY_AFTER = 60  # seconds; a server that asks for a longer wait is asked again after this
TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)
# `identity`: with compression in transit, Content-Length would not be the size of the file.
# requests reads the first of these that is set.
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "gpt2-ablations"}


def download(address: str, path: Path, max_bytes: int | None = None) -> None:
    """Download a file.

    Args:
        address: https or http.
        path: of the file to write.
        max_bytes: a larger file is refused; None: no limit.

    Raises:
        SourceError: the address does not provide the file.
    """
    with _session(address) as session:
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                return _receive(session, address, path, max_bytes)
            except requests.exceptions.ChunkedEncodingError:  # cut in the body, where the adapter does not retry
                if not attempts_left:
                    raise


def announced_size(address: str) -> int | None:
    """The size in bytes that a server announces for a file; None if it announces none. The body is not read.

    Raises:
        SourceError: the server does not answer, or it answers with an error or an HTML page.
    """
    with _session(address) as session, _get(session, address) as response:
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise SourceError("an HTML page in place of the file")
        return _length(response)


@contextmanager
def _session(address: str) -> Iterator[requests.Session]:
    retries = urllib3.Retry(
        ATTEMPTS - 1,
        backoff_factor=BACKOFF,
        status_forcelist=TRANSIENT_STATUSES,
        raise_on_status=False,
        retry_after_max=MAX_RETRY_AFTER,
    )
    try:
        with requests.Session() as session:
            for scheme in ("https://", "http://"):
                session.mount(scheme, HTTPAdapter(max_retries=retries))
            session.hooks["response"].append(_check_redirect)
            yield session
    except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
        raise failed_download(error, address, CERTIFICATES) from None


def _check_redirect(response: requests.Response, **_: object) -> None:
    if response.is_redirect:
        check_address(urljoin(response.url, response.headers["Location"]), redirected_from=response.url)


def _get(session: requests.Session, address: str) -> requests.Response:
    check_address(address)
    try:
        response = session.get(address, headers=HEADERS, stream=True, timeout=TIMEOUT)
    except SourceError:
        raise
    except Exception as error:  # of any class: a wrong proxy is a ValueError, missing certificates are an OSError
        raise failed_download(error, address, CERTIFICATES) from None
    if response.status_code != 200:
        raise SourceError(f"HTTP {response.status_code} ({response.reason})")
    return response


def _receive(session: requests.Session, address: str, path: Path, max_bytes: int | None) -> None:
    with _get(session, address) as response, open(path, "wb") as file:
        length = _length(response)
        _check_size(length or 0, max_bytes)
        with ProgressBar(desc=unquote(urlsplit(address).path.rpartition("/")[2]), total=length) as bar:
            for block in response.iter_content(2**16):
                file.write(block)
                bar.update(len(block))
                _check_size(file.tell(), max_bytes)


def _check_size(size: int, max_bytes: int | None) -> None:
    if max_bytes is not None and size > max_bytes:
        raise too_large("it", max_bytes)


def _length(response: requests.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None

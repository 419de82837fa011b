"""Sources of files: https://, hf:// and file:// addresses and local paths. Which are allowed, how they are printed."""

import ipaddress
import os
import re
import ssl
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ...common.errors import printable, without_secrets
from .network_settings import mistaken_variable, proxy_in_use

ALLOW_HTTP_VARIABLE = "GPT2_ABLATIONS_ALLOW_HTTP"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class SourceError(Exception):
    """Why a file could not be fetched from a source. The text is printed; it contains no secrets."""

    def __init__(self, reason: str):
        super().__init__(printable(reason))  # it may quote the server


def failed_download(error: BaseException, address: str, certificate_variables: tuple[str, ...]) -> SourceError:
    """The innermost reason of a library's error. The libraries' own messages contain whole addresses.

    Args:
        address: what could not be downloaded.
        certificate_variables: the environment variables that name the library's certificates.
    """
    if mistake := mistaken_variable(certificate_variables):
        return SourceError(mistake)
    proxy = proxy_in_use(address)
    if isinstance(error, ValueError) and not proxy:
        return SourceError("not a valid address")
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = f"if your network inspects TLS, name its certificates in {certificate_variables[0]}"
        return SourceError(f"its certificate is not trusted ({error.verify_message}); {advice}")
    reason = getattr(error, "strerror", None) or type(error).__name__
    return SourceError(f"the download failed ({reason}{f', through the proxy {proxy}' if proxy else ''})")


def scheme_of(source: str) -> str:
    """The scheme of an address in lower case, such as `https`, `hf` or `file`; empty for a path."""
    match = _SCHEME.match(source)
    return match[1].lower() if match else ""


def is_local(source: str) -> bool:
    """Whether a source is a file of this machine: a path or a `file://` address."""
    return scheme_of(source) in ("", "file")


def local_path(source: str) -> Path:
    """The path of a local source. A relative path is relative to the working directory.

    Raises:
        SourceError: the path is not valid, or the `file://` address is relative or of another machine.
    """
    try:
        parts = urlsplit(source if scheme_of(source) else "")
        path = Path(url2pathname(parts.path) if scheme_of(source) else source).expanduser()
    except (RuntimeError, ValueError):
        raise SourceError("not a valid path") from None
    if parts.netloc not in ("", "localhost"):
        raise SourceError("file:// takes an absolute path of this machine, as in file:///data/file")
    if "\0" in str(path):
        raise SourceError("not a valid path")
    return path


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
            raise SourceError("no such file")
        path.open("rb").close()
    except OSError as error:
        raise SourceError(f"cannot be read ({error.strerror})") from None
    return path


def check_address(address: str, redirected_from: str = "") -> None:
    """Check that an address is https, or plain http to this machine or to a host that the user allows.

    GPT2_ABLATIONS_ALLOW_HTTP lists the allowed hosts, separated by commas or spaces.

    Args:
        address: the address.
        redirected_from: the address that redirects to it, if one does. From https, only https is allowed.

    Raises:
        SourceError: the address is not allowed or not valid.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise SourceError("not a valid address") from None
    if parts.scheme not in ("https", "http"):
        raise SourceError(f"{parts.scheme}:// is not supported; use https://, hf://, file:// or a path")
    if not host:
        raise SourceError("the address names no host")
    if parts.scheme == "https":
        return
    if scheme_of(redirected_from) == "https":
        raise SourceError("redirects from https to plain http, which is refused")
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback and host not in os.environ.get(ALLOW_HTTP_VARIABLE, "").lower().replace(",", " ").split():
        raise SourceError(f"plain http is refused; use https, or allow the host with {ALLOW_HTTP_VARIABLE}={host}")


def check_sha256(found: str, expected: str | None, setting: str | None = None) -> None:
    """Compare the sha256 of a file with the expected one.

    Args:
        found: of the file.
        expected: None: the file is not checked.
        setting: the configuration key of `expected`, if the user may set it to null.

    Raises:
        SourceError: they differ.
    """
    if expected not in (None, found):
        hint = f"; set {setting}: null for your own data" if setting else ""
        raise SourceError(f"its sha256 is {found}, not {expected[:12]}…{hint}")


def printable_source(source: str) -> str:
    """A source on one line, without user, password and query. Queries can hold access tokens."""
    if scheme_of(source):
        source = without_secrets(re.sub(r"\s", "%20", source))
    return printable(source)


def messages_name(sources: list[str], copy: Path) -> str:
    """What errors call the messages: the source, if there is one or if the first is a file here; or else the copy."""
    with suppress(SourceError):
        if len(sources) == 1 or (is_local(sources[0]) and local_file(sources[0])):
            return printable_source(sources[0])
    return str(copy)


def join_source(folder: str, name: str) -> str:
    """The source of a file in a folder.

    Args:
        folder: an address (its query is kept), `hf://org/repo@REVISION` or a path.
        name: of the file.
    """
    address, question, query = folder.partition("?") if not is_local(folder) else (folder, "", "")
    return f"{address.rstrip('/')}/{name}{question}{query}"

"""Sources of files: https://, hf:// and file:// addresses and local paths. Which are allowed, how they are printed."""

import ipaddress
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from ...common.errors import printable

ALLOW_HTTP_VARIABLE = "GPT2_ABLATIONS_ALLOW_HTTP"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class SourceError(Exception):
    """Why a file could not be fetched from a source. The text is printed; it contains no secrets.

    Attributes:
        transient: whether another attempt may succeed, after a cut connection or with a busy server for example.
        missing: whether the source was reached and has no such file.
        wait: seconds that the server asks to wait before the next attempt.
    """

    def __init__(self, reason: str, *, transient: bool = False, missing: bool = False, wait: float = 0):
        super().__init__(printable(reason))  # it may quote the server
        self.transient, self.missing, self.wait = transient, missing, wait


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


def refers_to(source: str, path: Path) -> bool:
    """Whether a source is the file or folder at `path`, so that removing `path` would remove the source.

    The file need not exist. A symbolic link at `path` may point to the source: removing the link keeps the source. A
    source that is a symbolic link to `path` refers to it.
    """
    if not is_local(source):
        return False
    try:
        named, removed = local_path(source), path.parent.resolve() / path.name
        return removed in (named.parent.resolve() / named.name, named.resolve())
    except (OSError, RuntimeError, SourceError):
        return False  # reading the source reports the error


def check_address(address: str) -> None:
    """Check that an address is https, or plain http to this machine or to a host that the user allows.

    GPT2_ABLATIONS_ALLOW_HTTP lists the allowed hosts, separated by commas or spaces.

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
    if parts.scheme == "http" and not _is_loopback(host) and host not in _allowed_http_hosts():
        raise SourceError(f"plain http is refused; use https, or allow the host with {ALLOW_HTTP_VARIABLE}={host}")


def check_redirect(address: str, target: str) -> None:
    """Check the target of a redirect.

    Args:
        address: the redirected address.
        target: where it redirects to.

    Raises:
        SourceError: the redirect goes from https to plain http, or to an address that is not allowed.
    """
    if urlsplit(address).scheme == "https" and urlsplit(target).scheme == "http":
        raise SourceError("redirects from https to plain http, which is refused")
    check_address(target)


def printable_source(source: str) -> str:
    """A source on one line, without user, password and query. Queries can hold access tokens."""
    if not is_local(source):
        address, query, _ = source.partition("?")
        scheme, _, rest = address.partition("://")
        host, slash, path = rest.partition("/")
        # In hf://org/repo@REVISION/file the @ is in the path, not before the host.
        source = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}" + ("?…" if query else "")
    return printable(source)


def join_source(folder: str, name: str) -> str:
    """The source of a file in a folder.

    Args:
        folder: an address (its query is kept), `hf://org/repo@REVISION` or a path.
        name: of the file.
    """
    address, question, query = folder.partition("?") if not is_local(folder) else (folder, "", "")
    return f"{address.rstrip('/')}/{name}{question}{query}"


def file_name(source: str) -> str:
    """The last part of a source, as the label of a progress bar."""
    return unquote(source.partition("?")[0].rstrip("/").rpartition("/")[2])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _allowed_http_hosts() -> list[str]:
    return os.environ.get(ALLOW_HTTP_VARIABLE, "").lower().replace(",", " ").split()

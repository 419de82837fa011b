"""Places of files: https addresses, hf://, file:// and local paths; which of them are allowed, how they are shown."""

import ipaddress
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from ...common.errors import printable

ALLOW_HTTP = "GPT2_ABLATIONS_ALLOW_HTTP"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class SourceError(Exception):
    """Why one place did not give the file. Its text is shown to the user and holds no secrets.

    Attributes:
        transient: asking again may help (a cut connection, a busy server).
        missing: the place answers, and has no such file.
        wait: seconds that the server asks to be left alone.
    """

    def __init__(self, reason: str, *, transient: bool = False, missing: bool = False, wait: float = 0):
        super().__init__(printable(reason))  # a server's own words may be part of it
        self.transient, self.missing, self.wait = transient, missing, wait


def scheme_of(source: str) -> str:
    """`https`, `http`, `hf`, `file` …; empty for a plain path."""
    match = _SCHEME.match(source)
    return match[1].lower() if match else ""


def is_at(source: str, path: Path) -> bool:
    """Whether a source is the file or folder at a path, there already or not: removing that would lose the source.

    A link at the path to the source is not the source; a source that is a link to the path is.
    """
    if not is_local(source):
        return False
    try:
        named, place = local_path(source), path.parent.resolve() / path.name
        return place in (named.parent.resolve() / named.name, named.resolve())
    except (OSError, RuntimeError, SourceError):
        return False  # what is wrong with it is said where it is read


def is_local(source: str) -> bool:
    """Whether a source is a file of this machine: a path, or `file://`."""
    return scheme_of(source) in ("", "file")


def local_path(source: str) -> Path:
    """The path that a local source names; a relative one is relative to the working directory.

    Raises:
        SourceError: a `file://` address of another machine, or a relative one.
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


def check_address(address: str) -> None:
    """Refuse what is neither https nor http to this machine or to a host that is allowed by name.

    Raises:
        SourceError: the address is not allowed or is none.
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
    if parts.scheme == "http" and not _is_loopback(host) and host not in _hosts_allowed_by_name():
        raise SourceError(f"plain http is refused; use https, or allow the host with {ALLOW_HTTP}={host}")


def check_redirect(address: str, target: str) -> None:
    """Check where an address redirects to.

    Raises:
        SourceError: from https to http, or to an address that is not allowed.
    """
    if urlsplit(address).scheme == "https" and urlsplit(target).scheme == "http":
        raise SourceError("redirects from https to plain http, which is refused")
    check_address(target)


def shown(source: str) -> str:
    """A source as messages show it: one line, without user, password and query (queries hold tokens)."""
    if not is_local(source):
        address, query, _ = source.partition("?")
        scheme, _, rest = address.partition("://")
        host, slash, path = rest.partition("/")
        # In hf://org/repo@REVISION/file the @ stands in the path.
        source = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}" + ("?…" if query else "")
    return printable(source)


def joined(prefix: str, name: str) -> str:
    """The place of a file in a folder: an address prefix (its query is kept), `hf://org/repo@REVISION` or a path."""
    address, question, query = prefix.partition("?") if not is_local(prefix) else (prefix, "", "")
    return f"{address.rstrip('/')}/{name}{question}{query}"


def name_in(source: str) -> str:
    """The last part of a source, for a progress bar."""
    return unquote(source.partition("?")[0].rstrip("/").rpartition("/")[2])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _hosts_allowed_by_name() -> list[str]:
    return os.environ.get(ALLOW_HTTP, "").lower().replace(",", " ").split()

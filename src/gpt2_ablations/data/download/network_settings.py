"""The environment variables of proxies and certificates: which of them explains why a download failed."""

import os
import ssl
from importlib.util import find_spec
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

# The schemes that requests and huggingface_hub both know, and the packages that they need for SOCKS.
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
SOCKS_PACKAGES = {"socks": "PySocks", "socksio": "socksio"}


def mistaken_variable(certificate_variables: tuple[str, ...]) -> str | None:
    """What is wrong with a variable, so that no download can work; None if nothing is.

    Args:
        certificate_variables: the variables that name the certificates; the first that is set counts.
    """
    proxies = [] if "*" in _ignored_hosts() else _proxies(("http", "https", "all"))
    return next(filter(None, map(_proxy_mistake, proxies)), None) or _certificates_mistake(certificate_variables)


def proxy_in_use(address: str) -> str | None:
    """The variable and the proxy through which an address is reached, without secrets; None without a proxy."""
    parts = urlsplit(address)
    if "*" in _ignored_hosts() or proxy_bypass(parts.hostname or ""):
        return None
    return next((f"{name}={_without_password(os.environ[name])}" for name in _proxies((parts.scheme, "all"))), None)


def _ignored_hosts() -> list[str]:
    return (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").replace(",", " ").split()


def _proxies(schemes: tuple[str, ...]) -> list[str]:
    """The variables that name a proxy for these schemes. As in all libraries, lower case counts first."""
    names = ((f"{scheme}_proxy", f"{scheme.upper()}_PROXY") for scheme in schemes)
    return [name for pair in names if (name := next(filter(os.environ.get, pair), None))]


def _proxy_mistake(name: str) -> str | None:
    value = os.environ[name]
    found = f"the environment variable {name} is '{_without_password(value)}'"
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        is_valid = parts.scheme in PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0
        # requests takes the user in USER:PASSWORD@HOST for a scheme.
        is_valid = is_valid and ("://" in value or "@" not in value)
    except ValueError:
        is_valid = False
    if not is_valid:
        return f"{found}; allowed: http://HOST:PORT, https://HOST:PORT, socks5://HOST:PORT or socks5h://HOST:PORT"
    lacking = [package for module, package in SOCKS_PACKAGES.items() if not find_spec(module)]
    if parts.scheme.startswith("socks") and lacking:
        return f"{found}, and a SOCKS proxy needs a package: run `pip install {' '.join(lacking)}`, or unset {name}"
    return None


def _certificates_mistake(variables: tuple[str, ...]) -> str | None:
    name = next(filter(os.environ.get, variables), None)
    if name is None:
        return None
    path = os.environ[name]
    try:
        where = {"capath": path} if os.path.isdir(path) else {"cafile": path}
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(**where)
    except OSError as error:
        return (
            f"the environment variable {name} is '{path}', which cannot be read as certificates ({error.strerror});"
            f" name a file of certificates, or unset {name}"
        )
    return None


def _without_password(proxy: str) -> str:
    scheme, separator, rest = proxy.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"

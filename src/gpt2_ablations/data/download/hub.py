"""Files of Hugging Face repositories, fetched by huggingface_hub into the cache that all checkouts share."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import huggingface_hub
from huggingface_hub import constants, errors

from ...common.hashing import sha256_of
from .network_settings import mistaken_variable
from .progress_bar import ProgressBar
from .sources import SourceError, check_address, check_sha256, failed_download

# The variable that names its certificates.
CERTIFICATES = ("SSL_CERT_FILE",)

# Its warnings contain signed addresses.
huggingface_hub.logging.set_verbosity_error()


def fetch(source: str, sha256: str | None) -> Path:
    """Fetch and verify a file of the hub. A damaged file in the cache is downloaded again.

    Returns: its path in the shared cache.

    Raises:
        SourceError: the hub does not provide the file, or its sha256 is wrong.
    """
    found = cached(source)
    damaged = found is not None and sha256 is not None and sha256_of(found) != sha256
    if found is None or damaged:
        _, announced = announcement(source, retry=True)
        if announced is not None:
            check_sha256(announced, sha256)  # before gigabytes are downloaded
    with _explained():
        path = Path(huggingface_hub.hf_hub_download(**_parse(source), force_download=damaged, tqdm_class=ProgressBar))
    if sha256 is not None and (damaged or path != found):
        check_sha256(sha256_of(path), sha256)
    return path


def announcement(source: str, retry: bool) -> tuple[int | None, str | None]:
    """Size in bytes and sha256 that the hub announces for a file; None for what it does not announce.

    Args:
        source: of the file, which is not downloaded.
        retry: whether huggingface_hub asks again after a transient error.

    Raises:
        SourceError: the hub does not answer, or has no such file.
    """
    with _explained():
        url = huggingface_hub.hf_hub_url(**_parse(source))
        found = huggingface_hub.get_hf_file_metadata(url, retry_on_errors=retry)
    check_address(found.location, redirected_from=url)
    if found.commit_hash is None or found.etag is None:
        raise SourceError("the server is not a Hugging Face hub; check HF_ENDPOINT, proxy and login")
    return found.size, found.etag if re.fullmatch(r"[0-9a-f]{64}", found.etag) else None


def cached(source: str) -> Path | None:
    """The path of a file in the shared cache; None if it is not there.

    Raises:
        SourceError: the source is not of the form hf://org/repo@REVISION/path.
    """
    with _explained():
        found = huggingface_hub.try_to_load_from_cache(**_parse(source))
    return Path(found) if isinstance(found, str) else None


def link_or_copy(path: Path, destination: Path) -> None:
    """Link a file of the cache to `destination`: as a hard link, or else a symbolic link, or else copy it."""
    path = path.resolve()
    try:
        os.link(path, destination)
        os.utime(destination)  # Snakemake expects outputs to be newer than the rule's inputs
        return
    except OSError:  # another disk, or another user's file
        destination.unlink(missing_ok=True)
    try:
        os.symlink(path, destination)
    except OSError:
        shutil.copyfile(path, destination)


def _parse(source: str) -> dict[str, Any]:
    """A source as the arguments by which huggingface_hub names a file."""
    match = re.fullmatch(r"hf://(?P<repo_id>[^/@]+/[^/@]+)@(?P<revision>[^/@]+)/(?P<filename>.+)", source)
    if not match:
        raise SourceError("not of the form hf://org/repo@REVISION/path/in/repo")
    parsed = match.groupdict() | {"revision": unquote(match["revision"])}
    # Revision and file name become paths in the cache.
    if not {"", ".", ".."}.isdisjoint(re.split(r"[/\\\0]", f"{parsed['revision']}/{parsed['filename']}")):
        raise SourceError("its revision or its path would leave the repository")
    check_address(huggingface_hub.hf_hub_url(**parsed))  # HF_ENDPOINT may be plain http
    return parsed


@contextmanager
def _explained() -> Iterator[None]:
    """Raise every exception of huggingface_hub as a SourceError."""
    try:
        yield
    except (SourceError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # hf_xet is written in Rust, whose panics are no `Exception`
        raise _source_error(error) from None


def _source_error(error: BaseException) -> SourceError:
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:
        return _source_error(error.__cause__)
    reasons: list[tuple[type[Exception], str]] = [
        (errors.OfflineModeIsEnabled, "not in the cache, and HF_HUB_OFFLINE forbids the download"),
        (errors.GatedRepoError, "the repository is gated; accept its terms on the site, then run `hf auth login`"),
        (errors.RepositoryNotFoundError, "no such repository, or a private one that needs a token (`hf auth login`)"),
        (errors.RevisionNotFoundError, "the repository has no such revision"),
        (errors.EntryNotFoundError, "the repository has no such file at this revision"),
    ]
    for kind, reason in reasons:
        if isinstance(error, kind):
            return SourceError(reason)
    if isinstance(error, errors.HfHubHTTPError):
        return SourceError(f"HTTP {error.response.status_code} ({error.response.reason_phrase})")
    if isinstance(error, OSError) and error.strerror and not mistaken_variable(CERTIFICATES):
        return SourceError(f"cannot be stored in the cache {constants.HF_HUB_CACHE} ({error.strerror})")
    return failed_download(error, constants.ENDPOINT, CERTIFICATES)

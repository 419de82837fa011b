"""Weights are fetched by huggingface_hub into its cache, from an imitated hub that misbehaves."""

import hashlib
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt2_ablations.data.download import hub as hub_module
from tests.data.download.hub_client import HubClient
from tests.data.download.misbehaving_server import (
    COMMIT,
    Hub,
    Server,
    cut,
    good,
    in_turn,
    page,
    redirect,
    stall,
    status,
)

CONTENT = random.Random(3).randbytes(300_000)
WRONG = CONTENT[:-1] + b"?"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "model.safetensors"
BLOCK = 10 * 2**20  # bytes; huggingface_hub writes and resumes in such blocks
LARGE = CONTENT * (BLOCK // len(CONTENT) + 2)


@pytest.fixture
def hub(hub_server: Server, request: pytest.FixtureRequest) -> Hub:
    """A repository for each test."""
    return Hub(hub_server, f"tiny/m{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}")


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "weights" / NAME


def blobs(client: HubClient, hub: Hub) -> list[Path]:
    """The files of a repository in the shared cache."""
    folder = client.cache / "hub" / f"models--{hub.repository.replace('/', '--')}" / "blobs"
    return sorted(folder.iterdir()) if folder.exists() else []


def gets(hub: Hub) -> int:
    return len(hub.server.asked(hub.path(NAME)))


def sent(hub: Hub) -> int:
    return hub.server.sent(hub.path(NAME))


def test_weights_are_downloaded_once_for_all_checkouts_and_stored_once(hub, hub_client, tmp_path):
    source = hub.add(NAME, CONTENT)
    for checkout in ("first", "second"):
        destination = tmp_path / checkout / NAME
        assert hub_client.fetch([source], destination, SHA256) is None
        assert destination.read_bytes() == CONTENT
        assert list(destination.parent.iterdir()) == [destination]
        assert destination.samefile(blobs(hub_client, hub)[0])
    assert gets(hub) == 1
    assert sent(hub) == len(CONTENT)


def test_a_link_to_the_cache_gets_a_new_date(hub, hub_client, tmp_path):
    source = hub.add(NAME, CONTENT)
    hub_client.fetch([source], tmp_path / "first", SHA256)
    os.utime(blobs(hub_client, hub)[0], (0, 0))
    hub_client.fetch([source], tmp_path / "second", SHA256)
    assert (tmp_path / "second").stat().st_mtime > 0


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second disk, such as /dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder)


def test_a_file_in_a_cache_on_another_disk_is_linked_symbolically(hub, other_disk, destination):
    source = hub.add(NAME, CONTENT)
    with HubClient(hub.server.address, other_disk / "cache", NO_PROXY="*") as client:
        assert client.fetch([source], destination, SHA256) is None
        assert destination.is_symlink()
        assert destination.resolve() == blobs(client, hub)[0]
    assert destination.read_bytes() == CONTENT


def test_without_links_the_file_is_copied(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "symlink", refuse)
    (tmp_path / "cached").write_bytes(CONTENT)
    hub_module.link_or_copy(tmp_path / "cached", tmp_path / "copy")
    (tmp_path / "cached").unlink()
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_offline_the_cache_is_used_and_a_missing_file_is_explained(hub, tmp_path, destination):
    source, absent = hub.add(NAME, CONTENT), hub.add("other", b"other")
    with HubClient(hub.server.address, tmp_path / "cache", NO_PROXY="*") as client:
        client.fetch([source], tmp_path / "elsewhere", SHA256)
    asked = len(hub.server.requests)
    with HubClient(hub.server.address, tmp_path / "cache", HF_HUB_OFFLINE="1") as client:
        assert client.fetch([source], destination, SHA256) is None
        assert destination.read_bytes() == CONTENT
        assert "not in the cache, and HF_HUB_OFFLINE forbids" in client.fetch([absent], tmp_path / "other", None)
    assert len(hub.server.requests) == asked


def test_a_token_is_sent_and_never_printed(hub, tmp_path):
    hub.add(NAME, CONTENT, get=status(403))
    with HubClient(hub.server.address, tmp_path / "cache", NO_PROXY="*", HF_TOKEN="hf_hush") as client:
        message = client.fetch([hub.source(NAME)], tmp_path / "file", SHA256)
        assert "HTTP 403" in message
        assert "hush" not in message + client.log.read_text()
    assert hub.server.asked(hub.path(NAME))[0].headers["authorization"] == "Bearer hf_hush"


def test_a_signed_address_is_never_printed_and_gets_no_token(hub, server, tmp_path):
    signed = server.serve("/blob", in_turn(cut(CONTENT, 1000), good(CONTENT))) + "?signature=hush"

    def to_signed_address(handler):
        linked = {"X_Linked_Etag": f'"{SHA256}"', "X_Linked_Size": str(len(CONTENT))}
        handler.head(302, 0, Location=signed, X_Repo_Commit=COMMIT, **linked)

    source = hub.add(NAME, CONTENT, head=to_signed_address)
    with HubClient(hub.server.address, tmp_path / "cache", NO_PROXY="*", HF_TOKEN="hf_hush") as client:
        assert client.fetch([source], tmp_path / "file", SHA256) is None
        assert "hush" not in client.log.read_text()
    assert [request.path for request in server.requests] == ["/blob?signature=hush"] * 2
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("broken", [cut(LARGE, BLOCK + 1000), stall(LARGE, BLOCK + 1000, 2)], ids=["closed", "stalled"])
def test_a_cut_connection_is_resumed(hub, hub_client, destination, broken):
    source = hub.add(NAME, LARGE, get=in_turn(broken, good(LARGE)))
    assert hub_client.fetch([source], destination, hashlib.sha256(LARGE).hexdigest()) is None
    assert destination.read_bytes() == LARGE
    ranges = [request.headers.get("range") for request in hub.server.asked(hub.path(NAME))]
    assert ranges == [None, f"bytes={BLOCK}-"]


def test_a_busy_hub_is_asked_again(hub, hub_client, destination):
    source = hub.add(NAME, CONTENT)
    correct = hub.server.behaviours[hub.path(NAME)]
    hub.add(NAME, CONTENT, head=in_turn(status(503), correct))
    assert hub_client.fetch([source], destination, SHA256) is None
    assert destination.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (good(WRONG), f"its sha256 is {hashlib.sha256(WRONG).hexdigest()}, not {SHA256[:12]}…"),
        (page(), "the download failed (OSError)"),
        (status(500), "HTTP 500 (Internal Server Error)"),
        (cut(CONTENT, 1000, reset=True), "the download failed (Connection reset by peer)"),
    ],
    ids=["wrong bytes", "HTML page", "500", "reset"],
)
def test_a_failed_download_is_explained_and_the_next_source_is_tried(
    hub, hub_client, destination, tmp_path, answer, reason
):
    source = hub.add(NAME, CONTENT, get=answer)
    assert reason in hub_client.fetch([source], destination, SHA256)
    assert not destination.exists()
    (tmp_path / "copy").write_bytes(CONTENT)
    assert hub_client.fetch([source, str(tmp_path / "copy")], destination, SHA256) is None
    assert destination.read_bytes() == CONTENT


def test_a_file_announced_with_another_sha256_is_not_downloaded(hub, hub_client, destination):
    source = hub.add(NAME, WRONG)
    message = hub_client.fetch([source], destination, SHA256)
    assert f"its sha256 is {hashlib.sha256(WRONG).hexdigest()}, not {SHA256[:12]}…" in message
    assert gets(hub) == 0


def test_an_intact_file_with_another_sha256_is_kept_in_the_cache(hub, hub_client, destination, tmp_path):
    source = hub.add(NAME, WRONG)
    assert hub_client.fetch([source], tmp_path / "other", None) is None
    assert "its sha256 is" in hub_client.fetch([source], destination, SHA256)
    assert gets(hub) == 1
    assert [blob.read_bytes() for blob in blobs(hub_client, hub)] == [WRONG]


def test_a_file_damaged_in_the_cache_is_downloaded_again(hub, hub_client, destination, tmp_path):
    source = hub.add(NAME, CONTENT)
    hub_client.fetch([source], tmp_path / "first", SHA256)
    blobs(hub_client, hub)[0].write_bytes(WRONG)
    assert hub_client.fetch([source], destination, SHA256) is None
    assert destination.read_bytes() == CONTENT
    assert gets(hub) == 2


def test_a_server_that_is_not_a_hub_is_named(hub, hub_client, destination):
    source = hub.add(NAME, CONTENT, head=page(), get=page())
    assert "the server is not a Hugging Face hub" in hub_client.fetch([source], destination, SHA256)
    assert gets(hub) == 0


def test_a_redirect_from_https_to_http_is_refused(server, tmp_path, destination, certificate):
    with Server().with_tls(certificate) as secure:
        hub = Hub(secure)
        source = hub.add(NAME, CONTENT, head=redirect(server.serve("/file", good(CONTENT))))
        with HubClient(secure.address, tmp_path / "cache", NO_PROXY="*", SSL_CERT_FILE=str(certificate)) as client:
            assert "redirects from https to plain http" in client.fetch([source], destination, SHA256)
    assert server.requests == []


def test_a_redirect_to_plain_http_elsewhere_is_refused(hub, hub_client, destination):
    source = hub.add(NAME, CONTENT, head=redirect("http://example.org/file"))
    assert "plain http is refused" in hub_client.fetch([source], destination, SHA256)
    assert gets(hub) == 0


def test_a_file_that_the_repository_does_not_have_is_asked_for_once(hub, hub_client, destination):
    hub.lacks(NAME)
    assert "the repository has no such file" in hub_client.fetch([hub.source(NAME)], destination, SHA256)
    assert len(hub.server.asked(hub.path(NAME), "HEAD")) == 1


def test_a_hub_over_plain_http_elsewhere_is_refused(tmp_path, destination):
    with HubClient("http://hub.example.org", tmp_path / "cache") as client:
        message = client.fetch([f"hf://tiny/model@{COMMIT}/{NAME}"], destination, SHA256)
    assert "plain http is refused" in message

"""Weights come through huggingface_hub's own client and cache, from a small hub on loopback that misbehaves."""

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
    trickle,
    trickling_headers,
)

CONTENT = random.Random(3).randbytes(300_000)
WRONG = CONTENT[:-1] + b"?"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "model.safetensors"
BLOCK = 10 * 2**20  # bytes that huggingface_hub writes at once, and resumes after
LARGE = CONTENT * (BLOCK // len(CONTENT) + 2)


@pytest.fixture
def hub(hub_server: Server, request: pytest.FixtureRequest) -> Hub:
    """A repository of its own for each test."""
    return Hub(hub_server, f"tiny/m{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}")


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "weights" / NAME


def blobs(client: HubClient, hub: Hub) -> list[Path]:
    """What the shared cache holds of a repository."""
    folder = client.cache / "hub" / f"models--{hub.repository.replace('/', '--')}" / "blobs"
    return sorted(folder.iterdir()) if folder.exists() else []


def gets(hub: Hub) -> int:
    return len(hub.server.asked(hub.path(NAME)))


def sent(hub: Hub) -> int:
    return hub.server.sent(hub.path(NAME))


def test_weights_are_downloaded_once_for_all_checkouts_and_stored_once(hub, hub_client, tmp_path):
    place = hub.add(NAME, CONTENT)
    for checkout in ("first", "second"):
        destination = tmp_path / checkout / NAME
        assert hub_client.fetch([place], destination, SHA256) is None
        assert destination.read_bytes() == CONTENT
        assert list(destination.parent.iterdir()) == [destination]
        assert destination.samefile(blobs(hub_client, hub)[0])
    assert gets(hub) == 1
    assert sent(hub) == len(CONTENT)


def test_a_link_to_the_cache_is_as_young_as_a_downloaded_file(hub, hub_client, tmp_path):
    place = hub.add(NAME, CONTENT)
    hub_client.fetch([place], tmp_path / "first", SHA256)
    os.utime(blobs(hub_client, hub)[0], (0, 0))
    hub_client.fetch([place], tmp_path / "second", SHA256)
    assert (tmp_path / "second").stat().st_mtime > 0


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second disk, such as /dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder)


def test_a_cache_on_another_disk_is_linked_to_symbolically(hub, other_disk, destination):
    place = hub.add(NAME, CONTENT)
    with HubClient(hub.server.address, other_disk / "cache", NO_PROXY="*") as client:
        assert client.fetch([place], destination, SHA256) is None
        assert destination.is_symlink()
        assert destination.resolve() == blobs(client, hub)[0]
    assert destination.read_bytes() == CONTENT


def test_where_no_link_can_be_made_the_file_is_copied(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "symlink", refuse)
    (tmp_path / "cached").write_bytes(CONTENT)
    hub_module.link_or_copy(tmp_path / "cached", tmp_path / "copy")
    (tmp_path / "cached").unlink()
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_offline_the_cache_is_enough_and_an_empty_one_is_explained(hub, tmp_path, destination):
    place, absent = hub.add(NAME, CONTENT), hub.add("other", b"other")
    with HubClient(hub.server.address, tmp_path / "cache", NO_PROXY="*") as client:
        client.fetch([place], tmp_path / "elsewhere", SHA256)
    asked = len(hub.server.requests)
    with HubClient(hub.server.address, tmp_path / "cache", HF_HUB_OFFLINE="1") as client:
        assert client.fetch([place], destination, SHA256) is None
        assert destination.read_bytes() == CONTENT
        assert "not in the cache, and HF_HUB_OFFLINE forbids" in client.fetch([absent], tmp_path / "other", None)
    assert len(hub.server.requests) == asked


def test_a_token_is_sent_and_never_shown(hub, tmp_path):
    hub.add(NAME, CONTENT, get=in_turn(status(500), status(403)))
    with HubClient(hub.server.address, tmp_path / "cache", NO_PROXY="*", HF_TOKEN="hf_hush") as client:
        message = client.fetch([hub.place(NAME)], tmp_path / "file", SHA256)
        assert "HTTP 403" in message
        assert "hush" not in message + client.log.read_text()
    assert hub.server.asked(hub.path(NAME))[0].headers["authorization"] == "Bearer hf_hush"


def test_the_key_of_a_signed_address_is_never_shown_and_the_token_not_sent_there(hub, server, tmp_path):
    signed = server.serve("/blob", in_turn(cut(CONTENT, 1000), good(CONTENT))) + "?signature=hush"

    def elsewhere(handler):
        handler.head(302, 0, Location=signed, X_Repo_Commit=COMMIT, X_Linked_Etag=f'"{SHA256}"')

    place = hub.add(NAME, CONTENT, head=elsewhere)
    with HubClient(hub.server.address, tmp_path / "cache", NO_PROXY="*", HF_TOKEN="hf_hush") as client:
        assert client.fetch([place], tmp_path / "file", SHA256) is None
        assert "hush" not in client.log.read_text()
    assert [request.path for request in server.requests] == ["/blob?signature=hush"] * 2
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("method", ["head", "get"])
def test_500_is_asked_again(hub, hub_client, destination, method):
    place = hub.add(NAME, CONTENT)
    well = hub.server.behaviours[hub.path(NAME)]
    hub.add(NAME, CONTENT, **{method: in_turn(status(500), well)})
    assert hub_client.fetch([place], destination, SHA256) is None
    assert destination.read_bytes() == CONTENT
    assert gets(hub) == (2 if method == "get" else 1)


def test_500_for_ever_ends_after_three_attempts(hub, hub_client, destination):
    place = hub.add(NAME, CONTENT, head=status(500))
    assert "HTTP 500 (Internal Server Error) (3 attempts)" in hub_client.fetch([place], destination, SHA256)
    assert len(hub.server.asked(hub.path(NAME), "HEAD")) == 3


@pytest.mark.parametrize(
    "broken",
    [cut(LARGE, BLOCK + 1000), cut(LARGE, BLOCK + 1000, reset=True), stall(LARGE, BLOCK + 1000, 0.02)],
    ids=["closed", "reset", "too slow"],
)
def test_a_connection_that_breaks_is_resumed(hub, hub_client, destination, broken):
    place = hub.add(NAME, LARGE, get=in_turn(broken, good(LARGE)))
    digest = hashlib.sha256(LARGE).hexdigest()
    assert hub_client.fetch([place], destination, digest, timeout=1.0, min_rate=1000) is None
    assert destination.read_bytes() == LARGE
    ranges = [request.headers.get("range") for request in hub.server.asked(hub.path(NAME))]
    assert ranges == [None, f"bytes={BLOCK}-"]


def test_a_server_that_cuts_every_time_and_cannot_resume_is_given_up(hub, hub_client, destination):
    place = hub.add(NAME, LARGE, get=cut(LARGE, BLOCK + 1000, ranges=False))
    message = hub_client.fetch([place], destination, hashlib.sha256(LARGE).hexdigest())
    assert "the connection is cut again and again" in message
    assert sent(hub) < 4 * len(LARGE)
    assert blobs(hub_client, hub) == []


def test_a_body_that_is_always_too_short_ends(hub, hub_client, destination):
    place = hub.add(NAME, CONTENT, get=cut(CONTENT, 1000, ranges=False))
    assert "the connection was cut (3 attempts)" in hub_client.fetch([place], destination, SHA256)
    assert not destination.exists()
    assert gets(hub) == 3
    assert blobs(hub_client, hub) == []


def test_wrong_bytes_are_refused_and_leave_the_shared_cache(hub, hub_client, destination, tmp_path):
    place = hub.add(NAME, CONTENT, get=good(WRONG))
    message = hub_client.fetch([place], destination, SHA256)
    assert f"its sha256 is {hashlib.sha256(WRONG).hexdigest()}, not {SHA256[:12]}…" in message
    assert not destination.exists()
    assert gets(hub) == 1
    assert blobs(hub_client, hub) == []
    (tmp_path / "copy").write_bytes(CONTENT)
    assert hub_client.fetch([place, str(tmp_path / "copy")], destination, SHA256) is None
    assert destination.read_bytes() == CONTENT


def test_a_file_announced_with_another_hash_is_not_even_downloaded(hub, hub_client, destination):
    place = hub.add(NAME, WRONG)
    message = hub_client.fetch([place], destination, SHA256)
    assert f"its sha256 is {hashlib.sha256(WRONG).hexdigest()}, not {SHA256[:12]}…" in message
    assert gets(hub) == 0


def test_another_file_in_the_cache_stays_there(hub, hub_client, destination, tmp_path):
    place = hub.add(NAME, WRONG)
    assert hub_client.fetch([place], tmp_path / "other", None) is None
    assert "its sha256 is" in hub_client.fetch([place], destination, SHA256)
    assert gets(hub) == 1
    assert [blob.read_bytes() for blob in blobs(hub_client, hub)] == [WRONG]


def test_a_file_damaged_in_the_cache_is_downloaded_anew(hub, hub_client, destination, tmp_path):
    place = hub.add(NAME, CONTENT)
    hub_client.fetch([place], tmp_path / "first", SHA256)
    blobs(hub_client, hub)[0].write_bytes(WRONG)
    assert hub_client.fetch([place], destination, SHA256) is None
    assert destination.read_bytes() == CONTENT
    assert gets(hub) == 2


def test_an_html_page_in_place_of_the_hub_is_called_so(hub, hub_client, destination):
    place = hub.add(NAME, CONTENT, head=page(), get=page())
    assert "what answers is no Hugging Face hub" in hub_client.fetch([place], destination, SHA256)
    assert gets(hub) == 0


def test_an_html_page_in_place_of_the_file_does_not_stay(hub, hub_client, destination):
    place = hub.add(NAME, CONTENT, get=page())
    assert hub_client.fetch([place], destination, SHA256) is not None
    assert not destination.exists()
    assert blobs(hub_client, hub) == []


def test_a_redirect_loop_ends(hub, hub_client, destination):
    place = hub.add(NAME, CONTENT, head=redirect(hub.path(NAME)))
    assert "redirects in a loop" in hub_client.fetch([place], destination, SHA256)
    assert len(hub.server.asked(hub.path(NAME), "HEAD")) == 20


def test_a_redirect_to_plain_http_elsewhere_is_refused(hub, hub_client, destination):
    place = hub.add(NAME, CONTENT, get=redirect("http://example.org/file"))
    assert "plain http is refused" in hub_client.fetch([place], destination, SHA256)


def test_a_redirect_from_https_to_http_is_refused(server, tmp_path, destination, certificate):
    with Server().with_tls(certificate) as secure:
        hub = Hub(secure)
        place = hub.add(NAME, CONTENT, get=redirect(server.serve("/file", good(CONTENT))))
        with HubClient(secure.address, tmp_path / "cache", NO_PROXY="*", SSL_CERT_FILE=str(certificate)) as client:
            assert "redirects from https to plain http" in client.fetch([place], destination, SHA256)
    assert server.requests == []


def test_a_byte_now_and_then_is_given_up(hub, hub_client, destination):
    place = hub.add(NAME, CONTENT, get=trickle(CONTENT, 0.02))
    message = hub_client.fetch([place], destination, SHA256, attempts=2, timeout=0.3, min_rate=1000)
    assert "too slow" in message
    assert gets(hub) == 2
    assert not destination.exists()


def test_headers_that_trickle_are_given_up(hub, hub_client, destination):
    place = hub.add(NAME, CONTENT, head=trickling_headers(0.05))
    message = hub_client.fetch([place], destination, SHA256, attempts=1, timeout=0.2)
    assert "no answer for 0.2 s" in message


def test_no_server_at_all_is_called_so(tmp_path, destination):
    with Server() as gone:
        address = gone.address
    with HubClient(address, tmp_path / "cache", NO_PROXY="*") as client:
        message = client.fetch([f"hf://tiny/model@{COMMIT}/{NAME}"], destination, SHA256)
    assert "no connection (Connection refused) (3 attempts)" in message


def test_what_the_repository_lacks_is_asked_for_once(hub, hub_client, destination):
    hub.lacks(NAME)
    assert "the repository has no such file" in hub_client.fetch([hub.place(NAME)], destination, SHA256)
    assert len(hub.server.asked(hub.path(NAME), "HEAD")) == 1


def test_a_hub_over_plain_http_elsewhere_is_refused(tmp_path, destination):
    with HubClient("http://hub.example.org", tmp_path / "cache") as client:
        message = client.fetch([f"hf://tiny/model@{COMMIT}/{NAME}"], destination, SHA256)
    assert "plain http is refused" in message


def test_weights_come_over_the_watched_connection_although_the_hub_offers_xet(hub, hub_client, destination):
    etag = f'"{SHA256}"'
    offered = {"X_Xet_Hash": SHA256, "X_Xet_Refresh_Route": f"{hub.server.address}/xet-token", "ETag": etag}
    headers = offered | {"X_Repo_Commit": COMMIT, "X_Linked_Etag": etag, "X_Linked_Size": str(len(CONTENT))}
    place = hub.add(NAME, CONTENT, head=good(CONTENT, **headers))
    assert hub_client.fetch([place], destination, SHA256) is None
    assert destination.read_bytes() == CONTENT
    assert gets(hub) == 1 and sent(hub) == len(CONTENT)
    assert hub.server.asked("/xet-token") == []

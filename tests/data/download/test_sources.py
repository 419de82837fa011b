"""Files are fetched from the first source that has them and verified, from a server that misbehaves."""

import hashlib
import os
import pty
import random
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.common.hashing import sha256_of
from gpt2_ablations.data.download import fetch as fetch_module
from gpt2_ablations.data.download import hub as hub_module
from gpt2_ablations.data.download import web
from gpt2_ablations.data.download.fetch import fetch_file, fetch_tokenizer
from gpt2_ablations.data.download.sources import SourceError, check_address, is_local, local_path, printable_source
from tests.data.download.hub_client import SOURCE_FOLDER
from tests.data.download.misbehaving_server import (
    Server,
    chunked,
    chunked_and_cut,
    cut,
    good,
    in_turn,
    page,
    redirect,
    status,
)

CONTENT = random.Random(1).randbytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "weights" / "model.bin"


@pytest.fixture
def fetch(destination: Path) -> Callable[..., None]:
    """A function that fetches CONTENT."""

    def call(*sources: str, sha256: str | None = SHA256, **settings: str) -> None:
        fetch_file(list(sources), destination, sha256, "weights.sources", **settings)

    return call


def refusal(fetch: Callable[..., None], *sources: str, **settings: object) -> str:
    """The one-line error of a fetch that must fail."""
    with pytest.raises(InputError) as raised:
        fetch(*sources, **settings)
    message = str(raised.value)
    assert "\n" not in message
    return message


def assert_only(destination: Path) -> None:
    """The folder holds the file, and no partial file or lock."""
    assert destination.read_bytes() == CONTENT
    assert list(destination.parent.iterdir()) == [destination]


def assert_nothing(destination: Path) -> None:
    """The folder holds neither the file nor another file with a final name."""
    assert [path.name for path in destination.parent.iterdir() if not path.name.startswith(".")] == []


def test_a_file_is_downloaded_once_and_no_other_file_remains(server, fetch, destination):
    address = server.serve("/file", good(CONTENT))
    fetch(address)
    fetch(address)
    assert_only(destination)
    assert len(server.requests) == 1
    assert server.sent("/file") == len(CONTENT)


def test_a_correct_file_is_kept_even_if_its_folder_cannot_be_locked_or_written(server, fetch, destination):
    destination.parent.mkdir()
    destination.write_bytes(CONTENT)
    destination.with_name(f".{destination.name}.lock").mkdir()
    fetch(server.address + "/nothing")
    assert server.requests == []


def test_a_wrong_file_is_replaced(server, fetch, destination):
    destination.parent.mkdir()
    destination.write_bytes(CONTENT[:-1] + b"?")
    fetch(server.serve("/file", good(CONTENT)))
    assert_only(destination)


def test_an_unchecked_file_is_fetched_again_and_the_old_one_is_kept_if_that_fails(server, fetch, destination):
    destination.parent.mkdir()
    destination.write_bytes(b"old")
    refusal(fetch, server.address + "/nothing", sha256=None)
    assert destination.read_bytes() == b"old"
    fetch(server.serve("/file", good(CONTENT)), sha256=None)
    assert_only(destination)


def test_404_is_not_retried_and_the_next_source_is_tried(server, fetch, destination, capfd):
    fetch(server.address + "/nothing", server.serve("/file", good(CONTENT)))
    assert_only(destination)
    assert len(server.asked("/nothing")) == 1
    assert "/nothing: HTTP 404 (Not Found); trying the next source" in capfd.readouterr().err


def test_500_is_retried(server, fetch, destination):
    fetch(server.serve("/file", in_turn(status(500), good(CONTENT))))
    assert_only(destination)
    assert len(server.requests) == 2


def test_a_repeated_500_is_given_up_with_growing_pauses(server, fetch, destination, monkeypatch):
    monkeypatch.setattr(web, "BACKOFF", 0.1)
    address, start = server.serve("/file", status(500)), time.monotonic()
    assert "HTTP 500 (Internal Server Error)" in refusal(fetch, address)
    assert 0.2 + 0.4 <= time.monotonic() - start < 3
    assert len(server.requests) == web.ATTEMPTS
    assert_nothing(destination)


def test_retry_after_of_a_busy_server_is_obeyed(server, fetch):
    address, start = server.serve("/file", in_turn(status(503, Retry_After="1"), good(CONTENT))), time.monotonic()
    fetch(address)
    assert time.monotonic() - start >= 1


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_cut_download_starts_again(server, fetch, destination, reset):
    fetch(server.serve("/file", in_turn(cut(CONTENT, 70_000, reset=reset), good(CONTENT))))
    assert_only(destination)
    assert len(server.requests) == 2


def test_a_body_shorter_than_announced_is_refused(server, fetch, destination):
    address = server.serve("/file", cut(CONTENT[:50_000], 40_000))
    assert "the download failed (IncompleteRead)" in refusal(fetch, address, sha256=None)
    assert len(server.requests) == web.ATTEMPTS
    assert_nothing(destination)


def test_a_body_of_unannounced_length_is_accepted_if_it_is_complete(server, fetch, destination):
    fetch(server.serve("/file", in_turn(chunked_and_cut(CONTENT), chunked(CONTENT))))
    assert_only(destination)
    assert len(server.requests) == 2


def test_wrong_bytes_of_the_right_length_are_refused_and_not_retried(server, fetch, destination):
    wrong = server.serve("/wrong", good(CONTENT[:-1] + b"?"))
    found = hashlib.sha256(CONTENT[:-1] + b"?").hexdigest()
    assert f"its sha256 is {found}, not {SHA256[:12]}…" in refusal(fetch, wrong)
    assert_nothing(destination)
    assert len(server.requests) == 1
    fetch(wrong, server.serve("/file", good(CONTENT)))
    assert_only(destination)


@pytest.mark.parametrize("sha256", [SHA256, None], ids=["checked", "unchecked"])
def test_an_html_page_in_place_of_the_file_is_named(server, fetch, destination, sha256):
    assert "an HTML page in place of the file" in refusal(fetch, server.serve("/file", page()), sha256=sha256)
    assert_nothing(destination)


def test_an_empty_file_is_refused(server, fetch, destination):
    assert "an empty file" in refusal(fetch, server.serve("/file", good(b"")), sha256=None)
    assert_nothing(destination)


def test_redirects_are_followed(server, fetch, destination):
    server.serve("/there", good(CONTENT))
    server.serve("/folder/on", redirect("../there"))
    fetch(server.serve("/here", redirect("/folder/on")))
    assert_only(destination)


def test_a_redirect_loop_is_given_up(server, fetch):
    assert "the download failed (TooManyRedirects)" in refusal(fetch, server.serve("/loop", redirect("/loop")))
    assert len(server.requests) == 31


@pytest.mark.parametrize("headers", [True, False])
def test_a_silent_server_is_given_up(server, fetch, monkeypatch, headers):
    monkeypatch.setattr(web, "TIMEOUT", 0.2)

    def silent(handler):
        if headers:
            handler.head(200, len(CONTENT))
        time.sleep(1)

    assert "the download failed (TimeoutError)" in refusal(fetch, server.serve("/file", silent))
    assert len(server.requests) == (1 if headers else web.ATTEMPTS)


def test_an_unreachable_server_is_named(fetch, destination):
    with Server() as gone:
        address = gone.address
    assert "the download failed (Connection refused)" in refusal(fetch, f"{address}/file")
    assert_nothing(destination)


def test_one_line_lists_all_failed_sources_and_a_file_can_be_supplied_by_hand(server, fetch, destination, tmp_path):
    sources = [f"{server.address}/nothing", server.serve("/page", page()), str(tmp_path / "absent"), "ftp://host/file"]
    message = refusal(fetch, *sources)
    assert message.startswith(f"weights.sources: could not download model.bin with sha256 {SHA256} from any source (")
    for reason in ("HTTP 404", "an HTML page", "no such file", "ftp:// is not supported"):
        assert reason in message
    assert message.endswith("Download it yourself and list its path first in weights.sources")
    (tmp_path / "copy").write_bytes(CONTENT)
    fetch(str(tmp_path / "copy"), *sources)
    assert_only(destination)


@pytest.mark.parametrize("form", ["absolute", "relative", "file"])
def test_a_local_file_is_copied(fetch, destination, tmp_path, monkeypatch, form):
    original = tmp_path / "a copy#1%.bin"
    original.write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    fetch({"absolute": str(original), "relative": original.name, "file": original.as_uri()}[form])
    assert_only(destination)
    original.write_bytes(b"edited later")
    assert_only(destination)


def test_the_error_for_a_local_file_with_another_sha256_says_how_to_use_it(fetch, destination, tmp_path):
    (tmp_path / "own").write_bytes(b"my own data")
    message = refusal(fetch, str(tmp_path / "own"), sha_setting="dataset.sha256")
    assert "set dataset.sha256: null for your own data" in message
    assert_nothing(destination)
    fetch(str(tmp_path / "own"), sha256=None)
    assert destination.read_bytes() == b"my own data"


def test_a_source_at_the_destination_is_not_removed(fetch, destination):
    destination.parent.mkdir()
    destination.write_bytes(b"my own data")
    refusal(fetch, str(destination))
    assert destination.read_bytes() == b"my own data"
    fetch(str(destination), sha256=None)
    assert destination.read_bytes() == b"my own data"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (".", "a folder, not a file"),
        ("file://elsewhere/file", "file:// takes an absolute path of this machine"),
        ("https://", "the address names no host"),
        ("https://[::1", "not a valid address"),
        ("https://host:port/file", "not a valid address"),
        ("~nobody-of-that-name/file", "not a valid path"),
        ("x" * 5000, "cannot be read (File name too long)"),
        ("s3://bucket/file", "s3:// is not supported; use https://, hf://, file:// or a path"),
        ("http://example.org/file", "plain http is refused; use https, or allow the host with"),
        ("hf://repository-without-revision/file", "not of the form hf://org/repo@REVISION/path/in/repo"),
        ("hf://org/repo@main/../../file", "would leave the repository"),
    ],
)
def test_an_invalid_source_is_reported(fetch, source, reason):
    assert reason in refusal(fetch, source)


@given(
    st.text(min_size=1),
    st.sampled_from(["{}", "file://{}", "http://{}", "http://127.0.0.1:1/{}", "hf://{}", "hf://o/r@m/{}"]),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_as_a_source_gives_one_line(tmp_path, monkeypatch, text, form):
    monkeypatch.setattr(hub_module.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError) as raised:
        source = form.format(text)
        fetch_file([source], tmp_path / "file", SHA256, "weights.sources")
    assert str(raised.value).isprintable()


def test_plain_http_is_accepted_for_this_machine_and_for_allowed_hosts(monkeypatch):
    for address in ("http://localhost/", "http://127.8.9.1:80/", "http://[::1]/", "https://example.org/"):
        check_address(address)
    monkeypatch.setenv("GPT2_ABLATIONS_ALLOW_HTTP", "mirror.lan, 10.0.0.5")
    check_address("http://mirror.lan/file")
    check_address("http://10.0.0.5/file")
    for address in ("http://mirror.lan.evil.org/", "http://127.0.0.1.evil.org/", "http://localhost@evil.org/"):
        with pytest.raises(SourceError, match="plain http is refused"):
            check_address(address)


def test_a_redirect_to_a_host_that_is_not_allowed_is_refused(server, fetch):
    assert "plain http is refused" in refusal(fetch, server.serve("/out", redirect("http://example.org/file")))
    assert "file:// is not supported" in refusal(fetch, server.serve("/in", redirect("file:///etc/passwd")))


def test_a_redirect_from_https_to_http_is_refused(server, fetch, destination, certificate, monkeypatch):
    with Server().with_tls(certificate) as secure:
        address = secure.serve("/file", good(CONTENT))
        assert "its certificate is not trusted" in refusal(fetch, address)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        downgrade = secure.serve("/down", redirect(server.serve("/file", good(CONTENT))))
        assert "redirects from https to plain http" in refusal(fetch, downgrade)
        assert server.requests == []
        fetch(address)
    assert_only(destination)


def test_no_secret_of_an_address_is_printed(server, fetch, capfd):
    host = server.address.removeprefix("http://")
    server.serve("/file", status(500))
    message = refusal(fetch, f"http://user:hush@{host}/file?token=hush", "http://127.0.0.1:1/file?token=hush")
    assert "hush" not in message + capfd.readouterr().err
    assert f"http://{host}/file?…" in message
    assert server.requests[0].headers["authorization"].startswith("Basic ")
    assert server.requests[0].path == "/file?token=hush"


@given(
    st.text(st.characters(exclude_characters="/?#\\")),
    st.sampled_from(["https://{}@host/file", "https://u:{}@host", "http://host/?key={}"]),
)
def test_an_address_is_printed_on_one_line_without_user_and_query(secret, address):
    text = printable_source(address.format(f"SECRET{secret}"))
    assert "SECRET" not in text
    assert text.isprintable()


def test_a_destination_that_cannot_be_written_is_an_input_error(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written \\(File exists\\)"):
        fetch_file([server.serve("/file", good(CONTENT))], tmp_path / "file" / "model.bin", SHA256, "weights.sources")
    assert server.requests == []


def test_processes_that_need_the_same_file_download_it_once(server, fetch, destination):
    def late(handler):
        time.sleep(0.3)
        good(CONTENT)(handler)

    address = server.serve("/file", late)
    threads = [threading.Thread(target=fetch, args=(address,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_only(destination)
    assert len(server.requests) == 1


def run_script(script: str, *arguments: str, **settings) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE_FOLDER)}
    return subprocess.run([sys.executable, "-c", script, *arguments], check=True, env=environment, **settings)


def test_a_local_file_needs_no_download_library(destination, tmp_path):
    (tmp_path / "messages").write_bytes(b"ham\thello\n")
    script = (
        "import sys; from pathlib import Path; from gpt2_ablations.data.download import fetch_messages;"
        "fetch_messages([sys.argv[1]], Path(sys.argv[2]), None);"
        "print({'requests', 'huggingface_hub', 'torch'} & set(sys.modules))"
    )
    done = run_script(script, str(tmp_path / "messages"), str(destination), stdout=subprocess.PIPE, text=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_bar_is_shown_on_terminals_only(server, destination, terminal):
    script = (
        "import sys; from pathlib import Path; from gpt2_ablations.data.download.fetch import fetch_file;"
        "fetch_file([sys.argv[1]], Path(sys.argv[2]), None, 'weights.sources')"
    )
    reader, writer = pty.openpty() if terminal else os.pipe()
    if terminal:
        termios.tcsetwinsize(writer, (25, 80))
    run_script(script, server.serve("/big.bin", good(CONTENT)), str(destination), stderr=writer)
    os.write(writer, b"end")
    shown_text = os.read(reader, 65536)
    assert (b"big.bin: 100%" in shown_text) == terminal
    assert terminal or shown_text == b"end"


def test_local_sources_are_distinguished_from_addresses(tmp_path):
    assert [is_local(source) for source in ("data/x", "/x", "file:///x", "FILE:///x")] == [True] * 4
    assert [is_local(source) for source in ("https://host/x", "hf://org/repo@main/x", "ftp://x")] == [False] * 3
    assert local_path("data/x") == Path("data/x")
    assert local_path("file:///a%20b") == Path("/a b")


def test_the_sha256_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    assert sha256_of(tmp_path / "file") == SHA256


BPE, ENCODER = b"#version: 0.2\na b\n", b'{"a": 0}'


@pytest.fixture
def tokenizer_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the two files of the GPT-2 BPE with small ones."""
    names = [("vocab.bpe", "merges.txt", BPE), ("encoder.json", "vocab.json", ENCODER)]
    files = [(name, other, hashlib.sha256(content).hexdigest()) for name, other, content in names]
    monkeypatch.setattr(fetch_module, "TOKENIZER_FILES", files)


@pytest.mark.parametrize("names", [("vocab.bpe", "encoder.json"), ("merges.txt", "vocab.json")])
@pytest.mark.parametrize("kind", ["address", "address with a query", "folder"])
def test_the_tokenizer_is_found_under_both_pairs_of_names(server, tmp_path, tokenizer_files, names, kind):
    folder = tmp_path / "source"
    folder.mkdir()
    for name, content in zip(names, (BPE, ENCODER), strict=True):
        (folder / name).write_bytes(content)
        server.serve(f"/main/{name}", good(content))
    source = {
        "address": f"{server.address}/main/",
        "address with a query": f"{server.address}/main?token=1",
        "folder": str(folder),
    }[kind]
    fetch_tokenizer([source], tmp_path / "tokenizer")
    assert (tmp_path / "tokenizer" / "vocab.bpe").read_bytes() == BPE
    assert (tmp_path / "tokenizer" / "encoder.json").read_bytes() == ENCODER
    asked = len(server.requests)
    fetch_tokenizer([source], tmp_path / "tokenizer")
    assert len(server.requests) == asked


def test_the_error_for_a_missing_tokenizer_lists_all_reasons(server, tmp_path, tokenizer_files):
    (tmp_path / "vocab.bpe").write_bytes(b"another vocabulary")
    with pytest.raises(InputError) as raised:
        fetch_tokenizer([f"{server.address}/main", str(tmp_path)], tmp_path / "tokenizer")
    message = str(raised.value)
    for name in ("vocab.bpe", "merges.txt"):
        assert f"{server.address}/main/{name}: HTTP 404 (Not Found);" in message
    assert f"{tmp_path}/vocab.bpe: its sha256 is" in message
    assert message.endswith(
        "Download vocab.bpe and encoder.json yourself and list their folder first in tokenizer.sources"
    )
    assert "\n" not in message

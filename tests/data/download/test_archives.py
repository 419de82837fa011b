"""The messages file is read bare or from a zip, and an unsafe or damaged zip is refused."""

import hashlib
import io
import random
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.data.download import archives
from gpt2_ablations.data.download.archives import read_messages
from gpt2_ablations.data.download.fetch import fetch_messages
from gpt2_ablations.data.download.sources import SourceError
from tests.data.download.misbehaving_server import cut, good, in_turn, page

MESSAGES = "".join(f"{label}\tmessage {index} £\n" for index, label in enumerate(["ham", "spam"] * 2000)).encode()
SHA256 = hashlib.sha256(MESSAGES).hexdigest()
MEMBER = "SMSSpamCollection"


def zipped(members: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip; by default with the members of the real one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in (members or {MEMBER: MESSAGES, "readme": b"about"}).items():
            archive.writestr(name, content)
    return buffer.getvalue()


def encrypted() -> bytes:
    """A zip whose members are marked as encrypted in both headers."""
    content = bytearray(zipped())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = content.find(signature)
        while position >= 0:
            content[position + offset] |= 1
            position = content.find(signature, position + 1)
    return bytes(content)


def announcing(size: int) -> bytes:
    """A zip that announces a wrong size for its first member."""
    content = bytearray(zipped())
    entry = content.find(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", size)
    return bytes(content)


def link() -> bytes:
    """A zip in which the member is a symbolic link."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(MEMBER)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def damaged() -> bytes:
    """A zip with a wrong byte in the middle."""
    content = bytearray(zipped())
    content[len(content) // 2] ^= 255
    return bytes(content)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "results" / "messages.tsv"


def fetch(sources: list[str], destination: Path, sha256: str | None = SHA256) -> None:
    fetch_messages(sources, destination, sha256)


def refusal(*arguments: object) -> str:
    with pytest.raises(InputError) as raised:
        fetch(*arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def assert_only(destination: Path) -> None:
    assert destination.read_bytes() == MESSAGES
    assert list(destination.parent.iterdir()) == [destination]


@pytest.mark.parametrize(
    "content",
    [
        MESSAGES,
        zipped(),
        zipped({"sms+spam/SMSSpamCollection": MESSAGES, "__MACOSX/._SMSSpamCollection": b"x"}),
        zipped(compression=zipfile.ZIP_STORED),
        zipped(compression=zipfile.ZIP_LZMA),
    ],
    ids=["bare", "zip", "in a folder", "stored", "other compression"],
)
@pytest.mark.parametrize("remote", [True, False])
def test_messages_are_recognized_by_content_and_not_by_name(server, tmp_path, destination, content, remote):
    local = tmp_path / "download.bin"
    local.write_bytes(content)
    fetch([server.serve("/download.bin", good(content)) if remote else str(local)], destination)
    assert_only(destination)


def test_correct_messages_are_not_fetched_again(server, destination):
    address = server.serve("/zip", good(zipped()))
    fetch([address], destination)
    fetch([address], destination)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (zipped({MEMBER: MESSAGES, "../outside": b"x"}), "'../outside' would leave its folder"),
        (zipped({"a/../../SMSSpamCollection": MESSAGES}), "would leave its folder"),
        (zipped({"/SMSSpamCollection": MESSAGES}), "would leave its folder"),
        (zipped({"C:\\SMSSpamCollection": MESSAGES}), "would leave its folder"),
        (zipped({"..\\SMSSpamCollection": MESSAGES}), "would leave its folder"),
        (zipped({"readme": b"about"}), "the zip holds no files named SMSSpamCollection"),
        (zipped({"SMSSpamCollection/": b""}), "the zip holds no files named SMSSpamCollection"),
        (zipped({f"a/{MEMBER}": MESSAGES, f"b/{MEMBER}": b"x"}), "the zip holds 2 files named SMSSpamCollection"),
        (zipped({MEMBER: b""}), "SMSSpamCollection in the zip is empty"),
        (encrypted(), "the zip is encrypted"),
        (announcing(2**31), "has 2147483648 bytes; at most 67108864 are allowed"),
        (announcing(1000), "a damaged zip"),
        (damaged(), "a damaged zip"),
        (zipped()[:-30], "a damaged zip: its end is missing"),
        (link(), "SMSSpamCollection in the zip is a link"),
        (b"", "an empty file"),
        (b"\xef\xbb\xbf\n <HTML><body>Log in", "an HTML page in place of the file"),
    ],
)
def test_an_invalid_messages_file_is_refused_with_a_reason_even_if_unchecked(tmp_path, destination, content, reason):
    (tmp_path / "source").write_bytes(content)
    for sha256 in (SHA256, None):
        assert reason in refusal([str(tmp_path / "source")], destination, sha256)
    assert list(destination.parent.iterdir()) == []
    assert not (tmp_path / "outside").exists()


def test_a_zip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LIMIT", 100_000)
    bomb = zipped({MEMBER: bytes(10_000_000)})
    honest, lying = tmp_path / "honest", tmp_path / "lying"
    honest.write_bytes(bomb)
    content = bytearray(bomb)
    entry = content.find(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 90_000)
    lying.write_bytes(content)
    with pytest.raises(SourceError, match="at most 100000 are allowed"):
        read_messages(honest)
    with pytest.raises(SourceError, match="a damaged zip"):
        read_messages(lying)


def test_a_file_over_the_size_limit_is_refused(server, tmp_path, destination):
    giant = tmp_path / "giant"
    with giant.open("wb") as file:
        file.truncate(2**26 + 1)
    assert "larger than 67108864 bytes" in refusal([str(giant)], destination)

    def endless(handler):
        handler.head(200)
        while True:
            handler.body(bytes(2**20))

    def announced(handler):
        handler.head(200, 2**40)

    for behaviour in (endless, announced):
        path = f"/{behaviour.__name__}"
        assert "larger than 67108864 bytes" in refusal([server.serve(path, behaviour)], destination)
        assert server.sent(path) < 2**27
    assert list(destination.parent.iterdir()) == []


def test_the_sha256_is_that_of_the_file_in_the_zip(server, destination):
    other = server.serve("/other", good(zipped({MEMBER: MESSAGES + b"ham\tone more\n"})))
    message = refusal([other], destination)
    assert f"not {SHA256[:12]}…" in message
    assert "null for your own data" not in message
    fetch([other, server.serve("/good", good(zipped()))], destination)
    assert_only(destination)


def test_for_own_local_data_the_error_names_the_key_of_the_check(tmp_path, destination):
    (tmp_path / "own.txt").write_bytes(b"ham\thello\n")
    assert "set dataset.sha256: null for your own data" in refusal([str(tmp_path / "own.txt")], destination)
    fetch([str(tmp_path / "own.txt")], destination, None)
    assert destination.read_bytes() == b"ham\thello\n"


def test_messages_are_fetched_despite_an_html_page_and_a_cut_connection(server, destination):
    content = zipped()
    broken = server.serve("/zip", in_turn(cut(content, len(content) // 2), good(content)))
    fetch([server.serve("/page", page()), broken], destination)
    assert_only(destination)
    assert len(server.asked("/zip")) == 2


@given(st.integers(0, 2**32), st.integers(1, 20))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_zip_with_random_damage_gives_messages_or_a_reason(tmp_path, seed, changes):
    rng = random.Random(seed)
    content = bytearray(zipped({MEMBER: MESSAGES[:500], "readme": b"about"}, rng.choice([0, 8, 12, 14])))
    for _ in range(changes):
        content[rng.randrange(len(content))] = rng.randrange(256)
    if rng.random() < 0.3:
        del content[rng.randrange(len(content)) :]
    (tmp_path / "zip").write_bytes(content)
    try:
        assert isinstance(read_messages(tmp_path / "zip"), bytes)
    except SourceError as error:
        assert str(error).isprintable()

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
        zipped({"archive/spam.CSV": MESSAGES, "__MACOSX/archive/._spam.CSV": b"x", "readme.txt": b"about"}),
        zipped({MEMBER: MESSAGES, "other.csv": b"x"}),
    ],
    ids=["bare", "zip", "in a folder", "stored", "other compression", "the only table", "beside a table"],
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
        (zipped({"readme": b"about"}), "the zip holds neither SMSSpamCollection nor a CSV or TSV file; allowed: one "),
        (zipped({"SMSSpamCollection/": b""}), "the zip holds neither SMSSpamCollection nor a CSV or TSV file"),
        (zipped({f"a/{MEMBER}": MESSAGES, f"b/{MEMBER}": b"x"}), f"the zip holds 'a/{MEMBER}', 'b/{MEMBER}'; allowed"),
        (zipped({"a.csv": MESSAGES, "b.TSV": b"x"}), "the zip holds 'a.csv', 'b.TSV'; allowed: one SMSSpamCollection"),
        (zipped({MEMBER: b""}), "'SMSSpamCollection' in the zip is empty"),
        (encrypted(), "the zip is encrypted"),
        (announcing(1000), "a damaged zip"),
        (damaged(), "a damaged zip"),
        (zipped()[:-30], "a damaged zip: its end is missing"),
        (link(), "'SMSSpamCollection' in the zip is a link"),
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


def test_a_zip_bomb_is_refused(tmp_path):
    bomb = zipped({MEMBER: bytes(10_000_000)})
    honest, lying, announced = tmp_path / "honest", tmp_path / "lying", tmp_path / "announced"
    honest.write_bytes(bomb)
    announced.write_bytes(announcing(2**31))
    content = bytearray(bomb)
    entry = content.find(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 90_000)
    lying.write_bytes(content)
    for file in (honest, announced):
        with pytest.raises(SourceError, match="'SMSSpamCollection' is larger than 1 MiB; allow more with GPT2_ABLAT"):
            read_messages(file, 2**20)
    with pytest.raises(SourceError, match="a damaged zip"):
        read_messages(lying, 2**20)


def test_a_download_over_the_size_limit_is_refused(server, destination, monkeypatch):
    monkeypatch.setenv("GPT2_ABLATIONS_MAX_DOWNLOAD_MB", "2")

    def endless(handler):
        handler.head(200)
        while True:
            handler.body(bytes(2**20))

    def announced(handler):
        handler.head(200, 2**40)

    for behaviour in (endless, announced):
        path = f"/{behaviour.__name__}"
        line = refusal([server.serve(path, behaviour)], destination)
        assert "it is larger than 2 MiB; allow more with GPT2_ABLATIONS_MAX_DOWNLOAD_MB" in line
        assert server.sent(path) < 2**24
    assert list(destination.parent.iterdir()) == []
    monkeypatch.setenv("GPT2_ABLATIONS_MAX_DOWNLOAD_MB", "much")
    line = refusal([server.serve("/endless", endless)], destination)
    assert "GPT2_ABLATIONS_MAX_DOWNLOAD_MB is 'much'; allowed: a number of MiB from 1" in line


@pytest.mark.parametrize("zip_it", [False, True])
def test_local_messages_may_have_any_size(tmp_path, destination, monkeypatch, zip_it):
    monkeypatch.setenv("GPT2_ABLATIONS_MAX_DOWNLOAD_MB", "1")
    content = MESSAGES * 20
    assert len(content) > 2**20
    (tmp_path / "own").write_bytes(zipped({MEMBER: content}) if zip_it else content)
    fetch([str(tmp_path / "own")], destination, None)
    assert destination.read_bytes() == content


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

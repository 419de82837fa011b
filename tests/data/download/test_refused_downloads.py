"""A download that does not fit the settings is not downloaded again when they are corrected."""

import hashlib
from pathlib import Path

import pytest

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.data.download.fetch import fetch_file
from tests.data.download.misbehaving_server import good

CONTENT = b"weights of three blocks" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def refuse(_: Path) -> None:
    raise InputError("models.yaml: tiny: n_layer is 2, and the file has 3 blocks")


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "weights" / "model.safetensors"


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_download_that_is_refused_is_kept_for_the_next_try(server, destination, sha256):
    address = server.serve("/model.safetensors", good(CONTENT))
    for _ in range(2):
        with pytest.raises(InputError, match=r"n_layer is 2.*; the download is kept as .*, delete it to"):
            fetch_file([address], destination, sha256, "source", accept=refuse)
        assert not destination.exists()
    fetch_file([address], destination, sha256, "source", accept=lambda path: None)
    assert len(server.requests) == 1
    assert destination.read_bytes() == CONTENT and list(destination.parent.iterdir()) == [destination]


def test_another_address_or_another_hash_is_downloaded(server, destination):
    address = server.serve("/model.safetensors", good(b"other bytes"))
    with pytest.raises(InputError, match="the download is kept"):
        fetch_file([address], destination, None, "source", accept=refuse)
    server.serve("/model.safetensors", good(CONTENT))
    fetch_file([address], destination, SHA256, "source", accept=lambda path: None)
    assert destination.read_bytes() == CONTENT and list(destination.parent.iterdir()) == [destination]
    fetch_file([server.serve("/mirror", good(b"mirror"))], destination, None, "source", accept=lambda path: None)
    assert destination.read_bytes() == b"mirror" and len(server.requests) == 3


def test_a_local_file_that_is_refused_is_not_copied(tmp_path, destination):
    (tmp_path / "mine").write_bytes(CONTENT)
    with pytest.raises(InputError, match=r"3 blocks$"):
        fetch_file([str(tmp_path / "mine")], destination, None, "source", accept=refuse)
    assert list(destination.parent.iterdir()) == []

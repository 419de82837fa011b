"""Servers on loopback, and a process that downloads from them with huggingface_hub."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt2_ablations.data.download import web
from tests.data.download.hub_client import HubClient
from tests.data.download.misbehaving_server import Server


@pytest.fixture(autouse=True)
def _no_proxy_and_no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("GPT2_ABLATIONS_ALLOW_HTTP", raising=False)
    monkeypatch.setattr(web, "BACKOFF", 0)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with a TLS certificate for 127.0.0.1 and its key."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    path = tmp_path / "certificate.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
        f" -addext subjectAltName=IP:127.0.0.1 -keyout {path} -out {path}.only".split(),
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + Path(f"{path}.only").read_text())
    return path


@pytest.fixture(scope="module")
def hub_server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture(scope="module")
def hub_client(hub_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubClient]:
    with HubClient(hub_server.address, tmp_path_factory.mktemp("hub") / "cache", NO_PROXY="*") as client:
        yield client

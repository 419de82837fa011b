"""Environment variables of proxies and certificates with which no download can work are named, without secrets."""

from pathlib import Path

import huggingface_hub
import pytest

from gpt2_ablations.data.download import hub, web
from gpt2_ablations.data.download.check_sources import check_sources
from gpt2_ablations.data.download.sources import SourceError
from gpt2_ablations.settings.config import load_config
from gpt2_ablations.settings.models import load_models
from tests.conftest import CHECKOUT
from tests.data.download.misbehaving_server import COMMIT, Server, good

PLAIN, WEIGHTS = "https://127.0.0.1:9/file", f"hf://tiny/model@{COMMIT}/model.safetensors"
VARIABLES = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NO_PROXY", "no_proxy"]
VARIABLES += [name for scheme in ("http", "https", "all") for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")]
ALLOWED = "; allowed: http://HOST:PORT, https://HOST:PORT, socks5://HOST:PORT or socks5h://HOST:PORT"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(web, "ATTEMPTS", 1)
    huggingface_hub.close_session()  # a session keeps the proxies and certificates that it started with
    yield
    huggingface_hub.close_session()


def plain_refusal(path: Path, address: str = PLAIN) -> str:
    with pytest.raises(SourceError) as raised:
        web.download(address, path)
    return str(raised.value)


def weights_refusal() -> str:
    with pytest.raises(SourceError) as raised:
        hub.announcement(WEIGHTS, retry=False)
    return str(raised.value)


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"])
@pytest.mark.parametrize(
    "proxy", ["socks://u:hush@proxy:1080", "ftp://proxy:8", "http://proxy:99999", "u:hush@proxy:80"]
)
def test_a_proxy_that_is_none_is_named(name, proxy, monkeypatch, tmp_path):
    monkeypatch.setenv(name, proxy)
    expected = f"the environment variable {name} is '{proxy.replace('u:hush@', '')}'{ALLOWED}"
    assert plain_refusal(tmp_path / "file") == expected
    assert weights_refusal() == expected


def test_a_socks_proxy_without_its_package_says_which_to_install(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "socks5h://u:hush@127.0.0.1:9")
    assert weights_refusal() == (
        "the environment variable HTTPS_PROXY is 'socks5h://127.0.0.1:9', and a SOCKS proxy needs a package:"
        " run `pip install socksio`, or unset HTTPS_PROXY"
    )


@pytest.mark.parametrize("proxy", ["http://u:hush@127.0.0.1:9", "127.0.0.1:9"])
def test_a_proxy_that_does_not_answer_is_named(proxy, monkeypatch, tmp_path):
    monkeypatch.setenv("https_proxy", proxy)
    shown = proxy.replace("u:hush@", "")
    expected = f"the download failed (Connection refused, through the proxy https_proxy={shown})"
    assert plain_refusal(tmp_path / "file") == expected
    assert weights_refusal() == expected


def test_a_proxy_that_is_not_used_for_a_host_is_not_blamed(monkeypatch, tmp_path):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert plain_refusal(tmp_path / "file") == "the download failed (Connection refused)"


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "not certificates"])
@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_certificates_that_cannot_be_read_are_named(name, content, monkeypatch, tmp_path):
    path = tmp_path / "certificates.pem"
    if content:
        path.write_text(content)
    monkeypatch.setenv(name, str(path))
    found = weights_refusal() if name == "SSL_CERT_FILE" else plain_refusal(tmp_path / "file")
    assert found.startswith(f"the environment variable {name} is '{path}', which cannot be read as certificates (")
    assert found.endswith(f"); name a file of certificates, or unset {name}")


def test_a_certificate_that_is_not_trusted_is_named_with_the_variable_that_would_trust_it(
    certificate, monkeypatch, tmp_path
):
    with Server().with_tls(certificate) as secure:
        address = secure.serve("/file", good(b"content"))
        refusal = plain_refusal(tmp_path / "file", address)
        assert refusal.startswith("its certificate is not trusted (self-signed certificate")
        assert refusal.endswith("if your network inspects TLS, name its certificates in REQUESTS_CA_BUNDLE")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        web.download(address, tmp_path / "file")


def test_check_sources_names_the_variable_for_every_file(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks://u:hush@127.0.0.1:9")
    monkeypatch.chdir(CHECKOUT)
    config = load_config(["config/config.yaml"])
    downloads = [source for source in config.dataset.sources if source.startswith("https:")][:1]
    config = config.model_copy(update={"dataset": config.dataset.model_copy(update={"sources": downloads})})
    answers = check_sources(config, load_models(config.models))
    assert answers and {answer.text for answer in answers} == {
        f"does not answer: the environment variable ALL_PROXY is 'socks://127.0.0.1:9'{ALLOWED}"
    }

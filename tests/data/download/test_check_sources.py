"""`check-sources` reports what every configured source has, and downloads nothing."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gpt2_ablations.data.download.check_sources import SourceAnswer, check_sources, files_without_source, format_answers
from gpt2_ablations.data.download.fetch import TOKENIZER_FILES
from gpt2_ablations.settings.config import load_config
from gpt2_ablations.settings.models import ModelConfig
from tests.data.download.hub_client import SOURCE_FOLDER
from tests.data.download.misbehaving_server import COMMIT, Hub, Server, good, page, status

DEFAULTS = Path(__file__).parents[3] / "config" / "config.yaml"
MESSAGES, WEIGHTS = b"ham\thello\n", b"weights"
# huggingface_hub reads HF_ENDPOINT when it is imported, so this runs in its own process.
ASK_THE_HUB = """
import json, sys
from gpt2_ablations.data.download.check_sources import check_sources, format_answers
from gpt2_ablations.settings.config import load_config
from gpt2_ablations.settings.models import ModelConfig
models = {name: ModelConfig(**model) for name, model in json.loads(sys.argv[3]).items()}
print(format_answers(check_sources(load_config(sys.argv[1:3]), models)))
"""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """Writes a configuration file with these sources."""

    def write(dataset: list[str], tokenizer: Sequence[str] = (), checked: bool = True) -> Path:
        content = {
            "dataset": {"sources": dataset, "sha256": sha256(MESSAGES) if checked else None},
            "tokenizer": {"name": "gpt2" if tokenizer else "bytes", "sources": list(tokenizer)},
        }
        path = tmp_path / "config.yaml"
        path.write_text(json.dumps(content))
        return path

    return write


def model(source: str, content: bytes | None = WEIGHTS) -> dict:
    digest = None if content is None else sha256(content)
    return {"n_layer": 1, "n_head": 1, "n_embd": 4, "n_positions": 8, "source": source, "sha256": digest}


def ask(configuration: Path, models: dict[str, dict] | None = None) -> list[SourceAnswer]:
    parsed = {name: ModelConfig(**entry) for name, entry in (models or {}).items()}
    return check_sources(load_config([DEFAULTS, configuration]), parsed)


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    path = tmp_path / "messages.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("SMSSpamCollection", MESSAGES)
    return path


def test_local_files_are_hashed_also_in_a_zip(config, tmp_path, zipped):
    (tmp_path / "own").write_bytes(b"ham\tmine\n")
    answers = ask(config([str(zipped), str(tmp_path / "own"), str(tmp_path / "absent")]))
    first, second, third = format_answers(answers).splitlines()
    assert first == f"messages  {zipped}  {zipped.stat().st_size} bytes, hash agrees"
    assert second.endswith(f"9 bytes, hash differs ({sha256(b'ham' + bytes([9]) + b'mine' + bytes([10]))})")
    assert third.endswith("absent  does not answer: no such file")
    assert files_without_source(answers) == []
    assert files_without_source(answers[1:]) == ["messages"]


def test_unchecked_files_are_reported_as_unchecked(config, zipped):
    assert format_answers(ask(config([str(zipped)], checked=False))).endswith("hash unchecked")


def test_addresses_are_asked_for_the_size_and_nothing_is_downloaded(config, server: Server):
    address = server.serve("/file", good(bytes(10**8)))
    weights = server.serve("/weights", good(WEIGHTS))
    answers = ask(config([address]), {"tiny": model(weights)})
    assert format_answers(answers).splitlines() == [
        f"messages  {address}  100,000,000 bytes, hash unknown",
        f"weights of tiny  {weights}  7 bytes, hash unknown",
    ]
    assert server.sent("/file") < 10**8


def test_the_reason_of_a_failing_source_is_reported(config, server: Server):
    with Server() as gone:
        nobody = gone.address
    sources = [f"{server.address}/absent", server.serve("/page", page()), server.serve("/busy", status(503)), nobody]
    answers = ask(config([*sources, "http://example.org/file", "ftp://host/file"]))
    reasons = ["HTTP 404", "an HTML page", "HTTP 503", "Connection refused", "plain http is refused", "not supported"]
    for answer, reason in zip(answers, reasons, strict=True):
        assert answer.text.startswith("does not answer: ") and reason in answer.text
    assert files_without_source(answers) == ["messages"]


def test_the_files_of_the_tokenizer_are_asked_for_under_both_names(config, server: Server, tmp_path):
    server.serve("/main/merges.txt", good(b"1"))
    server.serve("/main/encoder.json", good(b"22"))
    answers = ask(config([str(tmp_path)], [f"{server.address}/main"]))[1:]
    assert [answer.what for answer in answers] == [name for name, _, _ in TOKENIZER_FILES]
    assert [answer.source.rpartition("/")[2] for answer in answers] == ["merges.txt", "encoder.json"]
    assert [answer.text for answer in answers] == ["1 bytes, hash unknown", "2 bytes, hash unknown"]


def ask_the_hub(endpoint: str, configuration: Path, models: dict[str, dict]) -> list[str]:
    """The answers about the models."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(configuration.parent), "PYTHONPATH": str(SOURCE_FOLDER)}
    arguments = [str(DEFAULTS), str(configuration), json.dumps(models)]
    done = subprocess.run(
        [sys.executable, "-c", ASK_THE_HUB, *arguments], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()[1:]


def test_the_hub_reports_size_and_sha256(config, server: Server, tmp_path):
    hub = Hub(server)
    models = {
        "right": model(hub.add("right", WEIGHTS)),
        "wrong": model(hub.add("wrong", b"other!!")),
        "absent": model(f"hf://tiny/model@{COMMIT}/absent"),
    }
    hub.lacks("absent")
    right, wrong, absent = ask_the_hub(server.address, config([str(tmp_path / "absent")]), models)
    assert right == f"weights of right  hf://tiny/model@{COMMIT}/right  7 bytes, hash agrees"
    assert wrong.endswith(f"7 bytes, hash differs ({sha256(b'other!!')})")
    assert absent.endswith("does not answer: the repository has no such file at this revision")
    assert server.asked(hub.path("right")) == server.asked(hub.path("wrong")) == []


def test_an_unreachable_hub_is_named(config, tmp_path):
    with Server() as gone:
        address = gone.address
    models = {"tiny": model(f"hf://tiny/model@{COMMIT}/absent")}
    (answer,) = ask_the_hub(address, config([str(tmp_path / "absent")]), models)
    assert answer.endswith("does not answer: the download failed (Connection refused)")

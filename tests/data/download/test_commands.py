"""The commands that fetch files, as a user runs them: their messages, files supplied by hand, and the console."""

import hashlib
import json
import os
import pty
import subprocess
import sys
import termios
import zipfile
from pathlib import Path

import pytest

from tests.data.download.hub_client import SOURCE_FOLDER
from tests.data.download.misbehaving_server import COMMIT, Hub, Server, good, page, status

DEFAULTS = Path(__file__).parents[3] / "config" / "config.yaml"
MESSAGES = b"ham\thello\n" * 100_000
SHA256 = hashlib.sha256(MESSAGES).hexdigest()


class Checkout:
    """A folder with a configuration, in which commands run."""

    def __init__(self, folder: Path, hub: str):
        self.folder = folder
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        self.environment = inherited | {"HF_ENDPOINT": hub, "HF_HOME": str(folder / "cache")}
        self.environment["PYTHONPATH"] = str(SOURCE_FOLDER)

    def configure(self, sources: list[str], models: dict[str, str] | None = None) -> None:
        """Write a configuration with sources of the messages, and one source for each model."""
        dimensions = {"n_layer": 1, "n_head": 1, "n_embd": 4, "n_positions": 8}
        entries = {name: dimensions | {"source": source} for name, source in (models or {}).items()}
        (self.folder / "models.yaml").write_text(json.dumps(entries))
        content = {
            "results": str(self.folder / "results"),
            "models": str(self.folder / "models.yaml"),
            "dataset": {"sources": sources, "sha256": SHA256},
            "tokenizer": {"name": "bytes", "sources": []},
        }
        (self.folder / "own.yaml").write_text(json.dumps(content))

    def command(self, *arguments: str, **settings) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "gpt2_ablations", *arguments, "--config", str(DEFAULTS), "own.yaml"]
        settings = {"capture_output": True, "text": True} | settings
        return subprocess.run(command, cwd=self.folder, env=self.environment, timeout=60, **settings)


@pytest.fixture
def checkout(tmp_path: Path, server: Server) -> Checkout:
    return Checkout(tmp_path, server.address)


def error_of(done: subprocess.CompletedProcess) -> str:
    """The one error line of a command that failed."""
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr
    return lines[0]


def test_messages_that_no_source_has_can_be_supplied_by_hand_as_the_error_says(checkout, server, tmp_path):
    sources = [server.serve("/page", page()), server.serve("/forbidden", status(403)), "absent.zip"]
    checkout.configure(sources)
    line = error_of(checkout.command("fetch_messages"))
    assert line.startswith(
        f"error: dataset.sources: could not download the dataset with sha256 {SHA256} from any source ("
    )
    reasons = ["an HTML page", "HTTP 403 (Forbidden)", "no such file"]
    for source, reason in zip(sources, reasons, strict=True):
        assert f"{source}: {reason}" in line
    assert line.endswith("Download it yourself and list its path first in dataset.sources")
    with zipfile.ZipFile(tmp_path / "by hand.zip", "w") as archive:
        archive.writestr("SMSSpamCollection", MESSAGES)
    for copy in ("by hand.zip", (tmp_path / "by hand.zip").as_uri()):
        checkout.configure([copy, *sources])
        assert checkout.command("fetch_messages").returncode == 0
        assert (tmp_path / "results" / "dataset" / "SMSSpamCollection").read_bytes() == MESSAGES
        (tmp_path / "results" / "dataset" / "SMSSpamCollection").unlink()


def test_the_error_for_missing_weights_names_their_entry_in_the_models_file(checkout, server):
    hub = Hub(server)
    hub.lacks("model.safetensors")
    checkout.configure(["absent"], {"tiny": hub.source("model.safetensors")})
    line = error_of(checkout.command("fetch_weights", "--model", "tiny"))
    assert "models.yaml: tiny: source: could not download model.safetensors from any source (" in line
    assert "the repository has no such file at this revision" in line
    assert line.endswith("models.yaml: tiny: source to its path")


def test_check_sources_prints_every_answer_and_fails_if_a_file_has_no_source(checkout, server, tmp_path):
    (tmp_path / "mine.tsv").write_bytes(MESSAGES)
    hub = Hub(server)
    sources = ["mine.tsv", server.serve("/zip", good(b"x" * 1000)), server.serve("/gone", status(404))]
    checkout.configure(sources, {"tiny": hub.add("model", b"weights")})
    done = checkout.command("check-sources")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "messages  mine.tsv  1,000,000 bytes, hash agrees",
        f"messages  {sources[1]}  1,000 bytes, hash unknown",
        f"messages  {sources[2]}  does not answer: HTTP 404 (Not Found)",
        f"weights of tiny  hf://tiny/model@{COMMIT}/model  7 bytes, hash unchecked",
    ]
    checkout.configure(sources[2:], {"tiny": hub.source("absent")})
    expected = "error: no source has messages, weights of tiny; add a source that does"
    assert error_of(checkout.command("check-sources")) == expected
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("from_hub", [True, False])
def test_a_job_with_a_log_shows_its_progress_bar_on_the_console(checkout, server, tmp_path, terminal, from_hub):
    reader, writer = pty.openpty() if terminal else os.pipe()
    if terminal:
        termios.tcsetwinsize(writer, (25, 80))
    hub = Hub(server)
    checkout.configure([server.serve("/messages.tsv", good(MESSAGES))], {"tiny": hub.add("model.bin", MESSAGES)})
    command = ["fetch_weights", "--model", "tiny"] if from_hub else ["fetch_messages"]
    checkout.command(*command, "--log", "log", capture_output=False, stderr=writer)
    os.write(writer, b"end")
    shown = os.read(reader, 65536).decode()
    assert ("100%" in shown and ("model.bin" if from_hub else "messages.tsv") in shown) == terminal
    assert "%" not in (tmp_path / "log").read_text()

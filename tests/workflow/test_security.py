"""Hostile names and secrets in invocations of Snakemake."""

import base64
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import fuzz_cases, write_yaml
from tests.workflow.conftest import make_workshop

HOSTILE = 'it\'s "$(touch owned)" `touch owned`; touch owned & \\ * ? [a] #é %s !x ~ \t'


@pytest.fixture(scope="module")
def dry(tmp_path_factory):
    """A workshop for dry runs, with a model of a hostile name."""
    return make_workshop(tmp_path_factory.mktemp("dry"))


def owned(workshop) -> list:
    return list(workshop.folder.parent.rglob("owned*"))


def test_hostile_names_of_folders_files_and_models_reach_no_shell(workshop):
    """A whole invocation with hostile names: the results folder, the sources, the paths of all files and the model."""
    odd = HOSTILE.replace("\t", "").strip()
    for name, file in (("messages", "messages.tsv"), ("weights", "tiny.safetensors"), ("rows", "rows.yaml")):
        os.rename(workshop.folder / file, workshop.folder / f"{name} {odd}")
    model = '$(touch owned) `touch owned` "it\'s" a\\b; touch owned #{x}'
    dimensions = {"n_layer": 3, "n_head": 2, "n_embd": 8, "n_positions": 64}
    write_yaml(workshop.folder / f"models {odd}", {model: dimensions | {"source": f"weights {odd}"}})
    for name, file in (("published", "published.csv"), ("comparisons", "comparisons.yaml")):
        shutil.copy(workshop.folder / "config" / file, workshop.folder / f"{name} {odd}")
    workshop.override(
        results=f"results {odd}",
        note=f"{odd}\n$(touch owned)",
        experiments=f"rows {odd}",
        models=f"models {odd}",
        published=f"published {odd}",
        comparisons=f"comparisons {odd}",
        dataset={"sources": [f"messages {odd}"], "sha256": None},
    )
    write_yaml(
        workshop.folder / f"rows {odd}",
        {"defaults": {"model_size": model, "num_epochs": 1}, "rows": {"-n": {}, "2": {"trainable_layers": "all"}}},
    )
    workshop.run("table", "compare", "interpret", "pages")
    (results,) = workshop.folder.glob("results *")
    assert len((results / "table.md").read_text().splitlines()) >= 4
    assert owned(workshop) == []


ODD_ROWS = ["a b", "a/b", "..", "$(touch owned)", "';touch owned;'", "-x", "--log", "{x}", "1"]


@settings(
    max_examples=max(4, fuzz_cases() // 40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    row=st.text(min_size=1, max_size=8)
    | st.sampled_from(["a b", "a/b", "$(touch owned)", "';touch owned;'", "-x", "--log"]),
    results=st.text(st.characters(exclude_characters="/"), min_size=1, max_size=12).map("results {}".format),
)
@example(row="--row", results=HOSTILE)
@example(row="1", results="$(touch owned)\n")
@pytest.mark.faults
def test_any_row_id_and_results_folder_is_planned_or_refused_with_one_line(dry, row, results):
    dry.rows({row: {}})
    dry.override(results=results)
    done = dry.snakemake("--dry-run", "--printshellcmds")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if not line.startswith("Config file ")]
        assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    else:
        assert f"--row={row} " in done.stdout
    assert owned(dry) == [] and not (dry.folder / results).exists()


SECRETS = ("hush-user", "hush-password", "hush-token", "hf_hush")


def assert_no_secret_in(texts: dict[str, str]) -> None:
    assert [(where, secret) for where, text in texts.items() for secret in SECRETS if secret in text] == []


def texts_in(*folders: Path) -> dict[str, str]:
    """The content of all files, and what they embed in base 64, as Snakemake's report does."""
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    texts = {str(file): file.read_bytes().decode("utf-8", errors="replace") for file in files}
    embedded = [(file, part) for file, text in texts.items() for part in re.findall(r";base64,([\w+/=]+)", text)]
    decoded = [(file, base64.b64decode(part).decode("utf-8", errors="replace")) for file, part in embedded]
    return texts | {f"{file}, part {number}": text for number, (file, text) in enumerate(decoded)}


@pytest.fixture
def address(workshop) -> Iterator[Callable[[str], str]]:
    """The address of a file of the workshop on a server, with a user, a password and a token."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(workshop.folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://hush-user:hush-password'@127.0.0.1:{server.server_port}/{{}}?token=hush-token".format
        server.shutdown()


def test_no_secret_of_an_address_is_printed_or_written_for_people(workshop, address, monkeypatch):
    """When sources fail, when all succeeds, and when a dry run prints why a job runs again. Only the owner can read the
    files from which jobs take the secrets."""
    monkeypatch.setenv("HF_TOKEN", "hf_hush")
    monkeypatch.setenv("NO_PROXY", "*")
    records = workshop.folder / ".snakemake"
    secret = "http://hush-user:hush-password@127.0.0.1:1/{}?token=hush-token"
    workshop.override(dataset={"sources": [secret.format("messages")], "sha256": None})
    models = {"n_layer": 3, "n_head": 2, "n_embd": 8, "n_positions": 64, "source": secret.format("weights")}
    write_yaml(workshop.folder / "models.yaml", {"tiny": models})
    failed = workshop.snakemake("--keep-going", "--printshellcmds", "--verbose")
    assert failed.returncode != 0
    errors = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and all("127.0.0.1:1/" in line and "Connection refused" in line for line in errors), errors
    assert_no_secret_in({"out": failed.stdout, "err": failed.stderr} | texts_in(workshop.results / "logs", records))
    # A whole invocation, with secrets under every key that takes an address or a text.
    workshop.override(
        dataset={"sources": [secret.format("gone"), address("messages.tsv")], "sha256": None},
        tokenizer={"name": "bytes", "sources": [address("tokenizer")]},
        note=f"From {address('note')}.",
    )
    labelled = models | {"source": address("tiny.safetensors"), "label": f"tiny of {address('label')}"}
    write_yaml(workshop.folder / "models.yaml", {"tiny": labelled})
    workshop.rows({"1": {}})
    made = workshop.run("--printshellcmds", "--verbose")
    report = workshop.run("--report", "results/report.html")
    private = [workshop.results / "config.yaml", workshop.results / "snapshot" / "models.yaml"]
    assert [oct(file.stat().st_mode & 0o777) for file in private] == ["0o600", "0o600"]
    assert yaml.safe_load(private[0].read_text())["tokenizer"]["sources"] == [address("tokenizer")]
    written = texts_in(workshop.results, records)
    assert "of http://127.0.0.1" in written[str(workshop.results / "table.md")]
    assert any("From http://127.0.0.1" in text for file, text in written.items() if "report.html, part" in file)
    for file in private:
        del written[str(file)]
    assert_no_secret_in({"out": made.stdout, "err": made.stderr, "report": report.stderr} | written)
    # With other secrets the jobs run again, and Snakemake prints the parameter that changed.
    for sources in ([secret.format("other")], ["messages.tsv", secret.format("messages") + "2"]):
        workshop.override(dataset={"sources": sources, "sha256": None})
        dry = workshop.run("--dry-run", "--verbose")
        assert "Params have changed" in dry.stdout + dry.stderr and "fetch_messages" in dry.stdout
        assert_no_secret_in({"out": dry.stdout, "err": dry.stderr})

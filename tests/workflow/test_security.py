"""Hostile names and secrets in invocations of Snakemake."""

import os
import shutil

import pytest
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


def logs(workshop) -> dict[str, str]:
    folders = (workshop.results / "logs", workshop.folder / ".snakemake" / "log")
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert len(files) >= 2
    return {str(file): file.read_text() for file in files}


def test_no_secret_of_an_address_is_printed_or_logged(workshop, monkeypatch):
    """Neither when sources fail or change, nor in a dry run that prints why a job runs again."""
    monkeypatch.setenv("HF_TOKEN", "hf_hush")
    monkeypatch.setenv("NO_PROXY", "*")
    secret = "http://hush-user:hush-password@127.0.0.1:1/{}?token=hush-token"
    own = {"sources": ["messages.tsv"], "sha256": None}
    workshop.override(dataset={"sources": [secret.format("messages")], "sha256": None})
    models = {"n_layer": 3, "n_head": 2, "n_embd": 8, "n_positions": 64, "source": secret.format("weights")}
    write_yaml(workshop.folder / "models.yaml", {"tiny": models})
    failed = workshop.snakemake("--keep-going", "--printshellcmds", "--verbose")
    assert failed.returncode != 0
    errors = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and all("127.0.0.1:1/" in line and "Connection refused" in line for line in errors), errors
    assert_no_secret_in({"out": failed.stdout, "err": failed.stderr} | logs(workshop))
    # The files supplied by hand, as the error advises.
    workshop.override(dataset={"sources": ["messages.tsv", secret.format("messages")], "sha256": None})
    write_yaml(workshop.folder / "models.yaml", {"tiny": models | {"source": "tiny.safetensors"}})
    workshop.run("--printshellcmds", "--verbose", "row_2")
    assert_no_secret_in(logs(workshop))
    # With other secrets the jobs run again, and Snakemake prints the parameter that changed.
    for sources in ([secret.format("other")], ["messages.tsv", secret.format("messages") + "2"]):
        workshop.override(dataset={"sources": sources, "sha256": None})
        dry = workshop.run("--dry-run", "--verbose")
        assert "Params have changed" in dry.stdout + dry.stderr and "fetch_messages" in dry.stdout
        assert_no_secret_in({"out": dry.stdout, "err": dry.stderr})
    workshop.override(dataset=own)

"""Another workflow uses this one as a module, with its own rules, settings and paths."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import write_yaml
from tests.workflow import snakemake_server
from tests.workflow.conftest import not_run

SNAKEFILE = """
configfile: "study.yaml"

shell.prefix("set -euo pipefail; export STUDY={mine}; ".replace("{mine}", "mine"))

module gpt2:
    snakefile: "../it's the workflow/Snakefile"
    config: config["gpt2"]

use rule * from gpt2 as gpt2_*

rule all:
    default_target: True
    input: "summary-of-rows.txt", rules.gpt2_all.input

# These wildcards have the names of the module's, whose constraints must not apply to them.
rule summarise:
    input: rules.gpt2_table.output.data
    output: "{seed}-of-{row}.txt"
    shell: "echo $STUDY > {output:q}; head -n 1 {input:q} >> {output:q}"
"""


@pytest.fixture
def study(finished_workshop, tmp_path) -> Path:
    """A folder with another workflow, next to a copy of the checkout that it uses."""
    workshop = not_run(finished_workshop, tmp_path / "it's the workflow")
    folder = tmp_path / "study"
    folder.mkdir()
    for name in ("rows.yaml", "models.yaml", "messages.tsv", "tiny.safetensors"):
        shutil.move(workshop.folder / name, folder / name)
    (workshop.folder / "override.yaml").rename(tmp_path / "override.yaml")
    settings = yaml.safe_load((tmp_path / "override.yaml").read_text()) | {"results": "gpt2/results"}
    write_yaml(folder / "study.yaml", {"samples": ["a"], "gpt2": settings})
    (folder / "Snakefile").write_text(SNAKEFILE)
    return folder


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return snakemake_server.snakemake(("--cores", "2", *arguments), folder, timeout=900)


def change(study: Path, **settings) -> None:
    """Change settings of the module."""
    content = yaml.safe_load((study / "study.yaml").read_text())
    write_yaml(study / "study.yaml", content | {"gpt2": content["gpt2"] | settings})


def test_the_rules_of_the_module_run_in_the_other_workflow(study):
    planned = snakemake(study, "--dry-run").stdout
    assert "rule gpt2_train:" in planned and "rule gpt2_pages:" in planned
    change(study, rows=["2"])
    finished = snakemake(study, "summary-of-rows.txt")
    assert finished.returncode == 0, finished.stdout[-1000:] + finished.stderr[-3000:]
    assert "localrules directive" not in finished.stdout + finished.stderr
    header = (study / "gpt2" / "results" / "table.csv").read_text().splitlines()[0]
    assert (study / "summary-of-rows.txt").read_text().splitlines() == ["mine", header]
    metrics = json.loads((study / "gpt2" / "results" / "rows" / "2" / "seed-123" / "metrics.json").read_text())
    assert metrics["settings"]["trainable_layers"] == "all"
    assert not (study.parent / "it's the workflow" / "results").exists()
    again = snakemake(study, "--dry-run", "summary-of-rows.txt")
    assert "Nothing to be done" in again.stdout + again.stderr
    # One row, by the name that the other workflow gives to it.
    change(study, rows="all", seeds=[5])
    assert snakemake(study, "gpt2_row_2").returncode == 0
    assert (study / "gpt2" / "results" / "rows" / "2" / "seed-5" / "metrics.json").is_file()
    assert not (study / "gpt2" / "results" / "rows" / "1").exists()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"sedes": [1]}, "error: the module's config: unknown key 'sedes'; did you mean 'seeds'? allowed: "),
        ({"rows": [9]}, "error: rows names '9', not in rows.yaml; allowed: 1, 2"),
        ({"device": "gpu"}, "error: the module's config: device is 'gpu'; allowed: "),
        ({"tokenizer": {"name": "gpt3"}}, "error: the module's config: tokenizer.name is 'gpt3'; allowed: "),
    ],
)
def test_a_mistake_in_the_settings_of_the_module_gives_one_line(settings, line, study):
    change(study, **settings)
    finished = snakemake(study)
    errors = [text for text in finished.stderr.splitlines() if text.startswith("error")]
    assert finished.returncode == 1 and len(errors) == 1 and errors[0].startswith(line), finished.stderr


def test_a_prefix_is_refused_and_the_error_names_the_setting_to_use_instead(study):
    text = SNAKEFILE.replace('config: config["gpt2"]', 'config: config["gpt2"]\n    prefix: "here"')
    (study / "Snakefile").write_text(text)
    finished = snakemake(study)
    assert finished.returncode == 1
    assert "error: module: prefix is 'here/'; leave it out, and set `results` in the module's config" in finished.stderr

"""Invocations from other folders than the checkout, and with paths as people write them: Snakemake handles one form."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gpt2_ablations.cli import main
from tests.conftest import CHECKOUT
from tests.workflow import snakemake_server
from tests.workflow.conftest import Workshop


def dry_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    done = snakemake_server.snakemake(("--cores", "1", "--dry-run", *arguments), folder, timeout=300)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done


def trained(done: subprocess.CompletedProcess) -> int:
    """The number of runs that a dry run lists."""
    return int(re.search(r"^train +(\d+)$", done.stdout, flags=re.MULTILINE)[1])


@pytest.mark.parametrize("results", ["./a b//", "$HERE//y/../z/", "."])
def test_a_dry_run_with_any_spelling_of_a_path_prints_no_warning(results, workshop, tmp_path, monkeypatch):
    monkeypatch.setenv("HERE", str(tmp_path))
    workshop.override(experiments=".//rows.yaml", models="x/../models.yaml", dataset={"sources": ["./messages.tsv"]})
    given = ("--configfile", ".//override.yaml", "--config", "dataset={sha256: null}")
    done = dry_run(workshop.folder, *given, f"results={results}")
    assert trained(done) == 2
    assert "likely unintended" not in done.stderr and "discouraged" not in done.stderr


@pytest.fixture
def elsewhere(workshop, tmp_path) -> Path:
    """A folder beside a checkout, with the settings, rows, models and data of a user."""
    folder = tmp_path / "else where"
    folder.mkdir()
    for name in ("override.yaml", "rows.yaml", "models.yaml", "messages.tsv", "tiny.safetensors"):
        shutil.move(workshop.folder / name, folder / name)
    return folder


def test_the_files_of_the_checkout_are_found_from_another_folder(elsewhere, workshop):
    snakefile = ("-s", "../workshop/Snakefile")
    assert trained(dry_run(elsewhere, *snakefile, "--configfile", "override.yaml")) == 2
    # The configuration files are relative to the folder of the call, the paths in them to the working folder.
    given = ("--configfile", "else where/override.yaml")
    assert trained(dry_run(elsewhere.parent, "-s", "workshop/Snakefile", "-d", "else where", *given)) == 2
    # All rows of the checkout itself, and those of another of its files.
    assert trained(dry_run(elsewhere, *snakefile)) == 19
    assert trained(dry_run(elsewhere, *snakefile, "--configfile", "../workshop/config/demo.yaml")) == 19


def test_a_file_of_the_working_folder_comes_before_that_of_the_checkout(elsewhere):
    (elsewhere / "config").mkdir()
    (elsewhere / "config" / "experiments.yaml").write_text("rows: {mine: {}, other: {}}")
    assert trained(dry_run(elsewhere, "-s", "../workshop/Snakefile")) == 2


@pytest.mark.parametrize("command", ["check", "plan", "status"])
def test_commands_read_a_file_over_the_default_settings_from_any_folder(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([command]) == 0
    assert main([command, "--config", str(CHECKOUT / "config" / "demo.yaml")]) == 0
    printed = capsys.readouterr().out
    assert "19 rows" in printed or "19 runs" in printed


def test_check_plan_and_status_agree_with_snakemake_on_a_spelling(workshop: Workshop):
    workshop.override(results="./out//")
    for command in ("check", "plan", "status"):
        done = workshop.command(command, "--config", "override.yaml")
        assert done.returncode == 0, done.stderr
    assert "in out: " in done.stdout

"""What a newcomer types literally from the README after `make demo` stays in the demo, in miniature."""

import shlex

import pytest
import yaml

from tests.conftest import write_yaml
from tests.workflow import snakemake_server
from tests.workflow.conftest import Workshop
from tests.workflow.test_manual import DEMO, code_blocks


def dry_run(workshop: Workshop, command: str) -> str:
    program, *arguments = shlex.split(command)
    assert program == "snakemake"
    done = snakemake_server.snakemake([*arguments, "--dry-run", "--quiet", "rules"], workshop.folder, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("command", "runs"), [(DEMO[0], 1), (DEMO[1], 57)])
def test_the_demo_s_own_commands_plan_miniatures(command, runs, workshop):
    planned = dry_run(workshop, command).split()
    assert planned[planned.index("train") + 1] == str(runs)
    assert "pretrain_miniature" in planned and "generate_messages" in planned


def test_the_row_of_the_readme_is_valid_in_miniature_and_at_full_size(workshop):
    (example,) = code_blocks("README.md", "yaml")
    file = workshop.folder / "config" / "experiments.yaml"
    rows = yaml.safe_load(file.read_text())
    (name,) = yaml.safe_load(example)["rows"]
    write_yaml(file, rows | {"rows": rows["rows"] | yaml.safe_load(example)["rows"]})
    for demo in ("", " --configfile config/demo.yaml"):
        planned = dry_run(workshop, f"snakemake --cores all row_{name}{demo}").split()
        assert planned[planned.index("train") + 1] == "1"
        assert ("pretrain_miniature" in planned) == bool(demo)


def test_the_dry_run_of_the_manual_prints_what_is_left(workshop):
    printed = dry_run(workshop, "snakemake --cores 2 --configfile override.yaml")
    assert "train" in printed.split() and "total" in printed

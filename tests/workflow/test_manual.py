"""Every command that a page of the manual shows is run, here or in the test that is named for it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import CHECKOUT, write_yaml
from tests.workflow.conftest import DIMENSIONS, Workshop, make_workshop

PAGES = [
    CHECKOUT / "README.md",
    *sorted((CHECKOUT / "docs").glob("*.md")),
    CHECKOUT / "CONTRIBUTING.md",
    *(CHECKOUT / page for page in ("config/README.md", "results/README.md", "workflow/profiles/README.md")),
]
PROGRAMS = ("snakemake", "make", "gpt2-ablations", "python -m gpt2_ablations", "cat messages.txt | gpt2-ablations")

# Run below, in this order, in a folder whose configuration names small inputs.
HERE = [
    "gpt2-ablations check --config mine.yaml",
    "gpt2-ablations check-sources",
    "gpt2-ablations plan",
    "gpt2-ablations plan --row 1 8 9",
    "gpt2-ablations plan --config mine.yaml --json",
    "gpt2-ablations status",
    "snakemake --cores all -n",
    "snakemake -n",
    "snakemake --rulegraph mermaid-js",
    "make table",
    "snakemake --cores all",
    "gpt2-ablations status --watch",
    "snakemake --cores all row_11",
    "snakemake --cores all row_short",
    "gpt2-ablations train --trainable_layers lora --lora_rank 16 --lora_alpha 16",
    "gpt2-ablations train --trainable_layers last_two_blocks",
    "gpt2-ablations train",
    "snakemake --cores all row_4 --config keep_models=true",
    'gpt2-ablations predict --row 4 "You won a prize" "See you at eight"',
    "gpt2-ablations predict --row 4 --file messages.txt --format csv",
    "gpt2-ablations predict --row 4 --file messages.csv --column Text --format json",
    "cat messages.txt | gpt2-ablations predict --row 4 -",
    "gpt2-ablations export --row 4 --output spam-classifier",
    "snakemake --cores all partial",
    "snakemake --cores all readme",
    "gpt2-ablations draw-rows --row ID",
    "snakemake --report results/report.html",
    "snakemake --cores all --batch table=1/20",
    "snakemake --cores all --configfile mine.yaml",
    "snakemake --cores all --touch",
    "snakemake --cores 1 clean_features",
]
DEMO = [
    "snakemake --cores all row_11 --configfile config/demo.yaml",
    "snakemake --cores all --configfile config/demo.yaml --config 'seeds=[123,1,2]'",
    "snakemake --report results/demo/report.html --configfile config/demo.yaml",
]
SLURM, STATUS = "tests/slurm", "tests/workflow/test_plan_and_status.py"
OWN_TABLE = [
    "gpt2-ablations init reviews --data reviews.csv",
    'gpt2-ablations pretrain-miniature --model \'{"mini": {"n_layer": 2, "n_head": 2, "n_embd": 32,'
    ' "n_positions": 64, "source": "mini.safetensors"}}\' --output mini.safetensors',
    "gpt2-ablations check --config reviews/config.yaml",
    "snakemake --cores all --configfile reviews/config.yaml",
    'gpt2-ablations predict --config reviews/results/config.yaml --row lora "I loved every minute of it."',
    "gpt2-ablations export --config reviews/results/config.yaml --row lora --output my-classifier",
]
ELSEWHERE = {
    **dict.fromkeys(("make demo", "make test", "make lint", "make test-slurm"), ".ci/run"),
    **dict.fromkeys(("make setup-test", "make format"), "by hand"),
    **dict.fromkeys(DEMO[:2], "tests/workflow/test_first_steps.py"),
    DEMO[2]: "by hand; tests/workflow/test_report_page.py makes a report of other rows",
    "gpt2-ablations init": "tests/input/test_start_files.py",
    "snakemake -s CHECKOUT/Snakefile": "tests/workflow/test_other_folders.py",
    **dict.fromkeys(("make test-all", "make test-faults", "make test-oldest"), "by hand"),
    **dict.fromkeys(("make resume", "make resume CONFIG=mine.yaml TARGETS=row_11"), "tests/faults/test_kills.py"),
    "gpt2-ablations status --watch --config results/demo/config.yaml": STATUS,
    "make setup-slurm": "Makefile, test-slurm",
    **{command: "tests/workflow/test_your_own_table.py" for command in OWN_TABLE},
    "make bench": "no test: it takes half an hour and judges nothing",
    **dict.fromkeys(("make test-gpu", "make bench-gpu"), "no test: they need a GPU"),
    "snakemake --workflow-profile workflow/profiles/slurm": SLURM,
    "snakemake --workflow-profile workflow/profiles/slurm --unlock": SLURM,
    "snakemake --workflow-profile workflow/profiles/slurm --dry-run --quiet rules": SLURM,
    "snakemake --workflow-profile workflow/profiles/slurm --configfile config/demo.yaml --config device=cuda": SLURM,
    "snakemake row_1 --workflow-profile workflow/profiles/slurm --jobs 100000 --slurm-array-jobs train"
    " --set-resources train:slurm_partition=gpu train:mem_mb=8000 train:runtime=60": SLURM,
    "snakemake --workflow-profile workflow/profiles/workstation": "tests/workflow/test_profiles.py",
}


def commands(text: str) -> list[str]:
    """The commands of a page: lines after `$ ` in console blocks, and code in the text that names a program."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL):
        for line in re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, flags=re.MULTILINE):
            found += re.sub(r"\s+#.*", "", line.replace("\\\n", " ")).split(" && ")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found += re.findall(r"`([^`]+)`", prose)
    found = [" ".join(command.split()) for command in found]
    return [command for command in found if command.startswith(tuple(f"{program} " for program in PROGRAMS))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_command_of_a_page_is_run_somewhere(page):
    assert [command for command in commands(page.read_text()) if command not in {*HERE, *ELSEWHERE}] == []


def test_commands_are_found_and_none_is_run_that_no_page_shows():
    shown = {command for page in PAGES for command in commands(page.read_text())}
    assert {*HERE, *ELSEWHERE} == shown


def test_pages_link_to_files_that_exist():
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(CHECKOUT)}: {target}")
    assert broken == []


def code_blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (CHECKOUT / page).read_text(), flags=re.DOTALL)


@pytest.fixture
def manual(tmp_path) -> Workshop:
    """A checkout whose own configuration names small inputs, three rows of the table, and the README's examples."""
    workshop = make_workshop(tmp_path / "checkout")
    for file in ("README.md", "Makefile"):
        shutil.copy(CHECKOUT / file, workshop.folder)
    config = workshop.folder / "config"
    settings = yaml.safe_load((config / "config.yaml").read_text())
    small = yaml.safe_load((workshop.folder / "override.yaml").read_text())
    del small["experiments"], small["models"]
    write_yaml(config / "config.yaml", settings | small | {"rows": ["1", "2", "11"]})
    models = yaml.safe_load((config / "models.yaml").read_text())
    write_yaml(config / "models.yaml", {name: DIMENSIONS | {"source": "tiny.safetensors"} for name in models})
    (example,) = code_blocks("README.md", "yaml")
    (mine,) = code_blocks("config/README.md", "yaml")
    experiments = yaml.safe_load((config / "experiments.yaml").read_text())
    experiments["rows"] |= yaml.safe_load(example)["rows"]
    experiments["defaults"] = (experiments.get("defaults") or {}) | {"num_epochs": 1}
    write_yaml(config / "experiments.yaml", experiments)
    (workshop.folder / "mine.yaml").write_text(mine)
    shutil.copy(workshop.folder / "messages.tsv", workshop.folder / "my_messages.tsv")
    (workshop.folder / "messages.txt").write_text("win a prize\nsee you\n")
    (workshop.folder / "messages.csv").write_text("Number,Text\n1,win a prize\n2,see you\n")
    return workshop


@pytest.mark.slow
def test_the_commands_of_the_manual_work_in_this_order(manual):
    environment = Path(sys.executable).parent.parent
    own = {"PATH": f"{environment}/bin:{os.environ['PATH']}", "PYTHONPATH": str(manual.folder / "src")}
    failed = []
    for command in HERE:
        command = command.replace("--row ID", "--row 11")
        if command.startswith("make "):
            command += f" --assume-old={environment}/.installed VENV={environment}"
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=manual.folder,
            env=os.environ | own,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode:
            failed.append(f"{command}\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
    assert not failed, "\n".join(failed)

"""A workshop: a copy of this checkout with inputs of two seconds, in which Snakemake runs."""

import os
import re
import shutil
import subprocess
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from gpt2_ablations.cli import main
from gpt2_ablations.gpt2.weight_files import weight_shapes
from gpt2_ablations.settings.models import ModelConfig
from tests.conftest import CHECKOUT, write_yaml
from tests.workflow import snakemake_server

# These rules run again in seconds whenever a finished row changes.
REPORTS = {"all", "compare", "interpret", "draw", "draw_rows", "pages"}
DIMENSIONS = {"n_layer": 3, "n_head": 2, "n_embd": 8, "n_positions": 64}


@dataclass
class Workshop:
    """A folder with the workflow, a configuration and its inputs."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def snakemake(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess:
        """Run `snakemake --cores 2 ARGUMENTS --configfile override.yaml` here."""
        arguments = ("--cores", "2", *arguments, "--configfile", "override.yaml")
        return snakemake_server.snakemake(arguments, self.folder, timeout)

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        """As `snakemake`; it must succeed."""
        finished = self.snakemake(*arguments)
        assert finished.returncode == 0, finished.stdout[-1000:] + finished.stderr[-3000:]
        return finished

    def dry_run(self, *arguments: str) -> str:
        """What a dry run prints."""
        return self.run("--dry-run", *arguments).stdout

    def scheduled(self, *arguments: str) -> dict[str, int]:
        """The number of jobs of each rule that a dry run lists, without reports and targets that only collect files."""
        jobs = self._dry_run(*arguments)
        return {rule: n for rule, n in jobs.items() if rule not in REPORTS and not rule.startswith("row_")}

    def scheduled_reports(self, *arguments: str) -> set[str]:
        """The reports that a dry run lists, without the table."""
        return (self._dry_run(*arguments).keys() & REPORTS) - {"all"}

    def _dry_run(self, *arguments: str) -> dict[str, int]:
        text = self.dry_run(*arguments)
        stats = re.search(r"Job stats:\n.*?\n-+.*?\n(.*?)\ntotal", text, flags=re.DOTALL)
        jobs = dict(line.split() for line in stats.group(1).splitlines()) if stats else {}
        return {rule: int(n) for rule, n in jobs.items()}

    def command(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run a command of the program here, in this process."""
        out, err = StringIO(), StringIO()
        with chdir(self.folder), redirect_stdout(out), redirect_stderr(err):
            code = main(list(arguments))
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def reports(self, *commands: str) -> None:
        """Run commands that make reports, in this process."""
        for command in commands:
            done = self.command(command, "--config", "config/config.yaml", "override.yaml")
            assert (done.returncode, done.stderr) == (0, ""), done.stderr

    def override(self, **changes) -> None:
        """Change keys of override.yaml."""
        file = self.folder / "override.yaml"
        write_yaml(file, yaml.safe_load(file.read_text()) | changes)

    def rows(self, rows: dict) -> None:
        """Write the experiments file."""
        write_yaml(self.folder / "rows.yaml", {"defaults": {"model_size": "tiny", "num_epochs": 1}, "rows": rows})


ROWS = {"1": {}, "2": {"trainable_layers": "all"}}


def make_workshop(folder: Path) -> Workshop:
    """Copy the workflow to a folder and write small inputs: 140 messages and the weights of one tiny model."""
    for part in ("src", "workflow", "config"):
        shutil.copytree(CHECKOUT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "Snakefile", folder)
    messages = [f"ham\tsee you at {i}\nspam\twin a prize {i}" for i in range(70)]
    (folder / "messages.tsv").write_text("\n".join(messages) + "\n")
    shapes = weight_shapes(ModelConfig(**DIMENSIONS, source="-"))
    generator = torch.Generator().manual_seed(1)
    save_file(
        {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()},
        folder / "tiny.safetensors",
    )
    write_yaml(folder / "models.yaml", {"tiny": DIMENSIONS | {"source": "tiny.safetensors"}})
    write_yaml(
        folder / "override.yaml",
        {
            "experiments": "rows.yaml",
            "models": "models.yaml",
            "dataset": {"sources": ["messages.tsv"], "sha256": None},
            "tokenizer": {"name": "bytes"},
            "device": "cpu",
        },
    )
    workshop = Workshop(folder)
    workshop.rows(ROWS)
    return workshop


@pytest.fixture(scope="session")
def finished_workshop(made_once) -> Workshop:
    """A workshop with a finished table. Tests do not change it; `finished` is a copy."""
    # A folder name that breaks a shell command without quotes.
    folder = made_once("it's a $(workshop)", lambda folder: make_workshop(folder / "here & now").run())
    return Workshop(folder / "here & now")


@pytest.fixture
def finished(finished_workshop, tmp_path) -> Workshop:
    """A copy of a workshop with a finished table."""
    return copied(finished_workshop, tmp_path / "finished")


@pytest.fixture
def untrained(finished) -> Workshop:
    """A workshop in which all has run but the rows."""
    shutil.rmtree(finished.results / "rows")
    # Snakemake makes no intermediate file again of a result that exists.
    (finished.results / "table.csv").unlink()
    return finished


def copied(workshop: Workshop, folder: Path) -> Workshop:
    """A copy of a workshop, with its results."""
    shutil.copytree(workshop.folder, folder, symlinks=True)
    return Workshop(folder)


@pytest.fixture
def workshop(finished_workshop, tmp_path) -> Workshop:
    """A workshop in which nothing has run."""
    return not_run(finished_workshop, tmp_path / "workshop")


def not_run(workshop: Workshop, folder: Path) -> Workshop:
    """A copy of a workshop, without its results. Python has compiled its modules."""
    shutil.copytree(workshop.folder, folder, ignore=shutil.ignore_patterns("results", ".snakemake"))
    return Workshop(folder)


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """A machine with two pretended GPUs: a program prints the lines of nvidia-smi. Rows still run on the CPU."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    gpus = "".join(f"GPU {i}: NVIDIA A100-SXM4-40GB (UUID: GPU-{i}aaaaaaa)\\n" for i in range(2))
    program.write_text(f"#!/bin/sh\nprintf '{gpus}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    # Snakemake, but no job, finds the package of torch in the working folder: one that says that it is built for CUDA.
    for folder in filter(Path.is_dir, (tmp_path / "finished", tmp_path / "workshop")):
        (folder / "torch").mkdir()
        (folder / "torch" / "__init__.py").touch()
        (folder / "torch" / "version.py").write_text("cuda = '12.8'")


@pytest.fixture(scope="session")
def report(finished_workshop, made_once) -> Path:
    """The report of a finished table, which `snakemake --report` makes without a network."""
    made = ("--report", "results/report.html")
    folder = made_once("report", lambda folder: copied(finished_workshop, folder / "workshop").run(*made))
    return folder / "workshop" / "results" / "report.html"

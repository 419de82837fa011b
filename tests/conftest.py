"""What several suites share: the checkout, the folder of real inputs, and a way to run commands as a user does."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from hypothesis import settings

CHECKOUT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("GPT2_ABLATIONS_SHARED", CHECKOUT.parent / "shared"))

# `make test-faults` chooses this profile; without it, fuzzing takes a sample.
settings.register_profile("faults", max_examples=2000, deadline=None)


# A shell starts commands in the background deaf to Ctrl-C, and nohup to the session's end; what the tests start and
# interrupt would be so too.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


def fuzz_cases() -> int:
    """How many cases a fuzzed test tries."""
    return settings().max_examples if settings.get_current_profile_name() == "faults" else 50


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A function that returns a folder of this name, which one of the test processes fills and all use."""
    folder = tmp_path_factory.getbasetemp()
    common = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder

    def made(name: str, make: Callable[[Path], object]) -> Path:
        made = common / name
        with FileLock(f"{made}.lock"):
            if not (common / f"{name}.made").exists():
                shutil.rmtree(made, ignore_errors=True)  # of a process that failed
                made.mkdir()
                make(made)
                (common / f"{name}.made").touch()
        return made

    return made


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real messages, tokenizer and parity traces."""
    if not (SHARED / "real").is_dir():
        pytest.skip(f"the real messages are not at {SHARED}; GPT2_ABLATIONS_SHARED names another folder")
    return SHARED


def environment() -> dict[str, str]:
    """This process's environment, with this checkout's package to be found."""
    return os.environ | {"PYTHONPATH": str(CHECKOUT / "src")}


Run = Callable[..., subprocess.CompletedProcess]


def run_command(*arguments: str, folder: Path = CHECKOUT, timeout: float = 600) -> subprocess.CompletedProcess:
    """Run `python -m gpt2_ablations ARGUMENTS` in a folder."""
    command = [sys.executable, "-m", "gpt2_ablations", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=timeout)


def run_snakemake(*arguments: str, folder: Path, timeout: float = 1800) -> subprocess.CompletedProcess:
    """Run this checkout's Snakefile in a folder."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(CHECKOUT / "Snakefile"), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout)


def write_yaml(path: Path, content: dict) -> Path:
    """Write a YAML file; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture
def results(tmp_path: Path):
    """A results folder for the 19 rows, to be filled with runs."""
    from tests.results_folder import Results

    return Results(tmp_path)


@pytest.fixture
def three_seeds(tmp_path: Path):
    """The same, of a configuration with three seeds."""
    from tests.results_folder import Results

    return Results(tmp_path, seeds=[1, 2, 3])

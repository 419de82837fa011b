"""The environment of jobs: the interpreter that runs them, and the modules that they import."""

import os
import sys

import pytest
import yaml

from tests.conftest import CHECKOUT

# The commands of conda that Snakemake calls. An environment has one program, which notes that it was called.
CONDA = """#!/bin/sh
case "$*" in
  "info --json") echo '{{"conda_prefix": "{conda}", "platform": "linux-64"}}' ;;
  --version) echo "conda 25.1.0" ;;
  config*) echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
  *create*)
    while [ "$1" != --prefix ] && [ "$1" != -p ]; do shift; done
    mkdir -p "$2/bin"
    printf '#!/bin/sh\\necho "$@" >> "{conda}/called"\\nexec "{python}" "$@"\\n' > "$2/bin/python3"
    chmod +x "$2/bin/python3" ;;
esac
"""


@pytest.fixture
def conda(tmp_path, monkeypatch):
    """A folder with a stand-in for conda; the file `called` in it has a line for each job."""
    folder = tmp_path / "conda"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "conda").write_text(CONDA.format(conda=folder, python=sys.executable))
    (folder / "bin" / "conda").chmod(0o755)
    (folder / "bin" / "activate").write_text('PATH="$1/bin:$PATH"\n')
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    return folder


def test_with_conda_a_job_runs_in_its_environment(finished, conda):
    finished.run("table", "--sdm", "conda", "--forcerun", "table", "--rerun-triggers", "mtime")
    assert (conda / "called").read_text().startswith("-m gpt2_ablations table ")


def test_the_conda_environment_is_the_lock_and_refers_to_no_other_file():
    lines = (CHECKOUT / "requirements.lock").read_text().splitlines()
    environment = yaml.safe_load((CHECKOUT / "workflow" / "envs" / "gpt2-ablations.yaml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == [line for line in lines if not line.startswith("#")]


def test_python_files_in_the_working_folder_hide_no_module_of_a_job(finished):
    # Python imports the first one before the program starts.
    for name in ("warnings", "tokenize", "random", "queue", "filelock"):
        (finished.folder / f"{name}.py").write_text(f"raise SystemExit('the {name} of the user')")
    finished.run("table", "--forcerun", "table")

"""Which large libraries each light job imports: starting Python is most of what such a job takes."""

import json
import subprocess
import sys

from tests.conftest import environment

# The libraries that take a tenth of a second and more.
LARGE = ["httpx", "huggingface_hub", "matplotlib", "numpy", "pandas", "requests", "scipy", "snakemake", "torch"]
NEEDED = {
    "fetch-messages": [],
    "split-messages": ["numpy", "pandas"],
    "tokenize": ["numpy"],
    "table": [],
    "compare": ["numpy", "scipy"],
    "interpret": ["numpy", "scipy"],
    "pages": [],
}
# Each command runs in a fork, because what it imports stays imported.
RUN = """
import json, os, sys
from gpt2_ablations.cli import main
large, commands = map(json.loads, sys.argv[1:])
for command in commands:
    if os.fork() == 0:
        code = main([command, "--config", "config/config.yaml", "override.yaml"])
        print(json.dumps([command, code, sorted(set(large) & sys.modules.keys())]), flush=True)
        os._exit(0)
    os.wait()
"""


def test_light_jobs_import_what_they_need_and_no_more(finished):
    # Fetched again, because a file that is there is not even read.
    (finished.results / "dataset" / "SMSSpamCollection").unlink()
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(LARGE), json.dumps(list(NEEDED))],
        cwd=finished.folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {command: modules for command, _, modules in found} == NEEDED, done.stderr
    assert all(code == 0 for _, code, _ in found), done.stderr


def test_a_tokenizer_on_disk_is_copied_without_a_large_library(tmp_path):
    command = (
        "import sys; from gpt2_ablations.data.download import fetch_tokenizer;"
        f"print(sorted(set({LARGE}) & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"

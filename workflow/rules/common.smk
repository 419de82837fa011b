import json
import os
import shlex
import sys
from pathlib import Path

SOURCE = Path(workflow.basedir) / "src"
sys.path.insert(0, str(SOURCE))

from gpt2_ablations.errors import InputError
from gpt2_ablations.workflow import code, graphics_cards, make_plan, sources_made_here, without_secrets, write_config

# An exception inside a Snakefile prints several lines; a user's mistake is worth one.
try:
    PLAN = make_plan(config, workflow.configfiles)
except InputError as error:
    sys.exit(f"error: {error}")

PATHS = PLAN.paths
LOGS = f"{PATHS.results}/logs"
BENCHMARKS = f"{PATHS.results}/benchmarks"
ENVIRONMENT = "../envs/gpt2-ablations.yaml"
# Jobs use this interpreter and this checkout, also from an environment that is not activated.
shell.prefix(
    f"set -euo pipefail; export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    f" PYTHONPATH={shlex.quote(str(SOURCE))}; "
)

# Without a limit, all rows would share one card at once. `--resources gpu=N` overrides it; clusters count themselves.
if workflow.local_exec and PLAN.gpus() and graphics_cards():
    workflow.global_resources.setdefault("gpu", 1)


wildcard_constraints:
    row=r"[A-Za-z0-9_-]+",
    seed=r"\d+",
    identity=r"[0-9a-f]{16}",
    model=r"[A-Za-z0-9.-]+",


# Jobs read the merged configuration from this file. It is no input of theirs: only what a rule names in its parameters
# makes a job run again.
CONFIG = str(PATHS.config)


onstart:
    try:
        write_config(config, PATHS.config)
    except InputError as error:
        sys.exit(f"error: {error}")

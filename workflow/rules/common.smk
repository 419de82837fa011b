import json
import os
import shlex
import sys
from pathlib import Path

SOURCE = Path(workflow.basedir) / "src"
sys.path.insert(0, str(SOURCE))

from gpt2_ablations.errors import InputError
from gpt2_ablations.workflow import code, graphics_cards, make_plan, sources_made_here

# An exception inside a Snakefile prints several lines; a user's mistake is worth one.
try:
    PLAN = make_plan(config, workflow.configfiles)
except InputError as error:
    sys.exit(f"error: {error}")

PATHS = PLAN.paths
LOGS = f"{PATHS.results}/logs"
BENCHMARKS = f"{PATHS.results}/benchmarks"
ENVIRONMENT = "../envs/gpt2-ablations.yaml"
# This interpreter and this checkout, also from an environment that is not activated.
COMMAND = f"PYTHONPATH={shlex.quote(str(SOURCE))} {shlex.quote(sys.executable)} -m gpt2_ablations"

# Without a limit, all rows would share one card at once. `--resources gpu=N` overrides it; clusters count themselves.
if workflow.local_exec and PLAN.gpus() and graphics_cards():
    workflow.global_resources.setdefault("gpu", 1)


wildcard_constraints:
    row=r"[A-Za-z0-9_-]+",
    seed=r"\d+",
    identity=r"[0-9a-f]{16}",
    model=r"[A-Za-z0-9.-]+",


localrules:
    write_config,


rule write_config:
    output:
        PATHS.config,
    params:
        config=json.dumps(config, sort_keys=True),
    log:
        f"{LOGS}/write_config.log",
    conda:
        ENVIRONMENT
    shell:
        "{COMMAND} write_config --log {log:q} --json {params.config:q} --output {output:q}"


# Every job reads the merged configuration, but only what its parameters name makes it run again.
CONFIG = ancient(PATHS.config)

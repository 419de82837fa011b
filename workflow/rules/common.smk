import json
import os
import shlex
import sys
from collections import Counter
from pathlib import Path

# Not `workflow.basedir`: that is another's when it uses this workflow as a module.
CHECKOUT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
SOURCE = CHECKOUT / "src"
sys.path.insert(0, str(SOURCE))

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.planning.first_screen import first_screen
from gpt2_ablations.planning.module_use import check_module, module_config
from gpt2_ablations.settings.paths import MODEL_FILE
from gpt2_ablations.planning.resources import LIGHT_MB, LIGHT_MINUTES, features_at_once, jobs_at_once
from gpt2_ablations.planning.invocation_lock import hold_results, how_to_resume, was_killed_in, holder_of
from gpt2_ablations.planning.targets import check_targets
from gpt2_ablations.common.source_code import TRAINING_CODE, code
from gpt2_ablations.common.hashing import digest
from gpt2_ablations.common.hardware import machine_memory_mb, usable_cores
from gpt2_ablations.planning.workflow import make_workflow, sources_made_here, sources_as_parameters, write_config

# A cluster is told how many jobs to hold (`--jobs`), this machine how many cores. While a Snakefile is read, that is all
# Snakemake says of where jobs will run.
LOCAL = workflow.resource_settings.nodes is None
CORES = workflow.global_resources.get("_cores")

IS_MODULE = not workflow.modifier.is_main_snakefile()

# An exception inside a Snakefile prints several lines; a user's mistake is worth one.
try:
    ORIGINS = None
    if IS_MODULE:
        check_module(workflow.modifier.path_modifier.prefix)
        config, ORIGINS = module_config(config, CHECKOUT)
    WORKFLOW = make_workflow(config, workflow.configfiles, LOCAL, CORES and CORES.value, ORIGINS)
    if workflow.is_main_process and not IS_MODULE:
        check_targets(WORKFLOW, sys.argv[1:])
except InputError as error:
    sys.exit(f"error: {error}")

PATHS = WORKFLOW.paths
# A dry run may go on; a second run is refused, by Snakemake or at its start, though not always in plain words.
other_run = holder_of(Path(PATHS.results)) if workflow.is_main_process else None
if other_run:
    print(f"note: {PATHS.results}: another run works there ({other_run})", file=sys.stderr)
elif workflow.is_main_process and was_killed_in(Path(PATHS.results)) and "--unlock" not in sys.argv:
    print(f"note: {PATHS.results}: {how_to_resume(workflow.configfiles)}", file=sys.stderr)

LOGS = f"{PATHS.results}/logs"
BENCHMARKS = f"{PATHS.results}/benchmarks"
# A rule that computes next to nothing asks for this.
LIGHT = {"mem_mb": LIGHT_MB, "runtime": LIGHT_MINUTES}
ENVIRONMENT = "../envs/gpt2-ablations.yaml"
# Jobs use this interpreter and this checkout, also from an environment that is not activated. A workflow that uses this
# one as a module keeps the prefix it has set.
PREFIX = (shell._process_prefix if IS_MODULE else None) or "set -euo pipefail; "
PREFIX += f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH PYTHONPATH={shlex.quote(str(SOURCE))}; "
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))

if LOCAL:
    # Each GPU runs one job (see GPUs.py); others start up and load meanwhile, and not all of them extract features.
    # `--resources gpu=N` overrides it.
    if WORKFLOW.machine_gpus():
        shared_by = (WORKFLOW.machine_gpus(), WORKFLOW.cores or usable_cores())
        workflow.global_resources.setdefault("gpu", jobs_at_once(*shared_by))
        workflow.global_resources.setdefault("features", features_at_once(*shared_by))
    # Jobs that together ask for more memory than there is wait; one that asks for more than all runs alone.
    workflow.global_resources.setdefault("mem_mb", machine_memory_mb())


wildcard_constraints:
    row=r"[A-Za-z0-9_-]+",
    seed=r"\d+",
    identity=r"[0-9a-f]{16}",
    model=r"[A-Za-z0-9.-]+",


# Jobs read the merged configuration from this file. It is no input of theirs: only what a rule names in its parameters
# makes a job run again.
CONFIG = str(PATHS.config)


def begin():
    """Keep other runs out of the results folder, and write the configuration that jobs read."""
    try:
        hold_results(Path(PATHS.results))
        write_config(WORKFLOW.config, PATHS.config)
    except InputError as error:
        sys.exit(f"error: {error}")


onstart:
    begin()
    jobs = list(workflow.dag.needrun_jobs())
    trained = dict.fromkeys(job.wildcards.row for job in jobs if job.rule.name == "train")
    print(first_screen(WORKFLOW, Counter(job.rule.name for job in jobs), list(trained)), file=sys.stderr)


# Snakemake calls no `onstart` of a module, and does not say yet whether this is a dry run, which writes it too.
if IS_MODULE and workflow.is_main_process and not other_run:
    begin()

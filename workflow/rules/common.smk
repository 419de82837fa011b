import json
import os
import shlex
import sys
from collections import Counter
from pathlib import Path

# Not `workflow.basedir`: in a module that is the folder of the workflow that uses it.
CHECKOUT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
SOURCE = CHECKOUT / "src"
sys.path.insert(0, str(SOURCE))

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.common.gpus import check_environment
from gpt2_ablations.common.hardware import machine_memory_mb, usable_cores
from gpt2_ablations.common.hashing import digest
from gpt2_ablations.common.source_code import TRAINING_CODE, code
from gpt2_ablations.planning.first_screen import first_screen
from gpt2_ablations.planning.invocation_lock import has_stale_lock, how_to_resume, lock_results, running_invocation
from gpt2_ablations.planning.module_use import check_module, module_config
from gpt2_ablations.planning.resources import LIGHT_MB, LIGHT_MINUTES, features_at_once, jobs_at_once
from gpt2_ablations.planning.targets import check_targets
from gpt2_ablations.planning.workflow import local_source_files, make_workflow, sources_as_parameters, write_config
from gpt2_ablations.settings.paths import MODEL_FILE

# A cluster takes a number of jobs (`--jobs`), this machine a number of cores. While a Snakefile is read, Snakemake says
# no more about where jobs will run.
LOCAL = workflow.resource_settings.nodes is None
CORES = workflow.global_resources.get("_cores")

IS_MODULE = not workflow.modifier.is_main_snakefile()

# An exception in a Snakefile prints several lines. A user's mistake prints one.
try:
    check_environment()
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
# A dry run continues. Any other invocation is refused later, by Snakemake or by `begin`; Snakemake does not say why.
other_invocation = running_invocation(Path(PATHS.results)) if workflow.is_main_process else None
if other_invocation:
    print(f"note: {PATHS.results}: another invocation is running there ({other_invocation})", file=sys.stderr)
elif workflow.is_main_process and has_stale_lock(Path(PATHS.results)) and "--unlock" not in sys.argv:
    print(f"note: {PATHS.results}: {how_to_resume(workflow.configfiles)}", file=sys.stderr)

LOGS = f"{PATHS.results}/logs"
BENCHMARKS = f"{PATHS.results}/benchmarks"
# The resources of rules that compute next to nothing.
LIGHT = {"mem_mb": LIGHT_MB, "runtime": LIGHT_MINUTES}
ENVIRONMENT = "../envs/gpt2-ablations.yaml"
# Jobs use this interpreter and this checkout, also if its environment is not activated. A workflow that uses this one
# as a module keeps its own prefix.
PREFIX = (shell._process_prefix if IS_MODULE else None) or "set -euo pipefail; "
PREFIX += f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH PYTHONPATH={shlex.quote(str(SOURCE))}; "
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))

if LOCAL:
    # One job at a time computes on each GPU (see common/gpus.py). Others start up and load meanwhile, and only some of
    # them may extract features. `--resources gpu=N` overrides the number.
    if WORKFLOW.machine_gpus():
        shared_by = (WORKFLOW.machine_gpus(), WORKFLOW.cores or usable_cores())
        workflow.global_resources.setdefault("gpu", jobs_at_once(*shared_by))
        workflow.global_resources.setdefault("features", features_at_once(*shared_by))
    # Jobs wait while those that run take all memory. A job that needs more than there is runs alone.
    workflow.global_resources.setdefault("mem_mb", machine_memory_mb())


wildcard_constraints:
    row=r"[A-Za-z0-9_-]+",
    seed=r"\d+",
    identity=r"[0-9a-f]{16}",
    model=r"[A-Za-z0-9.-]+",


# Jobs read the merged configuration from this file. It is not an input: a job runs again only if a setting in its
# parameters changes.
CONFIG = str(PATHS.config)


def begin():
    """Lock the results folder against other invocations, and write the configuration that jobs read."""
    try:
        lock_results(Path(PATHS.results))
        write_config(WORKFLOW.config, PATHS.config)
    except InputError as error:
        sys.exit(f"error: {error}")


onstart:
    begin()
    jobs = list(workflow.dag.needrun_jobs())
    trained = dict.fromkeys(job.wildcards.row for job in jobs if job.rule.name == "train")
    print(first_screen(WORKFLOW, Counter(job.rule.name for job in jobs), list(trained)), file=sys.stderr)


# Snakemake calls no `onstart` of a module. Nor does it say here whether this is a dry run, so that writes them too.
if IS_MODULE and workflow.is_main_process and not other_invocation:
    begin()

import inspect
import json
import shlex
import sys
from collections import Counter
from pathlib import Path

# Not `workflow.basedir`: in a module that is the folder of the workflow that uses it.
CHECKOUT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
SOURCE = CHECKOUT / "src"
sys.path.insert(0, str(SOURCE))

from gpt2_ablations.common.errors import InputError, outside_locale
from gpt2_ablations.common.gpus import check_environment
from gpt2_ablations.common.hardware import machine_memory_mb, usable_cores
from gpt2_ablations.common.hashing import digest
from gpt2_ablations.common.source_code import command_digest
from gpt2_ablations.planning.data_fit import examine_data
from gpt2_ablations.planning.first_screen import first_screen
from gpt2_ablations.planning.invocation_lock import (
    has_stale_lock,
    how_to_resume,
    last_targets,
    lock_results,
    running_invocation,
    surviving_jobs,
)
from gpt2_ablations.planning.module_use import check_module, module_config
from gpt2_ablations.planning.resources import LIGHT_MB, LIGHT_MINUTES, features_at_once, jobs_at_once
from gpt2_ablations.planning.up_to_date import UpToDate
from gpt2_ablations.planning.workflow import (
    load_workflow,
    local_source_files,
    make_workflow,
    sources_as_parameters,
    write_config,
)
from gpt2_ablations.settings.config import DEFAULT_CONFIG, command_line_settings, in_checkout
from gpt2_ablations.settings.paths import MODEL_FILE, Paths
from gpt2_ablations.settings.rows import named_row
from gpt2_ablations.settings.schema.text_types import normal_path
from gpt2_ablations.settings.schema.validation import allowed_names


# The default settings, which `--configfile` overrides. Another folder than the checkout need not have them.
configfile: in_checkout(DEFAULT_CONFIG)


# What Snakemake does not document. All of it is used here, and nowhere else.
#
# In a job on a cluster, Snakemake reads this file again in a process of its own.
IS_MAIN_PROCESS = workflow.is_main_process
# A module needs other defaults and no `onstart`.
IS_MODULE = not workflow.modifier.is_main_snakefile()
MODULE_PREFIX = workflow.modifier.path_modifier.prefix if IS_MODULE else None
# The configuration files, and what `--config` overrides. Snakemake's merged `config` does not tell them apart.
CONFIG_FILES = workflow.configfiles
CONFIG_ARGUMENTS = workflow.config_settings.config_args or []
# A cluster takes a number of jobs (`--jobs`), this machine a number of cores: only here do GPUs and memory have limits.
LOCAL = workflow.resource_settings.nodes is None
# With `--cores all` that is the machine's number, also in a container that may use less.
CORES = workflow.global_resources.get("_cores")
# Snakemake does not say why it does not start after a crash if it is quiet.
IS_QUIET = bool(workflow.output_settings.quiet)
# With `--sdm conda`, Snakemake activates an environment for each command, before this workflow's own prefix.
USES_CONDA = "CONDA" in {method.name for method in workflow.deployment_settings.deployment_method}
# A workflow that uses this one as a module keeps its own prefix of shell commands.
SHELL_PREFIX = (shell._process_prefix if IS_MODULE else None) or "set -euo pipefail; "


# A limit that `--resources` overrides. Without a limit, Snakemake does not count a resource of this machine.
def limit(resource, amount):
    workflow.global_resources.setdefault(resource, amount)


# Whether the user forces jobs, which means those after them, too. Known only after this file is read.
def is_forced():
    return any((workflow.dag_settings.forceall, workflow.dag_settings.forcerun, workflow.dag_settings.forcetargets))


# The targets of the command line. Known only after this file is read.
def targets():
    return sorted(workflow.dag_settings.targets) if workflow.dag_settings else []


# Snakemake copies all globals of the Snakefile, which include a function of each rule, whenever it formats a command. A
# rule without a command does not need its function, and there is a rule for each row.
def forget_functions(names):
    for name in names:
        globals().pop(f"__{name}", None)


# Snakemake asks for the parameters of a function some ten times for each job.
def asked_often(function):
    function.__signature__ = inspect.signature(function)
    return function


# An output that is up to date by content is complete, although the invocation that began it was killed: its job ended
# later. Without Snakemake's mark, it does not run again.
def accept_complete(files):
    persistence = workflow.persistence
    marks = getattr(persistence, "_incomplete_path", None)  # Snakemake can also keep them in a database
    for file in map(str, files if marks else []):
        Path(persistence._record_path(marks, file)).unlink(missing_ok=True)


# The jobs that will run: the first screen counts them.
def jobs_to_run():
    return list(workflow.dag.needrun_jobs())


# End of what Snakemake does not document.

# An exception in a Snakefile prints several lines. A user's mistake prints one.
try:
    check_environment()
    OVERRIDES, ORIGINS = command_line_settings(CONFIG_ARGUMENTS), None
    if IS_MODULE:
        check_module(MODULE_PREFIX)
        OVERRIDES, ORIGINS = module_config(config, CHECKOUT)
    saved = None if IS_MAIN_PROCESS else Paths(normal_path(config["results"])).config
    if saved is not None and saved.is_file():
        # What the invocation read when it started. The user may have changed the files since.
        WORKFLOW = load_workflow([str(saved)], local=LOCAL)
    else:
        cores = min(CORES.value, usable_cores()) if CORES and CORES.value else None
        WORKFLOW = make_workflow(OVERRIDES, CONFIG_FILES, LOCAL, cores, ORIGINS)
except UnicodeEncodeError as error:
    sys.exit(f"error: {outside_locale(error)}")
except InputError as error:
    sys.exit(f"error: {error}")

# The report shows it, without the passwords of addresses in it.
config["note"] = WORKFLOW.config.note

PATHS = WORKFLOW.paths
UP_TO_DATE = UpToDate(WORKFLOW)
# A dry run continues. Any other invocation is refused later, by Snakemake or by `begin`; Snakemake does not say why.
other_invocation = running_invocation(Path(PATHS.results)) if IS_MAIN_PROCESS else None
if other_invocation:
    print(f"note: {PATHS.results}: another invocation is running there ({other_invocation})", file=sys.stderr)
elif IS_MAIN_PROCESS and has_stale_lock(Path(PATHS.results)):
    for job in surviving_jobs(PATHS.all_progress):
        print(f"note: {PATHS.results}: {job} is still running; wait for its end to use its result", file=sys.stderr)
    if IS_QUIET:
        advice = how_to_resume(CONFIG_FILES, last_targets(Path(PATHS.results)), CONFIG_ARGUMENTS)
        print(f"note: {PATHS.results}: {advice}", file=sys.stderr)

LOGS = PATHS.logs
BENCHMARKS = PATHS.benchmarks
# Jobs read the merged configuration from this file. It is not an input: a job runs again only if a setting in its
# parameters changes.
CONFIG = ["--config", str(PATHS.config)]
ENVIRONMENT = "../envs/gpt2-ablations.yaml"
# Jobs use this interpreter, also if its environment is not activated, or that of the conda environment, and this
# checkout. The working folder, whose files may have names of Python's modules, is no import path.
INTERPRETER = "" if USES_CONDA else f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH "
PREFIX = f"export {INTERPRETER}PYTHONPATH={shlex.quote(str(SOURCE))} PYTHONSAFEPATH=1; "
shell.prefix((SHELL_PREFIX + PREFIX).replace("{", "{{").replace("}", "}}"))

if LOCAL:
    # One job at a time computes on each GPU (see common/gpus.py). Others start up and load meanwhile, and only some of
    # them may extract features.
    if WORKFLOW.machine_gpus():
        shared_by = (WORKFLOW.machine_gpus(), WORKFLOW.cores or usable_cores())
        limit("gpu", jobs_at_once(*shared_by))
        limit("features", features_at_once(*shared_by))
    # Jobs wait while those that run take all memory. A job that needs more than there is runs alone.
    limit("mem_mb", machine_memory_mb())


wildcard_constraints:
    row=r"[A-Za-z0-9_-]+",
    seed=r"\d+",
    identity=r"[0-9a-f]{16}",
    model=r"[A-Za-z0-9.-]+",


# The inputs of an output. If it is up to date by content, they are not newer than it, and no job makes them for it: it
# does not run again because an input is missing, or made again, or has another date.
def settled(files, outputs, up_to_date):
    if not up_to_date or is_forced():
        return files
    if IS_MAIN_PROCESS and not other_invocation:
        accept_complete(outputs)
    return [before_update(ancient(str(file))) for file in files]


# A target that names no row. An exception here would print several lines.
def check_row(row):
    try:
        named_row(row, WORKFLOW.experiments, WORKFLOW.config.experiments)
    except InputError as error:
        sys.exit(f"error: {error}")


def refuse_target(target):
    if target.startswith("row_"):
        check_row(target.removeprefix("row_"))
    sys.exit(f"error: no target '{target}'; {allowed_names(target, [f'row_{row}' for row in WORKFLOW.experiments])}")


# The files that a run leaves, for a row and a seed or for their wildcards.
def run_outputs(row, seed):
    names = ["metrics.json", "history.csv", "predictions.csv", *[MODEL_FILE] * WORKFLOW.config.keep_models]
    return [PATHS.row(row, seed) / name for name in names]


# The token file, and the weights with the file that holds their sha256. Weights are compared by that file, not by date.
def feature_inputs(wildcards):
    weights = WORKFLOW.feature_weight_files(wildcards.identity)
    files = [PATHS.tokens, *ancient(weights), *WORKFLOW.digest_files(weights)]
    return settled(files, [PATHS.features(wildcards.identity)], UP_TO_DATE.features(wildcards.identity))


@asked_often
def training_inputs(wildcards):
    check_row(wildcards.row)
    weights = WORKFLOW.weight_files(wildcards.row)
    files = [PATHS.tokens, *ancient(weights), *WORKFLOW.digest_files(weights)]
    return settled(
        files, run_outputs(wildcards.row, wildcards.seed), UP_TO_DATE.run(wildcards.row, int(wildcards.seed))
    )


@asked_often
def feature_input(wildcards):
    row, seed = wildcards.row, int(wildcards.seed)
    return settled(WORKFLOW.feature_files(row, seed), [], UP_TO_DATE.run(row, seed))


@asked_often
def training_flags(wildcards):
    flags = WORKFLOW.experiments[wildcards.row].flags()
    return [*flags, f"--row={wildcards.row}", f"--seed={wildcards.seed}"]


@asked_often
def training_files(wildcards, input):
    features = ["--features", *input.features] if input.features else []
    return [*features, "--output", str(PATHS.row(wildcards.row, wildcards.seed))]


def begin(rows=()):
    """Check the data of the rows to train, lock the results folder, and write the configuration that jobs read."""
    try:
        examples = examine_data(WORKFLOW, rows)
        lock_results(Path(PATHS.results), targets())
        write_config(WORKFLOW)
    except InputError as error:
        sys.exit(f"error: {error}")
    return examples


onstart:
    jobs = jobs_to_run()
    trained = list(dict.fromkeys(job.wildcards.row for job in jobs if job.rule.name == "train"))
    examples = begin(trained)
    print(first_screen(WORKFLOW, Counter(job.rule.name for job in jobs), trained, examples), file=sys.stderr)


# Snakemake says nothing about Ctrl-C if it is quiet.
onerror:
    print("note: stopped; finished rows are kept, and the same command continues", file=sys.stderr)


# Snakemake calls no `onstart` of a module. Nor does it say here whether this is a dry run, so that writes them too.
if IS_MODULE and IS_MAIN_PROCESS and not other_invocation:
    begin()

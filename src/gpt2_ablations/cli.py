"""The command line: `gpt2-ablations COMMAND`, one command for each rule of the workflow, and some for its user.

Each command reads its arguments and the configuration, and calls the folder of the package that does the work. Modules
are imported where they are used: importing torch takes two seconds, which most commands do without.
"""

import argparse
import json
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from .common.errors import InputError, Superseded, is_out_of_memory, outside_locale, without_secrets
from .common.gpus import check_environment, usable_gpus
from .common.hardware import usable_cores
from .common.logs import log_to, logger, print_any_text
from .common.progress import job_progress
from .settings.config import Config, load_config
from .settings.dataset_format import DELIMITERS, QUOTING, is_encoding
from .settings.experiment import add_experiment_flags, experiment_from_flags
from .settings.models import ModelConfig, configured_models, named_model
from .settings.paths import Paths
from .settings.rows import ROW_ID, check_against_model, configured_rows
from .settings.schema.validation import did_you_mean

DESCRIPTION = "GPT-2 classification ablations: the commands that the workflow runs, and some for its user."
LARGEST_SEED = 2**63 - 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog.split()[-1]}: {message}; see --help")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command and its arguments.

    Args:
        argv: the arguments; None: those of this process.

    Raises:
        InputError: the command or an argument is unknown, missing or invalid.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _Parser(prog="gpt2-ablations", description=DESCRIPTION, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(function: Callable[[argparse.Namespace], None], needs_config: bool = True) -> argparse.ArgumentParser:
        name, summary = function.__name__.removesuffix("_command").replace("_", "-"), function.__doc__
        sub = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if needs_config:
            sub.add_argument(
                "--config",
                nargs="+",
                default=[],
                metavar="FILE",
                help="configuration files, which override config/config.yaml and, in this order, each other",
            )
        sub.add_argument("--log", type=Path, metavar="FILE", help="write messages to this file")
        sub.set_defaults(function=function)
        return sub

    sub = command(init_command, needs_config=False)
    sub.add_argument("folder", metavar="DIR", help="the folder of the files")
    sub.add_argument("--data", metavar="FILE", help="labelled texts: their delimiter, columns and labels are looked up")
    command(check_command)
    command(check_sources_command)
    _add_rows(sub := command(plan_command))
    sub.add_argument("--json", action="store_true", help="print JSON")
    _add_rows(sub := command(status_command))
    sub.add_argument(
        "--watch", action="store_true", help="update until all runs have ended; in a pipe, print each change"
    )
    sub.add_argument("--json", action="store_true", help="print JSON")
    command(fetch_messages_command)
    command(fetch_tokenizer_command)
    command(fetch_weights_command).add_argument("--model", required=True, help="a name in the models file")
    command(split_messages_command)
    command(tokenize_command)
    sub = command(extract_features_command)
    sub.add_argument("--spec", required=True, metavar="JSON", help="what to compute, as the workflow states it")
    sub.add_argument("--output", required=True, type=Path, metavar="FILE", help="the feature file to write")
    sub = command(train_command)
    add_experiment_flags(sub)
    sub.add_argument("--seed", type=_seed, help="default: the first of the configuration's seeds")
    sub.add_argument("--row", type=_row_id, default="manual", help="the row id in metrics.json (default: %(default)s)")
    sub.add_argument("--features", type=Path, metavar="FILE", help="the row's features (default: computed here)")
    sub.add_argument(
        "--output", type=Path, metavar="DIR", help="the run's folder (default: a folder of results/manual/)"
    )
    _add_saved_model(sub := command(predict_command))
    sub.add_argument("text", nargs="*", metavar="TEXT", help="a text; - reads standard input, a text a line")
    sub.add_argument("--file", metavar="FILE", help="a file with a text a line; - for standard input")
    sub.add_argument("--column", metavar="NAME", help="the file is a CSV file: classify the texts of this column")
    sub.add_argument(
        "--delimiter", choices=list(DELIMITERS), help="with --column (default: tab for a .tsv file, else comma)"
    )
    sub.add_argument(
        "--quoting", choices=QUOTING, default="standard", help="with --column: none reads quotes as they are"
    )
    sub.add_argument(
        "--encoding", type=_encoding, default="utf-8", help="of the file, such as latin-1 (default: %(default)s)"
    )
    sub.add_argument("--format", choices=("text", "csv", "json"), default="text", help="default: %(default)s")
    _add_saved_model(sub := command(export_command))
    sub.add_argument("--output", required=True, type=Path, metavar="DIR", help="a new folder")
    command(table_command)
    command(compare_command)
    command(interpret_command)
    command(draw_command)
    _add_rows(command(draw_rows_command), default="the selected rows that have run")
    command(pages_command)
    sub = command(readme_command)
    sub.add_argument("--readme", default=Path("README.md"), type=Path, metavar="FILE", help="default: %(default)s")
    sub.add_argument("--check", action="store_true", help="change nothing; print a diff and fail if the table is stale")
    sub = command(generate_messages_command, needs_config=False)
    sub.add_argument("--output", required=True, type=Path, metavar="FILE", help="the file to write")
    sub = command(pretrain_miniature_command, needs_config=False)
    sub.add_argument("--model", required=True, metavar="JSON", help="an entry of a models file: {NAME: {DIMENSIONS}}")
    sub.add_argument("--output", required=True, type=Path, metavar="FILE", help="the safetensors file to write")

    # `fetch_weights` is accepted for `fetch-weights`: the names of rules have underscores.
    if argv and argv[0].replace("_", "-") in commands.choices:
        argv[0] = argv[0].replace("_", "-")
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        flags = [flag for action in commands.choices[arguments.command]._actions for flag in action.option_strings]
        hint = did_you_mean(unknown[0].partition("=")[0], flags) if unknown[0].startswith("-") else ""
        raise InputError(f"{arguments.command}: unrecognized arguments: {' '.join(unknown)}; {hint}see --help")
    return arguments


def _add_rows(parser: argparse.ArgumentParser, default: str = "the selected rows") -> None:
    parser.add_argument(
        "--row", nargs="+", action="extend", type=_row_id, metavar="ID", help=f"rows (default: {default})"
    )


def _add_saved_model(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--row", type=_row_id, metavar="ID", help="a row that has run with keep_models: true")
    which.add_argument("--model", type=Path, metavar="FILE", help="the model.safetensors of such a run")
    parser.add_argument("--seed", type=_seed, help="of the row (default: the first of the configuration's seeds)")


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"invalid seed {text!r}: expected 0 to {LARGEST_SEED}")
    return int(text)


def _row_id(text: str) -> str:
    if not ROW_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"invalid row id {text!r}: expected 1 to 64 letters, digits, '_' and '-'")
    return text


def _encoding(text: str) -> str:
    if not is_encoding(text):
        raise argparse.ArgumentTypeError(f"unknown encoding {text!r}: expected one such as utf-8, latin-1 or utf-16")
    return text


def _json(flag: str, text: str) -> dict:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{flag} is {text!r}, not valid JSON ({error}); copy it from the workflow's command") from None
    if not isinstance(content, dict) or not content:
        raise InputError(f"{flag} is {text!r}; expected a JSON object; copy it from the workflow's command")
    return content


def _choose_threads(model: ModelConfig, device: str = "cpu") -> None:
    """Use as many threads as the workflow's job on this model would, which Snakemake tells it by OMP_NUM_THREADS."""
    if "OMP_NUM_THREADS" not in os.environ:
        from .planning.resources import job_threads

        gpus = len(usable_gpus()) if device in ("auto", "cuda") else 0
        threads = job_threads(model, gpus > 0, usable_cores(), gpus)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        if torch := sys.modules.get("torch"):  # it has read the variable
            torch.set_num_threads(threads)


# Before and during an invocation.


def init_command(arguments: argparse.Namespace) -> None:
    """write a start of the files for a table of one's own"""
    from .planning.start_files import write_start_files

    config, *others = write_start_files(arguments.folder, arguments.data)
    print(f"{config}, {', '.join(file.name for file in others)}: written; edit them, then run")
    print(f"  gpt2-ablations check --config {shlex.quote(str(config))}")
    print(f"  snakemake --cores all --configfile {shlex.quote(str(config))}")


def check_command(arguments: argparse.Namespace) -> None:
    """check the configuration and every file that it names"""
    from .common.text import counted
    from .data.dataset import described
    from .planning.checks import check_configuration, check_sources_on_disk
    from .planning.data_fit import check_data_fit

    config = load_config(arguments.config)
    models, experiments, selected = configured_rows(config)
    check_configuration(config, models, experiments)
    examples = check_sources_on_disk(config, models, selected)
    check_data_fit(config, models, selected, examples)
    rows, seeds = counted(len(experiments), "row"), counted(len(config.seeds), "seed")
    print(f"OK: {rows} ({len(selected)} selected), {seeds}")
    for line in described(examples):
        print(line)


def check_sources_command(arguments: argparse.Namespace) -> None:
    """ask every configured source for its file, without downloading it"""
    from .data.download.check_sources import check_sources, files_without_source, format_answers

    config = load_config(arguments.config)
    answers = check_sources(config, configured_models(config))
    print(format_answers(answers))
    if lacking := files_without_source(answers):
        raise InputError(f"no source has {', '.join(lacking)}; add a source that does")


def plan_command(arguments: argparse.Namespace) -> None:
    """show the downloads, memory, disk and time of an invocation on this machine"""
    from .planning.plan import plan_invocation
    from .planning.plan_report import format_plan
    from .planning.workflow import load_workflow

    plan = plan_invocation(load_workflow(arguments.config, arguments.row))
    print(json.dumps(plan.as_json(), indent=2) if arguments.json else format_plan(plan))


def status_command(arguments: argparse.Namespace) -> None:
    """show the progress of each row, during and after an invocation"""
    from .monitoring.status import look
    from .monitoring.status_report import format_status, watch
    from .planning.workflow import load_workflow

    workflow = load_workflow(arguments.config, arguments.row)
    if arguments.watch:
        watch(workflow, as_json=arguments.json)
    else:
        status = look(workflow)
        print(json.dumps(status.as_json(), indent=2) if arguments.json else format_status(status))


# The jobs, in the order in which data meets them.


def fetch_messages_command(arguments: argparse.Namespace) -> None:
    """download the messages, or copy a local file"""
    from .data.download import fetch_messages

    config = load_config(arguments.config)
    fetch_messages(config.dataset.sources, Paths(config.results).messages, config.dataset.sha256)


def fetch_tokenizer_command(arguments: argparse.Namespace) -> None:
    """download the tokenizer's files, or copy local ones"""
    from .data.download import fetch_tokenizer

    config = load_config(arguments.config)
    fetch_tokenizer(config.tokenizer.sources, Paths(config.results).tokenizer)


def fetch_weights_command(arguments: argparse.Namespace) -> None:
    """fetch and check the pretrained weights of one GPT-2 size"""
    config = load_config(arguments.config)
    named_model(arguments.model, configured_models(config), "fetch-weights: model", config.models)
    paths = Paths(config.results)
    with job_progress(paths.progress(paths.weights(arguments.model)), job="fetch"):
        from .gpt2.fetch import fetch_weights

        fetch_weights(config, arguments.model)


def split_messages_command(arguments: argparse.Namespace) -> None:
    """split the messages into balanced training, validation and test examples"""
    from .data.dataset import split_messages
    from .data.download.sources import messages_name

    config = load_config(arguments.config)
    messages = Paths(config.results).messages
    name = messages_name(config.dataset.sources, messages)
    split_messages(messages, messages.parent, config.dataset.format, name)


def tokenize_command(arguments: argparse.Namespace) -> None:
    """turn the splits into token ids"""
    from .data.tokenizer import tokenize

    tokenize(load_config(arguments.config))


def extract_features_command(arguments: argparse.Namespace) -> None:
    """run the frozen layers of a model over all examples"""
    from .settings.feature_spec import FeatureSpec

    try:
        spec = FeatureSpec(**_json("--spec", arguments.spec))
    except TypeError as error:
        raise InputError(f"--spec is {arguments.spec!r} ({error}); copy it from the workflow's command") from None
    config = load_config(arguments.config)
    _choose_threads(
        named_model(spec.model_size, configured_models(config), "--spec: model_size", config.models), config.device
    )
    with job_progress(Paths(config.results).progress(arguments.output), job="features"):
        from .finetuning.feature_job import extract_features

        extract_features(config, spec, arguments.output)


def train_command(arguments: argparse.Namespace) -> None:
    """finetune one row with one seed; takes the reference's flags"""
    experiment = experiment_from_flags(arguments)
    config = load_config(arguments.config)
    models = configured_models(config)
    check_against_model(experiment, models, "train", config.models)
    _choose_threads(models[experiment.model_size], config.device)
    seed = config.seeds[0] if arguments.seed is None else arguments.seed
    name = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(experiment.flags())).strip("-") or "defaults"
    output = arguments.output or Path(config.results, "manual", name, f"seed-{seed}")
    with job_progress(Paths(config.results).progress(output), job="train", row=arguments.row, seed=seed):
        from .finetuning.training_job import train

        metrics = train(config, experiment, seed, arguments.row, arguments.features, output)
    row = "" if arguments.row == "manual" else f"row {arguments.row}, "
    print(
        f"{row}seed {seed}: accuracy {metrics['train_acc']:.2%} (training), {metrics['val_acc']:.2%} (validation),"
        f" {metrics['test_acc']:.2%} (test); {output}"
    )


# With a saved model.


def predict_command(arguments: argparse.Namespace) -> None:
    """classify texts with the saved model of a row, which `keep_models: true` keeps"""
    from .inference.prediction_files import STANDARD_INPUT, read_texts, typed_texts, write_predictions

    file = STANDARD_INPUT if arguments.text == [STANDARD_INPUT] else arguments.file
    if not arguments.text and file is None:
        raise InputError("predict: no text; give texts, --file FILE, or - for standard input")
    if arguments.text and arguments.file is not None:
        raise InputError("predict: texts and --file are both given; leave one of them out")
    if file is None and arguments.column is not None:
        raise InputError("predict: --column names a column of --file; add --file FILE")
    if file is None and (empty := [number for number, text in enumerate(arguments.text, 1) if not text.strip()]):
        raise InputError(f"predict: text {empty[0]} is empty; fill it in or remove it")
    config = load_config(arguments.config)
    texts: Iterable[str] = typed_texts(arguments.text)
    if file is not None:
        column, delimiter = arguments.column, arguments.delimiter
        texts = read_texts(file, column, delimiter, arguments.quoting, arguments.encoding)
    from .inference.prediction import load_predictor

    predictor = load_predictor(config, _saved_model_file(config, arguments))
    _choose_threads(predictor.saved.model, config.device)
    write_predictions(predictor.predict(texts), arguments.format, sys.stdout)


def export_command(arguments: argparse.Namespace) -> None:
    """write a row's whole model as a folder that the transformers library loads"""
    config = load_config(arguments.config)
    from .inference.export import export
    from .inference.saved_models import load_saved_model

    export(*load_saved_model(_saved_model_file(config, arguments)), Paths(config.results), arguments.output)
    print(f"{arguments.output}: README.md says how to load it")


def _saved_model_file(config: Config, arguments: argparse.Namespace) -> Path:
    from .inference.saved_models import saved_model_file

    if arguments.model is not None:
        return arguments.model
    seed = config.seeds[0] if arguments.seed is None else arguments.seed
    return saved_model_file(Paths(config.results), arguments.row, seed)


# Reports of the runs that have finished.


def table_command(arguments: argparse.Namespace) -> None:
    """write the table as markdown and as data"""
    from .common.files import write_text_whole
    from .reports.table import majority_baseline, table_csv, table_markdown
    from .runs.finished_runs import read_runs

    config = load_config(arguments.config)
    models, _, selected = configured_rows(config)
    runs, paths = read_runs(config, selected), Paths(config.results)
    write_text_whole(paths.table, table_markdown(selected, runs, models, majority_baseline(config, runs)))
    write_text_whole(paths.table_data, table_csv(selected, runs))


def compare_command(arguments: argparse.Namespace) -> None:
    """write the published figures beside the reproduced ones"""
    from .common.files import write_text_whole
    from .reports.comparison import comparison_markdown

    config = load_config(arguments.config)
    models, experiments, _ = configured_rows(config)
    write_text_whole(Paths(config.results).comparison, comparison_markdown(config, experiments, models))


def interpret_command(arguments: argparse.Namespace) -> None:
    """answer the questions of the comparisons file"""
    from .common.files import write_text_whole
    from .reports.interpretation import interpretation_markdown

    config = load_config(arguments.config)
    models, experiments, _ = configured_rows(config)
    write_text_whole(Paths(config.results).interpretation, interpretation_markdown(config, experiments, models))


def draw_command(arguments: argparse.Namespace) -> None:
    """draw the figures of the whole table"""
    from .reports.figures.draw import draw_figures

    config = load_config(arguments.config)
    models, experiments, _ = configured_rows(config)
    draw_figures(config, experiments, models, Paths(config.results).plots)


def draw_rows_command(arguments: argparse.Namespace) -> None:
    """draw the curves of each row"""
    from .reports.figures.draw_rows import draw_row
    from .runs.finished_runs import read_runs

    config = load_config(arguments.config)
    models, experiments, selected = configured_rows(config)
    rows = arguments.row or [row for row, runs in read_runs(config, selected).items() if runs]
    for row in rows:
        draw_row(config, experiments, models, row, Paths(config.results).plots / "rows")


def pages_command(arguments: argparse.Namespace) -> None:
    """write the report's pages: tables, configuration, and the logs of each row"""
    from .reports.pages import write_pages

    config = load_config(arguments.config)
    models, experiments, _ = configured_rows(config)
    write_pages(config, experiments, models)


def readme_command(arguments: argparse.Namespace) -> None:
    """write the table into the README, between its markers"""
    from .reports.readme import readme_block, readme_difference, update_readme
    from .reports.table import majority_baseline, table_markdown
    from .runs.finished_runs import read_runs

    config = load_config(arguments.config)
    models, experiments, selected = configured_rows(config)
    runs = read_runs(config, selected)
    table = table_markdown(selected, runs, models, majority_baseline(config, runs))
    block = readme_block(table, sum(map(bool, runs.values())), len(experiments))
    if arguments.check:
        if difference := readme_difference(arguments.readme, block):
            print(difference)
            raise InputError(f"{arguments.readme}: its table is stale; run `snakemake --cores all readme`")
    elif update_readme(arguments.readme, block):
        print(f"{arguments.readme}: table updated")


# The demo's inputs.


def generate_messages_command(arguments: argparse.Namespace) -> None:
    """write the demo's messages"""
    from .data.demo_language import generate_messages

    generate_messages(arguments.output)


def pretrain_miniature_command(arguments: argparse.Namespace) -> None:
    """pretrain one of the demo's miniature models"""
    from .settings.models import check_model

    (entry, *_) = _json("--model", arguments.model).values()
    model = check_model(entry, "--model")
    _choose_threads(model)
    from .gpt2.pretraining import pretrain  # after the choice, which torch reads when it is imported

    pretrain(model, arguments.output, seed=123)


def main(argv: list[str] | None = None) -> int:
    """Run one command; a user's mistake prints one line and gives exit code 1."""
    console = None
    print_any_text()
    try:
        check_environment()
        arguments = parse(argv)
        if arguments.log:
            console = log_to(arguments.log)
            logger.info(shlex.join(["gpt2-ablations", *(sys.argv[1:] if argv is None else argv)]))
        arguments.function(arguments)
        return 0
    except InputError as error:
        message = str(error)
    except Superseded as error:
        with suppress(OSError):  # a terminal that was closed
            print(f"note: {error}", file=console or sys.stderr, flush=True)
        return 0
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130
    except UnicodeEncodeError as error:
        message = str(outside_locale(error))
    except OSError as error:
        # A file that cannot be read or a folder that cannot be made is no fault of the program's.
        where = error.filename or arguments.command
        message = str(InputError(f"{where}: {error.strerror or error}; fix that and run again"))
    except SystemExit:  # --help
        raise
    except BaseException as error:  # the panics of libraries in Rust are no `Exception`
        if is_out_of_memory(error):
            message = (
                f"{arguments.command}: too little memory for this row; set a smaller micro_batch_size or"
                " features.max_memory_mb, precision: bfloat16, or another device"
            )
        elif console is not None:
            print(without_secrets(traceback.format_exc()), file=sys.stderr, end="")
            message = f"{arguments.command} failed ({type(error).__name__}); see its log: {arguments.log}"
        elif _is_fault_of_this_program(error):
            raise
        else:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            message = str(InputError(f"{arguments.command} failed ({reason}); --log FILE writes the details to a file"))
    logger.error(message)
    if console is not None:
        with suppress(OSError):  # a terminal that was closed
            print(f"error: {message}", file=console, flush=True)
    return 1


def _is_fault_of_this_program(error: BaseException) -> bool:
    """Whether an exception comes from the package's own code, not from a library under it."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return isinstance(error, Exception) and Path(frame.f_code.co_filename).is_relative_to(Path(__file__).parent)

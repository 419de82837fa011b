"""The command line: `gpt2-ablations COMMAND`, one command for each rule of the workflow."""

import argparse
import json
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from .common.errors import InputError, Superseded
from .common.logs import log_to
from .common.progress import job_progress
from .settings.config import (
    ROW_ID,
    Config,
    check_against_model,
    load_config,
    load_experiments,
    load_models,
    named_model,
    select_rows,
)
from .settings.experiment import Experiment, add_experiment_flags, experiment_from_flags
from .settings.paths import Paths


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog.split()[-1]}: {message}; see --help")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command and its arguments.

    Raises:
        InputError: they are not known.
    """
    parser = _Parser(prog="gpt2_ablations", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(function: Callable[[argparse.Namespace], None], needs_config: bool = True) -> argparse.ArgumentParser:
        name, summary = function.__name__.removesuffix("_command").replace("check_s", "check-s"), function.__doc__
        sub = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if needs_config:
            sub.add_argument(
                "--config",
                nargs="+",
                default=["config/config.yaml"],
                metavar="FILE",
                help="configuration files, later ones override earlier ones (default: config/config.yaml)",
            )
        sub.add_argument("--log", type=Path, metavar="FILE", help="write messages to this file")
        sub.set_defaults(function=function)
        return sub

    command(check_command)
    command(check_sources_command)
    sub = command(plan_command)
    sub.add_argument("--row", nargs="+", action="extend", type=_row_id, metavar="ID", help="default: the selected rows")
    sub.add_argument("--json", action="store_true", help="as data, for programs")
    sub = command(status_command)
    sub.add_argument("--row", nargs="+", action="extend", type=_row_id, metavar="ID", help="default: the selected rows")
    sub.add_argument(
        "--watch", action="store_true", help="keep looking until all is done; in a pipe, print what changes"
    )
    sub.add_argument("--json", action="store_true", help="as data, for programs")
    command(fetch_messages_command)
    command(fetch_tokenizer_command)
    command(fetch_weights_command).add_argument("--model", required=True, help="a name in the models file")
    command(split_messages_command)
    command(tokenize_command)
    sub = command(extract_features_command)
    sub.add_argument("--spec", required=True, help="what to run, as JSON (see feature_spec.FeatureSpec)")
    sub.add_argument("--output", required=True, type=Path, metavar="FILE")
    sub = command(train_command)
    add_experiment_flags(sub)
    sub.add_argument("--seed", type=_seed, help="default: the first of the configuration's seeds")
    sub.add_argument(
        "--row", type=_row_id, default="manual", help="the id to write into metrics.json (default: %(default)s)"
    )
    sub.add_argument("--features", type=Path, metavar="FILE", help="hidden states of the frozen part; else computed")
    sub.add_argument("--output", type=Path, metavar="DIR", help="default: results/manual/ and the flags")
    sub = command(predict_command)
    _add_saved_model(sub)
    sub.add_argument("text", nargs="*", metavar="TEXT", help="a message; - reads standard input, a message a line")
    sub.add_argument("--file", metavar="FILE", help="messages, one a line; - for standard input")
    sub.add_argument("--column", metavar="NAME", help="the file is a CSV file: take the messages from this column")
    sub.add_argument("--format", choices=("text", "csv", "json"), default="text", help="default: %(default)s")
    sub = command(export_command)
    _add_saved_model(sub)
    sub.add_argument("--output", required=True, type=Path, metavar="DIR", help="a new folder")
    command(table_command)
    command(compare_command)
    command(interpret_command)
    command(draw_command)
    command(draw_rows_command).add_argument(
        "--row", nargs="+", action="extend", metavar="ID", help="default: the selected rows that have run"
    )
    command(pages_command)
    sub = command(readme_command)
    sub.add_argument("--readme", default=Path("README.md"), type=Path, metavar="FILE")
    sub.add_argument("--check", action="store_true", help="change nothing; fail with a diff if it is stale")
    sub = command(generate_messages_command, needs_config=False)
    sub.add_argument("--output", required=True, type=Path, metavar="FILE")
    sub = command(pretrain_miniature_command, needs_config=False)
    sub.add_argument("--model", required=True, help="its dimensions, as JSON by name")
    sub.add_argument("--output", required=True, type=Path, metavar="FILE")
    return parser.parse_args(argv)


def _add_saved_model(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--row", type=_row_id, metavar="ID", help="a row that has run with keep_models: true")
    which.add_argument("--model", type=Path, metavar="FILE", help="the model.safetensors of any such run")
    parser.add_argument("--seed", type=_seed, help="of the row; default: the first of the configuration's seeds")


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed; allowed: 0 to {2**63 - 1}")
    return int(text)


def _row_id(text: str) -> str:
    if not ROW_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no row id; use up to 64 letters, digits, '_' and '-'")
    return text


def _json(flag: str, text: str) -> dict:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{flag} is {text!r}, not valid JSON ({error}); copy it from the workflow's command") from None
    if not isinstance(content, dict) or not content:
        raise InputError(f"{flag} is {text!r}; expected a JSON object; copy it from the workflow's command")
    return content


# torch takes two seconds to import: only the commands that need it do.


def check_command(arguments: argparse.Namespace) -> None:
    """check the configuration and every file it names"""
    from .planning.checks import check_configuration, check_sources_on_disk

    config = load_config(arguments.config)
    models = load_models(config.models)
    experiments = load_experiments(config.experiments, models, config.models)
    selected = select_rows(config, experiments)
    check_configuration(config, models, experiments)
    check_sources_on_disk(config, models, selected)
    print(f"fine: {len(experiments)} rows, {len(selected)} of them selected, with {len(config.seeds)} seeds")


def check_sources_command(arguments: argparse.Namespace) -> None:
    """ask every configured source for its file, without fetching it"""
    from .data.download.check_sources import check_sources, format_answers, without_source

    config = load_config(arguments.config)
    answers = check_sources(config, load_models(config.models))
    print(format_answers(answers))
    if lacking := without_source(answers):
        raise InputError(f"no source has {', '.join(lacking)}")


def plan_command(arguments: argparse.Namespace) -> None:
    """say what a run would fetch, compute and need, and how long it would take here"""
    from .planning.plan import plan_invocation
    from .planning.plan_report import format_plan
    from .planning.workflow import load_workflow

    plan = plan_invocation(load_workflow(arguments.config, arguments.row))
    print(json.dumps(plan.as_json(), indent=2) if arguments.json else format_plan(plan))


def status_command(arguments: argparse.Namespace) -> None:
    """show how far each row of a running or finished workflow is"""
    from .monitoring.status import look
    from .monitoring.status_report import format_status, watch
    from .planning.workflow import load_workflow

    plan = load_workflow(arguments.config, arguments.row)
    if arguments.watch:
        watch(plan, as_json=arguments.json)
    else:
        status = look(plan)
        print(json.dumps(status.as_json(), indent=2) if arguments.json else format_status(status))


def fetch_messages_command(arguments: argparse.Namespace) -> None:
    """download the messages, or take a local copy"""
    from .finetuning import jobs

    jobs.fetch_messages(load_config(arguments.config))


def fetch_tokenizer_command(arguments: argparse.Namespace) -> None:
    """download the tokenizer's files, or take local copies"""
    from .finetuning import jobs

    jobs.fetch_tokenizer(load_config(arguments.config))


def fetch_weights_command(arguments: argparse.Namespace) -> None:
    """fetch and check the weights of one GPT-2 size"""
    config = load_config(arguments.config)
    named_model(arguments.model, load_models(config.models), "fetch_weights: model", config.models)
    paths = Paths(config.results)
    with job_progress(paths.progress(paths.weights(arguments.model)), job="fetch"):
        from .finetuning import jobs

        jobs.fetch_weights(config, arguments.model)


def split_messages_command(arguments: argparse.Namespace) -> None:
    """cut the messages into three balanced splits"""
    from .finetuning import jobs

    jobs.split(load_config(arguments.config))


def tokenize_command(arguments: argparse.Namespace) -> None:
    """turn the splits into token ids"""
    from .finetuning import jobs

    jobs.tokenize(load_config(arguments.config))


def extract_features_command(arguments: argparse.Namespace) -> None:
    """run the frozen part of a model over all messages"""
    from .settings.feature_spec import FeatureSpec

    try:
        spec = FeatureSpec(**_json("--spec", arguments.spec))
    except TypeError as error:
        raise InputError(f"--spec is {arguments.spec!r} ({error}); copy it from the workflow's command") from None
    config = load_config(arguments.config)
    with job_progress(Paths(config.results).progress(arguments.output), job="features"):
        from .finetuning import jobs

        jobs.extract_features(config, spec, arguments.output)


def train_command(arguments: argparse.Namespace) -> None:
    """finetune one row; takes the reference's flags"""
    experiment = experiment_from_flags(arguments)
    config = load_config(arguments.config)
    check_against_model(experiment, load_models(config.models), "train", config.models)
    seed = config.seeds[0] if arguments.seed is None else arguments.seed
    name = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(experiment.flags())).strip("-") or "defaults"
    output = arguments.output or Path(config.results, "manual", name, f"seed-{seed}")
    with job_progress(Paths(config.results).progress(output), job="train", row=arguments.row, seed=seed):
        from .finetuning import jobs

        metrics = jobs.train(config, experiment, seed, arguments.row, arguments.features, output)
    row = "" if arguments.row == "manual" else f"row {arguments.row}, "
    print(
        f"{row}seed {seed}: training {metrics['train_acc']:.2%}, validation {metrics['val_acc']:.2%},"
        f" test {metrics['test_acc']:.2%}; {output}"
    )


def predict_command(arguments: argparse.Namespace) -> None:
    """classify messages with a row's trained layers, which `keep_models: true` keeps"""
    from .inference.prediction_files import STANDARD_INPUT, read_texts, write_predictions

    file = STANDARD_INPUT if arguments.text == [STANDARD_INPUT] else arguments.file
    if not arguments.text and file is None:
        raise InputError("predict: no message; give texts, --file FILE, or - for standard input")
    if arguments.text and arguments.file is not None:
        raise InputError("predict: texts and --file are both given; leave one of them out")
    if file is None and arguments.column is not None:
        raise InputError("predict: --column names a column of --file; add --file FILE")
    config = load_config(arguments.config)
    from .inference.prediction import load_predictor

    predictor = load_predictor(config, _saved_model_file(config, arguments))
    texts = arguments.text if file is None else read_texts(file, arguments.column)
    write_predictions(predictor.predict(texts), arguments.format, sys.stdout)


def export_command(arguments: argparse.Namespace) -> None:
    """write a row's whole model as a folder that the transformers library loads"""
    config = load_config(arguments.config)
    from .inference.export import export
    from .inference.saved_models import load_saved_model

    export(*load_saved_model(_saved_model_file(config, arguments)), Paths(config.results), arguments.output)
    print(f"{arguments.output}: README.md says how to read it")


def _saved_model_file(config: Config, arguments: argparse.Namespace) -> Path:
    from .inference.saved_models import saved_model_file

    if arguments.model is not None:
        return arguments.model
    seed = config.seeds[0] if arguments.seed is None else arguments.seed
    return saved_model_file(Paths(config.results), arguments.row, seed)


def table_command(arguments: argparse.Namespace) -> None:
    """write the table as markdown and as data"""
    from .common.files import write_text_whole
    from .reports.table import table_csv, table_markdown
    from .runs.finished_runs import read_runs

    config = load_config(arguments.config)
    rows = select_rows(config, _experiments(config))
    runs = read_runs(config, rows)
    paths = Paths(config.results)
    write_text_whole(paths.table, table_markdown(rows, runs))
    write_text_whole(paths.table_data, table_csv(rows, runs))


def compare_command(arguments: argparse.Namespace) -> None:
    """write what was published beside what was reproduced"""
    from .common.files import write_text_whole
    from .reports.comparison import comparison_markdown

    config = load_config(arguments.config)
    write_text_whole(Paths(config.results).comparison, comparison_markdown(config, _experiments(config)))


def interpret_command(arguments: argparse.Namespace) -> None:
    """answer the questions of the comparisons file from this run"""
    from .common.files import write_text_whole
    from .reports.interpretation import interpretation_markdown

    config = load_config(arguments.config)
    write_text_whole(Paths(config.results).interpretation, interpretation_markdown(config, _experiments(config)))


def draw_command(arguments: argparse.Namespace) -> None:
    """draw the pictures of the whole table"""
    from .reports.figures.draw import draw_figures

    config = load_config(arguments.config)
    draw_figures(config, _experiments(config), Paths(config.results).plots)


def draw_rows_command(arguments: argparse.Namespace) -> None:
    """draw the curves of each row"""
    from .reports.figures.draw import draw_row
    from .runs.finished_runs import read_runs

    config = load_config(arguments.config)
    experiments = _experiments(config)
    runs = read_runs(config, select_rows(config, experiments))
    for row in arguments.row or [row for row, found in runs.items() if found]:
        draw_row(config, experiments, row, Paths(config.results).plots / "rows")


def pages_command(arguments: argparse.Namespace) -> None:
    """write the report's pages: tables, configuration, and the logs of each row"""
    from .reports.pages import write_pages

    config = load_config(arguments.config)
    experiments = _experiments(config)
    write_pages(config, experiments, select_rows(config, experiments))


def readme_command(arguments: argparse.Namespace) -> None:
    """write the table into the README, between its markers"""
    from .reports.readme import readme_block, readme_difference, update_readme
    from .reports.table import table_markdown
    from .runs.finished_runs import read_runs

    config = load_config(arguments.config)
    experiments = _experiments(config)
    rows = select_rows(config, experiments)
    runs = read_runs(config, rows)
    block = readme_block(table_markdown(rows, runs), sum(map(bool, runs.values())), len(experiments))
    if arguments.check:
        if difference := readme_difference(arguments.readme, block):
            print(difference)
            raise InputError(f"{arguments.readme}: its table is stale; run `snakemake --cores all readme`")
    elif update_readme(arguments.readme, block):
        print(f"{arguments.readme}: table updated")


def generate_messages_command(arguments: argparse.Namespace) -> None:
    """write the demo's messages"""
    from .data.demo_language import generate_messages

    generate_messages(arguments.output)


def pretrain_miniature_command(arguments: argparse.Namespace) -> None:
    """pretrain one of the demo's miniature models"""
    from pydantic import ValidationError

    from .gpt2.pretraining import pretrain
    from .settings.config import ModelConfig
    from .settings.validation import input_error

    entry = next(iter(_json("--model", arguments.model).values()))
    try:
        model = ModelConfig.model_validate(entry)
    except ValidationError as error:
        raise input_error(error, "--model", ModelConfig.model_fields) from None
    pretrain(model, arguments.output, seed=123)


def _experiments(config: Config) -> dict[str, Experiment]:
    return load_experiments(config.experiments, load_models(config.models), config.models)


def main(argv: list[str] | None = None) -> int:
    """Run one command; a user's mistake prints one line and gives exit code 1."""
    console = None
    try:
        arguments = parse(argv)
        if arguments.log:
            console = log_to(arguments.log)
        arguments.function(arguments)
        return 0
    except InputError as error:
        message = f"error: {error}"
    except Superseded as error:
        with suppress(OSError):  # a terminal that was closed
            print(f"note: {error}", file=console or sys.stderr, flush=True)
        return 0
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        # A file that cannot be read and a folder that cannot be made are no fault of the program's.
        place = error.filename or arguments.command
        message = f"error: {InputError(f'{place}: {error.strerror or error}; fix that and run again')}"
    except Exception as error:
        if _is_out_of_memory(error):
            message = (
                f"error: {arguments.command}: too little memory for this row; set a smaller micro_batch_size or"
                " features.max_memory_mb, precision: bfloat16, or another device"
            )
        elif console is None:
            raise
        else:
            traceback.print_exc()
            message = f"error: {arguments.command} failed ({type(error).__name__}); its log says where: {arguments.log}"
    for stream in (sys.stderr, console):
        if stream is not None:
            with suppress(OSError):  # a terminal that was closed
                print(message, file=stream, flush=True)
    return 1


def _is_out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory on the host, or on a GPU, for something other than a batch."""
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and isinstance(error, torch.OutOfMemoryError)
    return on_gpu or isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate" in str(error)

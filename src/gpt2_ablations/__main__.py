"""The command line: `python -m gpt2_ablations COMMAND`, one command for each rule of the workflow."""

import argparse
import os
import re
import sys
from pathlib import Path

# Large buffers on huge pages: fewer page faults where every step allocates its activations anew.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from .config import Config, load_config
from .errors import InputError
from .experiment import add_experiment_flags, experiment_from_flags


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise InputError(f"{self.prog.split()[-1]}: {message}; see --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="gpt2_ablations", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(function, summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(function.__name__.replace("_command", ""), help=summary, description=summary,
                                  allow_abbrev=False)
        sub.add_argument("--config", nargs="+", default=["config/config.yaml"], metavar="FILE",
                         help="configuration files, later ones override earlier ones (default: %(default)s)")
        sub.set_defaults(function=function)
        return sub

    command(split_messages_command, "cut the messages into three balanced splits")
    command(tokenize_command, "turn the splits into token ids")
    sub = command(extract_features_command, "run the frozen part of a model over all messages")
    sub.add_argument("--spec", required=True, help="what to run, as JSON (see features.FeatureSpec)")
    sub.add_argument("--output", required=True, type=Path, metavar="FILE")
    sub = command(train_command, "finetune one row; takes the document's flags")
    add_experiment_flags(sub)
    sub.add_argument("--seed", type=int, help="default: the first of the configuration's seeds")
    sub.add_argument("--row", default="manual", help="the id to write into metrics.json (default: %(default)s)")
    sub.add_argument("--features", type=Path, metavar="FILE", help="hidden states of the frozen part; else computed")
    sub.add_argument("--output", type=Path, metavar="DIR", help="default: results/manual/ and the flags")
    return parser


def split_messages_command(config: Config, arguments: argparse.Namespace) -> None:
    from . import jobs

    jobs.split(config)


def tokenize_command(config: Config, arguments: argparse.Namespace) -> None:
    from . import jobs

    jobs.tokenize(config)


def extract_features_command(config: Config, arguments: argparse.Namespace) -> None:
    import json

    from . import jobs
    from .features import FeatureSpec

    jobs.extract_features(config, FeatureSpec(**json.loads(arguments.spec)), arguments.output)


def train_command(config: Config, arguments: argparse.Namespace) -> None:
    experiment = experiment_from_flags(arguments)
    from . import jobs

    seed = config.seeds[0] if arguments.seed is None else arguments.seed
    name = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(experiment.flags())).strip("-") or "defaults"
    output = arguments.output or Path(config.results, "manual", name, f"seed-{seed}")
    metrics = jobs.train(config, experiment, seed, arguments.row, arguments.features, output)
    print(
        f"training {metrics['train_acc']:.2%}, validation {metrics['val_acc']:.2%}, test {metrics['test_acc']:.2%}:"
        f" {output}"
    )


def main(argv: list[str] | None = None) -> int:
    """Run one command; a user's mistake prints one line and gives exit code 1."""
    try:
        arguments = _parser().parse_args(argv)
        arguments.function(load_config(arguments.config), arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

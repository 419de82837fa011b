"""The command line: one spelling of each command, under two names of the program."""

import re
import tomllib
from importlib.metadata import entry_points

import pytest

from gpt2_ablations.cli import main, parse
from gpt2_ablations.common.errors import InputError
from gpt2_ablations.common.gpus import SHARE_GPUS_VARIABLE
from tests.conftest import CHECKOUT

COMMANDS = [
    "init",
    "check",
    "check-sources",
    "plan",
    "status",
    "fetch-messages",
    "fetch-tokenizer",
    "fetch-weights",
    "split-messages",
    "tokenize",
    "extract-features",
    "train",
    "predict",
    "export",
    "table",
    "compare",
    "interpret",
    "draw",
    "draw-rows",
    "pages",
    "readme",
    "generate-messages",
    "pretrain-miniature",
]
REQUIRED = {
    "init": ["d"],
    "fetch-weights": ["--model", "m"],
    "extract-features": ["--spec", "{}", "--output", "f"],
    "predict": ["--row", "1"],
    "export": ["--row", "1", "--output", "d"],
    "generate-messages": ["--output", "f"],
    "pretrain-miniature": ["--model", "{}", "--output", "f"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_spelled_with_dashes_and_their_underscore_form_works_too(command):
    arguments = REQUIRED.get(command, [])
    assert parse([command, *arguments]) == parse([command.replace("-", "_"), *arguments])
    assert parse([command, *arguments]).command == command


def test_help_lists_every_command_and_no_other(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    listed = re.findall(r"^ {4}([a-z-]+)", capsys.readouterr().out, flags=re.MULTILINE)
    assert listed == COMMANDS


def test_an_unknown_command_is_one_line_that_names_the_commands():
    with pytest.raises(InputError, match=r"^gpt2-ablations: .*invalid choice: 'trian'.*train.*; see --help$"):
        parse(["trian"])


def test_the_program_is_installed_under_a_name_of_its_own():
    scripts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"gpt2-ablations": "gpt2_ablations.__main__:run"}
    (installed,) = entry_points(group="console_scripts", name="gpt2-ablations")
    assert callable(installed.load())


def test_the_former_name_of_a_variable_is_refused_by_every_command(monkeypatch, capsys):
    monkeypatch.setenv("GPT2_ABLATIONS_SHARE_CARDS", "1")
    assert main(["check"]) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "GPT2_ABLATIONS_SHARE_CARDS" in line and SHARE_GPUS_VARIABLE in line


def test_check_counts_rows_and_seeds(monkeypatch, capsys):
    monkeypatch.chdir(CHECKOUT)
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "OK: 19 rows (19 selected), 1 seed\n"

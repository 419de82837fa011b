"""No input reaches a shell without quotes, and no error shows a secret. Ruff finds Python that could run its input."""

import re
from pathlib import Path

import pytest

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.planning.workflow import sources_as_parameters
from tests.conftest import CHECKOUT

RULES = [CHECKOUT / "Snakefile", *sorted((CHECKOUT / "workflow" / "rules").glob("*.smk"))]


def placeholders(file: Path) -> list[str]:
    """The `{…}` of a rule file's shell commands."""
    commands = re.findall(r"^    shell:\n((?:        .*\n)+)", file.read_text(), flags=re.MULTILINE)
    return [name for command in commands for name in re.findall(r"\{([^{}]*)\}", command)]


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.name)
def test_every_value_in_a_shell_command_is_quoted(file):
    assert [name for name in placeholders(file) if not name.endswith(":q")] == []


def test_the_values_of_shell_commands_are_found():
    assert {"log:q", "params.command:q", "params.flags:q"} <= {name for file in RULES for name in placeholders(file)}


def test_rules_have_shell_commands_only():
    for file in RULES:
        assert not re.search(r"^    (run|script|notebook|wrapper):", file.read_text(), flags=re.MULTILINE), file


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://user:hush@host/file: no", "at https://host/file: no"),
        ("at https://hush@host: no", "at https://host: no"),
        ("https://host/file?token=hush: HTTP 404; next", "https://host/file?…: HTTP 404; next"),
        ("['https://u:hush@host/a?k=hush', 'b']", "['https://host/a?…', 'b']"),
        ("hf://org/repo@REVISION/file: gone", "hf://org/repo@REVISION/file: gone"),
        ("mail me@host or say why?", "mail me@host or say why?"),
        ("a\nb\x1b[31mc", "a?b?[31mc"),
    ],
)
def test_an_error_is_one_line_without_secrets(text, shown):
    assert str(InputError(text)) == shown


def test_printed_parameters_hold_no_secret_and_differ_by_source():
    one, other = sources_as_parameters(["https://u:hush@host/file", "https://u:hash@host/file"])
    assert one != other and one.startswith("https://host/file ") and "hush" not in one
    assert sources_as_parameters(["data/file", "https://host/file"]) == ["data/file", "https://host/file"]


@pytest.mark.parametrize("key", ["results", "dataset", "tokenizer", "rows", "seeds", "published"])
def test_an_address_under_a_wrong_key_shows_no_secret(project, key):
    for value in ("https://user:hush@host/file?key=hush", ["https://user:hush@host/file?key=hush", {}]):
        project.contents["config.yaml"][key] = value
        project.save("config.yaml")
        assert "hush" not in project.check().err

"""No input reaches a shell without quotes, and no error shows a secret. Ruff finds Python that could run its input."""

import re
from pathlib import Path

import pytest

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.common.files import write_text_whole
from gpt2_ablations.data.download.sources import printable_source
from gpt2_ablations.planning.workflow import sources_as_parameters
from gpt2_ablations.settings.config import load_config
from gpt2_ablations.settings.models import check_model
from tests.conftest import CHECKOUT, write_yaml

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
        ("at https://user:hu'sh@host/file", "at https://host/file"),
        ("at https://user:hu/sh@host/file", "at https://host/file"),
        ("at https://user:hu?sh#h@host/file", "at https://host/file"),
        ("[https://host/file?token=hu'sh]", "[https://host/file?…]"),
        ("https://host:8080/path@1/file, 'me@host'", "https://host:8080/path@1/file, 'me@host'"),
        ("https://host: gone; ask me@host", "https://host: gone; ask me@host"),
        ("mail me@host or say why?", "mail me@host or say why?"),
        ("a\nb\x1b[31mc", "a?b?[31mc"),
    ],
)
def test_an_error_is_one_line_without_secrets(text, shown):
    assert str(InputError(text)) == shown


def test_a_source_is_shown_without_a_password_of_any_form():
    for password in ("hush", "hu sh", "hu/sh", "hu?sh", "hu#sh", "hu'sh", 'hu"sh', "hu:sh", "hu@sh"):
        for scheme in ("https", "file", "s3"):
            assert printable_source(f"{scheme}://user:{password}@host/file") == f"{scheme}://host/file"
    assert printable_source("data/a b?c@d.csv") == "data/a b?c@d.csv"


def test_notes_and_labels_lose_the_secrets_of_addresses(tmp_path):
    secret, shown = "from https://user:hush@host/file?key=hush", "from https://host/file?…"
    own = write_yaml(tmp_path / "own.yaml", {"note": secret})
    assert load_config([CHECKOUT / "config" / "config.yaml", own]).note == shown
    model = {"n_layer": 1, "n_head": 1, "n_embd": 1, "n_positions": 1, "source": "a", "label": secret}
    assert check_model(model, "models").label == shown


def test_files_that_hold_a_secret_are_readable_by_their_owner_alone(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("old")
    write_text_whole(file, "new", private=True)
    assert file.read_text() == "new" and file.stat().st_mode & 0o777 == 0o600


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

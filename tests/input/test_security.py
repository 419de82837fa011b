"""No input can run code: no pickle, no unsafe YAML, no unquoted value in a shell command."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.planning.workflow import sources_as_parameters
from tests.conftest import CHECKOUT

SOURCES = sorted((CHECKOUT / "src").rglob("*.py"))
RULES = [CHECKOUT / "Snakefile", *sorted((CHECKOUT / "workflow" / "rules").glob("*.smk"))]
# Modules that unpickle; functions that unpickle, run code or start a shell.
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads"}
CALLS |= {"torch.load", "torch.jit.load", "torch.hub.load", "np.load", "numpy.load", "subprocess.getoutput"}
METHODS = {"read_pickle", "to_pickle", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}


def dotted(node: ast.AST) -> str:
    """The dotted name of a called expression, such as `torch.load`; its last part alone if the object has no name."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else node.attr
    return node.id if isinstance(node, ast.Name) else ""


def dangers(text: str) -> Iterator[str]:
    """The names in a source text that could run what they read."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in MODULES:
                yield node.module
            yield from (name.name for name in node.names if name.name in ("load_pickle", "read_pickle"))
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS or name.rpartition(".")[2] in METHODS:
                yield name
            loaders = [dotted(keyword.value) for keyword in node.keywords if keyword.arg == "Loader"]
            if name == "yaml.load" and loaders != ["_StrictLoader"]:
                yield f"yaml.load with {loaders}"
            if any(keyword.arg == "shell" and getattr(keyword.value, "value", True) for keyword in node.keywords):
                yield f"{name} with shell"
            if any(keyword.arg == "allow_pickle" for keyword in node.keywords):
                yield f"{name} with allow_pickle"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.stem)
def test_no_module_can_run_what_it_reads(file):
    assert list(dangers(file.read_text())) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=True)",
        "import numpy as np\nnp.load('x')",
        "import pandas as pd\npd.read_pickle('x')",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import yaml\nyaml.load(text)",
        "import yaml\nyaml.unsafe_load(text)",
        "import subprocess\nsubprocess.run(text, shell=True)",
        "eval(text)",
    ],
)
def test_code_that_could_run_its_input_is_found(text):
    assert list(dangers(text))


def test_the_yaml_loader_is_a_safe_loader():
    tree = ast.parse((CHECKOUT / "src" / "gpt2_ablations" / "settings" / "schema" / "yaml_files.py").read_text())
    (loader,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "_StrictLoader")
    assert [dotted(base) for base in loader.bases] == ["yaml.SafeLoader"]


def placeholders(file: Path) -> list[str]:
    """The `{…}` of a rule file's shell commands."""
    commands = re.findall(r"^    shell:\n((?:        .*\n)+)", file.read_text(), flags=re.MULTILINE)
    return [name for command in commands for name in re.findall(r"\{([^{}]*)\}", command)]


# `wildcard_constraints` limits these to letters, digits, '_' and '-'.
PLAIN = {"wildcards.row", "wildcards.seed"}


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.name)
def test_every_value_in_a_shell_command_is_quoted(file):
    assert [name for name in placeholders(file) if not name.endswith(":q") and name not in PLAIN] == []


def test_the_values_of_shell_commands_are_found():
    assert {"log:q", "wildcards.row", "params.flags:q"} <= {name for file in RULES for name in placeholders(file)}


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

"""The digests of code by which jobs run again."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2_ablations.common import source_code
from gpt2_ablations.common.source_code import command_digest, command_modules, is_not_counted
from tests.conftest import CHECKOUT, environment

# The commands whose digest is a parameter of a rule.
COMMANDS = sorted(
    {
        command
        for rules in (CHECKOUT / "workflow" / "rules").glob("*.smk")
        for call in re.findall(r"command_digest\((.*?)\)", rules.read_text())
        for command in re.findall(r'"([\w-]+)"', call)
    }
)
# Prints the modules of the package that a command's function imports.
IMPORTS = """
import ast, json, os, sys
import gpt2_ablations.cli as cli
tree = ast.parse(open(cli.__file__).read())
for command in sys.argv[1:]:
    name = command.replace("-", "_") + "_command"
    (function,) = [node for node in tree.body if getattr(node, "name", "") == name]
    if os.fork() == 0:
        before = set(sys.modules)
        for node in ast.walk(function):
            if isinstance(node, ast.ImportFrom):
                exec(compile(ast.Module([node], []), "-", "exec"), vars(cli))
        print(json.dumps([command, sorted(set(sys.modules) - before)]), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A copy of the package, whose code the digests are of."""
    folder = tmp_path / "gpt2_ablations"
    shutil.copytree(source_code.PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source_code, "PACKAGE", folder)
    forget()
    yield folder
    monkeypatch.undo()
    forget()


def forget() -> None:
    for function in (command_digest, command_modules, source_code._imports_of, source_code._module_digest):
        function.cache_clear()


def digest_after(file: Path, text: str, *commands: str) -> str:
    """The digest of the commands once the file has another text."""
    before = file.read_text()
    file.write_text(text)
    forget()
    found = command_digest(*commands)
    file.write_text(before)
    forget()
    return found


def test_every_rule_that_computes_has_a_digest():
    assert {"split-messages", "tokenize", "extract-features", "train", "table", "draw", "pages"} <= set(COMMANDS)


def test_a_digest_covers_every_module_that_its_command_imports_but_those_that_change_no_number():
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *COMMANDS], env=environment(), capture_output=True, text=True, check=True
    )
    imported = dict(map(json.loads, done.stdout.splitlines()))
    assert imported.keys() == set(COMMANDS)
    for command, names in imported.items():
        modules = {
            name.replace(".", "/").removeprefix("gpt2_ablations/") for name in names if "gpt2_ablations." in name
        }
        modules = {module for module in modules if (source_code.PACKAGE / f"{module}.py").is_file()}
        listed = {module for module in modules if is_not_counted(module)}
        # What only modules on the list import, such as the text of a progress bar.
        for_listed = {imported for module in listed for imported in source_code._imports_of(module)}
        assert not modules - command_modules(command) - listed - for_listed, command


def test_the_list_of_modules_that_change_no_number_names_modules_and_folders():
    for name in source_code.NOT_COUNTED:
        assert (source_code.PACKAGE / f"{name}.py").is_file() or (source_code.PACKAGE / name).is_dir(), name


def test_a_change_of_any_module_changes_its_digest(package):
    modules = {module for command in COMMANDS for module in command_modules(command)}
    before = {module: source_code._module_digest(module) for module in modules}
    for module in modules:
        with open(package / f"{module}.py", "a") as file:
            file.write("\nCHANGED = 1\n")
    source_code._module_digest.cache_clear()
    assert {module for module in modules if source_code._module_digest(module) == before[module]} == set()


def test_a_change_of_a_module_changes_the_digests_of_the_commands_that_import_it(package):
    before = {command: command_digest(command) for command in COMMANDS}
    with open(package / "gpt2" / "model.py", "a") as file:
        file.write("\nCHANGED = 1\n")
    forget()
    changed = {command for command in COMMANDS if command_digest(command) != before[command]}
    assert changed == {"extract-features", "train", "pretrain-miniature"}


def test_a_change_of_a_command_itself_changes_its_digest_alone(package):
    before = command_digest("train"), command_digest("table")
    file = package / "cli.py"
    changed = file.read_text().replace("metrics = train(", "metrics = (lambda *a: train(*a))(")
    assert changed != file.read_text()
    assert digest_after(file, changed, "train") != before[0] and digest_after(file, changed, "table") == before[1]


def test_comments_docstrings_layout_and_words_of_messages_do_not_count(package):
    loop = package / "finetuning" / "loop.py"
    before = command_digest("train")
    loop.write_text("# A comment.\n\n\n" + ast.unparse(ast.parse(loop.read_text())))
    batches = package / "finetuning" / "batches.py"
    batches.write_text(re.sub(r'""".*?"""', '"""Another docstring."""', batches.read_text(), flags=re.DOTALL))
    tokens = package / "data" / "tokens.py"
    assert "damaged; delete it" in tokens.read_text()
    tokens.write_text(tokens.read_text().replace("damaged; delete it", "broken; remove it"))
    experiment = package / "settings" / "experiment.py"
    assert "option(" in experiment.read_text()
    experiment.write_text(re.sub(r'option\(\s*"', 'option("Described otherwise. ', experiment.read_text()))
    forget()
    assert command_digest("train") == before


def test_an_import_inside_a_function_counts(package):
    (package / "gpt2" / "other.py").write_text("VALUE = 1\n")
    model = package / "gpt2" / "model.py"
    model.write_text(model.read_text() + "\n\ndef f():\n    from .other import VALUE\n\n    return VALUE\n")
    forget()
    assert "gpt2/other" in command_modules("train")
    before = command_digest("train")
    assert digest_after(package / "gpt2" / "other.py", "VALUE = 2\n", "train") != before

"""What the numbers of a command depend on in the source code: a digest that changes when they can change.

A command's code is its function in cli.py and every module of the package that it imports, also indirectly and inside
functions. Comments, docstrings, the layout, and the words of errors and of options do not count.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

from .hashing import digest

PACKAGE = Path(__file__).parents[1]
# Modules that change no number: files, logs, downloads (checked by sha256), refusals, and settings, whose values count.
# A module that is not listed here counts.
NOT_COUNTED = {
    "common/errors",
    "common/files",
    "common/gpus",
    "common/hardware",
    "common/hashing",
    "common/logs",
    "common/progress",
    "common/source_code",
    "common/unfinished_files",
    "data/download",
    "data/fit",
    "data/provenance",
    "finetuning/checkpoints",
    "finetuning/training_log",
    "runs/made_from",
    "settings/config",
    "settings/manual",
    "settings/models",
    "settings/paths",
    "settings/rows",
    "settings/schema",
}


@cache
def command_digest(*commands: str) -> str:
    """A digest of the code of some commands, as 16 hexadecimal digits.

    Args:
        commands: as the command line names them, such as `extract-features`.
    """
    modules = {module for command in commands for module in command_modules(command)}
    parts = [_canonical(_command_function(command)) for command in commands]
    parts += [f"{module} {_module_digest(module)}" for module in sorted(modules)]
    return digest("\n\n".join(parts))


@cache
def command_modules(command: str) -> frozenset[str]:
    """The modules that a command's digest covers, as paths below the package without `.py`."""
    waiting = _imported(_command_function(command), PACKAGE)
    counted: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in counted and not is_not_counted(module):
            counted.add(module)
            waiting |= _imports_of(module)
    return frozenset(counted)


def is_not_counted(module: str) -> bool:
    """Whether a module is on the list of those that change no number, itself or with its folder."""
    return module in NOT_COUNTED or any(str(folder) in NOT_COUNTED for folder in Path(module).parents)


def _parsed(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_bytes())


def _command_function(command: str) -> ast.stmt:
    name = command.replace("-", "_") + "_command"
    return next(node for node in _parsed("cli").body if isinstance(node, ast.FunctionDef) and node.name == name)


@cache
def _imports_of(module: str) -> frozenset[str]:
    return frozenset(_imported(_parsed(module), (PACKAGE / module).parent))


def _imported(code: ast.AST, folder: Path) -> set[str]:
    """The modules that code in a folder of the package imports from the package."""
    found = set()
    for node in ast.walk(code):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = folder
        for _ in range(node.level - 1):
            base = base.parent
        base = base.joinpath(*(node.module or "").split("."))
        # `from .package import module` imports modules, `from .module import name` a module's names.
        for path in (base, base / "__init__", *(base / alias.name for alias in node.names)):
            if path.with_suffix(".py").is_file():
                found.add(path.relative_to(PACKAGE).as_posix())
    return found


@cache
def _module_digest(module: str) -> str:
    return hashlib.sha256(_canonical(_parsed(module)).encode()).hexdigest()


def _canonical(code: ast.AST) -> str:
    """Code as text without what changes no number."""
    return ast.unparse(_WithoutWords().visit(code))


class _WithoutWords(ast.NodeTransformer):
    """Removes docstrings, what errors and notes say, the descriptions of options, and the order of imports."""

    def visit_Module(self, node: ast.Module) -> ast.Module:
        self.generic_visit(node)
        imports = [part for part in node.body if isinstance(part, (ast.Import, ast.ImportFrom))]
        node.body = sorted(imports, key=ast.dump) + [part for part in node.body if part not in imports]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        called = ast.unparse(node.value.func) if isinstance(node.value, ast.Call) else ""
        said = called == "print" or called.startswith("logger.")
        return ast.Pass() if text or said else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if getattr(node.func, "id", "") == "option":
            node.args = []
            node.keywords = [word for word in node.keywords if word.arg not in ("allowed", "example")]
        return node

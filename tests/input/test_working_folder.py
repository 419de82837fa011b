"""Files of the user's in the working folder that have names of modules hide no module."""

from tests.conftest import run_command

# Of Python, and of others.
NAMES = ["argparse", "code", "copy", "csv", "json", "logging", "numbers", "platform", "queue", "random", "secrets"]
NAMES += ["signal", "socket", "statistics", "string", "tempfile", "token", "tokenize", "uuid"]
NAMES += ["filelock", "numpy", "pydantic", "safetensors", "torch", "yaml"]


def test_python_files_in_the_working_folder_that_are_named_as_modules_are_not_imported(project):
    for name in NAMES:
        project.write(f"{name}.py", f"raise SystemExit('the {name} of the user')")
    done = run_command("check", "--config", "config.yaml", folder=project.folder)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("OK: 2 rows")

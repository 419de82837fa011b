"""Runs Snakemake's command line in children of a process that has imported it: importing takes longer than a dry run.

It imports nothing of this project, so that each child loads the package from the folder in which it runs.
"""

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path

# What Snakemake and the Snakefile import.
MODULES = ["filelock", "pandas", "pydantic.dataclasses", "requests", "smart_open", "tqdm", "yaml"]


@cache
def _server() -> subprocess.Popen:
    """The server of this test process."""
    command = [sys.executable, str(Path(__file__).resolve())]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.kill)
    return server


def snakemake(arguments: Sequence[str], folder: Path, timeout: float) -> subprocess.CompletedProcess:
    """As `subprocess.run` of `python -m snakemake ARGUMENTS` in a folder, with captured text."""
    with tempfile.TemporaryDirectory() as printed:
        files = [Path(printed, name) for name in ("stdout", "stderr")]
        request = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": dict(os.environ),
            "printed": [str(file) for file in files],
            "timeout": int(timeout),
        }
        server = _server()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        done = subprocess.CompletedProcess(["snakemake", *arguments], code, *(file.read_text() for file in files))
    if code == -signal.SIGALRM:
        raise subprocess.TimeoutExpired(done.args, timeout, done.stdout, done.stderr)
    return done


def _run(request: dict) -> None:
    """Become the requested command."""
    signal.alarm(request["timeout"])
    for descriptor, file in enumerate([os.devnull, *request["printed"]]):
        opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = request["folder"]
    sys.argv = ["snakemake", *request["arguments"]]
    try:
        sys.modules["snakemake.cli"].main(request["arguments"])
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        code = 1 if isinstance(ended.code, str) else ended.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    # Without the interpreter's own end, which takes longer than a dry run.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


def _serve() -> None:
    """Run the requested commands, one at a time; answer with their exit codes."""
    for module in ["snakemake.cli", *MODULES]:
        importlib.import_module(module)
    sys.modules["snakemake.cli"].get_argument_parser()  # imports the plugins
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            return _run(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()

"""Exceptions of the libraries underneath, of every class: one line on the console, and the details in the log."""

import json
import re
import subprocess
import sys

import pytest
import tiktoken

from gpt2_ablations.cli import main
from gpt2_ablations.common.progress import job_progress
from gpt2_ablations.data import demo_language
from gpt2_ablations.data.download import hub
from gpt2_ablations.data.download.sources import SourceError
from tests.conftest import CHECKOUT, environment


def panic(*_: object) -> None:
    """A panic of tiktoken's Rust code, which is a BaseException: it does not know the byte."""
    tiktoken.Encoding("x", pat_str=r"\w+", mergeable_ranks={b"a": 0}, special_tokens={}).encode("ab")


def library_error(*_: object) -> None:
    """An error that a library raises in its own code."""
    tiktoken.get_encoding("x\n" * 1000)


def own_error(*_: object) -> None:
    raise KeyError("mistake")


@pytest.mark.parametrize(("fails", "kind"), [(panic, "PanicException"), (library_error, "ValueError")])
def test_without_a_log_an_exception_of_a_library_is_one_line(fails, kind, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo_language, "generate_messages", fails)
    assert main(["generate-messages", "--output", str(tmp_path / "file")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: generate-messages failed ({kind}: ") and line.isprintable() and len(line) < 400
    assert line.endswith("); --log FILE writes the details to a file")


def test_with_a_log_a_panic_is_one_line_and_its_traceback_is_in_the_log(tmp_path):
    command = "import sys; from tests.test_unexpected_exceptions import *; demo_language.generate_messages = panic;"
    command += " sys.exit(main(['generate-messages', '--output', 'file', '--log', 'log']))"
    path = environment() | {"PYTHONPATH": f"{CHECKOUT / 'src'}:{CHECKOUT}"}
    done = subprocess.run([sys.executable, "-c", command], cwd=tmp_path, env=path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: generate-messages failed (PanicException); see its log: log\n"
    log = (tmp_path / "log").read_text()
    assert re.search(r"^Traceback.*^\S*PanicException: ", log, flags=re.DOTALL | re.MULTILINE)


def test_a_fault_of_the_program_keeps_its_traceback_without_a_log(monkeypatch, tmp_path):
    monkeypatch.setattr(demo_language, "generate_messages", _in_the_package(own_error))
    with pytest.raises(KeyError, match="mistake"):
        main(["generate-messages", "--output", str(tmp_path / "file")])


def _in_the_package(function):
    """A function whose code is a module of the package."""
    code = function.__code__.replace(co_filename=demo_language.__file__)
    return type(function)(code, function.__globals__)


def test_help_is_no_error(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0 and "COMMAND" in capsys.readouterr().out


@pytest.fixture
def no_proxy(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")


def test_a_panic_while_a_file_of_the_hub_is_downloaded_is_the_reason_why_the_source_fails(no_proxy):
    with pytest.raises(SourceError, match=r"^the download failed \(PanicException\)$"), hub._explained():
        panic()


def test_a_panic_ends_the_progress_of_its_job_as_a_failure(tmp_path):
    with pytest.raises(BaseException, match="no entry"), job_progress(tmp_path / "progress"):
        panic()
    assert json.loads((tmp_path / "progress").read_text())["error"] == "PanicException"

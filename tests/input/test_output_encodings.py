"""Commands on a console whose encoding lacks what they print: `…`, `±`, a user's names and texts."""

import io
import json
import os
import subprocess
import sys

import pytest

from gpt2_ablations.cli import main
from gpt2_ablations.common.errors import InputError
from gpt2_ablations.inference.prediction_files import typed_texts
from tests.conftest import environment
from tests.input.conftest import the_line

ODD = "Grüße ± … 漢字 €"


@pytest.fixture(params=["ascii", "latin-1"])
def console(request, monkeypatch):
    """A function that runs a command on a console of this encoding; returns exit code, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=request.param) for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            code = main(list(arguments))
            for stream in streams:
                stream.flush()
        return code, *(stream.buffer.getvalue().decode(request.param) for stream in streams)

    return run


def shown(text: str, encoding: str) -> str:
    return text.encode(encoding, errors="backslashreplace").decode(encoding)


@pytest.fixture
def odd_project(project):
    """A project with a results folder, a model and a file of odd names, whose rows have failed with an odd error."""
    os.rename("messages.tsv", f"{ODD}.tsv")
    project.contents["config.yaml"] |= {"results": f"results {ODD}"}
    project.contents["config.yaml"]["dataset"]["sources"] = [f"{ODD}.tsv"]
    project.save("config.yaml")
    for row in ("1", "2"):
        log = project.folder / f"results {ODD}" / "logs" / "train" / row / "seed-123.log"
        log.parent.mkdir(parents=True)
        log.write_text(f"2026-01-01T00:00:00+0000 ERROR train: {ODD}\n", encoding="utf-8")
    return project


@pytest.mark.parametrize(
    ("arguments", "streams"),
    [
        (["check-sources"], 1),
        (["status"], 1),
        (["status", "--watch"], 1),
        (["plan"], 1),
        (["train", "--output", "x", "--batch_size", ODD], 2),
    ],
)
def test_what_a_console_cannot_show_is_escaped(odd_project, console, request, arguments, streams):
    encoding = request.node.callspec.params["console"]
    code, *printed = console(*arguments, "--config", "config.yaml")
    assert code == streams - 1
    assert shown("漢字", encoding) in printed[streams - 1].replace("\n  ", " "), printed


@pytest.mark.parametrize("arguments", [["status"], ["status", "--watch"], ["plan"]])
def test_json_is_the_same_on_every_console(odd_project, console, arguments):
    code, printed, _ = console(*arguments, "--json", "--config", "config.yaml")
    assert code == 0 and json.loads(printed)["results"] == f"results {ODD}"


def test_a_typed_text_is_utf_8_where_the_locale_is_not():
    as_python_reads_it_in_the_c_locale = ODD.encode().decode("ascii", errors="surrogateescape")
    assert typed_texts([ODD, "plain", as_python_reads_it_in_the_c_locale]) == [ODD, "plain", ODD]
    with pytest.raises(InputError, match="neither in the locale's encoding nor UTF-8"):
        typed_texts([b"caf\xe9".decode("utf-8", errors="surrogateescape")])


def test_a_path_that_the_locale_cannot_write_is_refused_in_one_line(project):
    """In a process, because Python takes the encoding of paths from the locale when it starts."""
    project.contents["config.yaml"] |= {"results": f"results {ODD}"}
    project.save("config.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "gpt2_ablations", "check", "--config", "config.yaml"],
        env=environment() | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert "the encoding of the locale is ascii, which cannot write" in the_line(done.stderr)
    assert "set LC_ALL=C.UTF-8" in done.stderr

"""Messages on the console and in a job's log."""

import re
import subprocess
import sys
from datetime import datetime

from tests.conftest import environment

JOB = """
import os, sys
from gpt2_ablations.common.logs import log_to, logger
console = log_to(sys.argv[1]) if len(sys.argv) > 1 else None
if console:
    print("done \\xb1", file=console)
logger.info("loaded")
logger.warning("little memory \\xb1")
os.write(2, b"from a library in C\\n")
logger.error("no such file")
"""


# A locale of ASCII, which Python does not replace by UTF-8.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def said(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", JOB, *arguments], env=environment() | ASCII, capture_output=True, text=True, check=True
    )
    return done.stderr


def test_a_person_reads_messages_without_times_whatever_the_locale():
    assert said().splitlines() == [
        "loaded",
        r"warning: little memory \xb1",
        "from a library in C",
        "error: no such file",
    ]


def test_a_log_is_utf_8_with_the_time_and_level_of_each_message_and_what_libraries_print(tmp_path):
    assert said(str(tmp_path / "log")) == "done \\xb1\n"
    info, warning, library, error = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    for line, level, text in (
        (info, "INFO", "loaded"),
        (warning, "WARNING", "little memory ±"),
        (error, "ERROR", "no such file"),
    ):
        time, found, rest = re.fullmatch(r"(\S+) ([A-Z]+) (.*)", line).groups()
        assert datetime.fromisoformat(time).tzinfo is not None and (found, rest) == (level, text)
    assert library == "from a library in C"

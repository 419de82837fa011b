"""Messages on the console and in a job's log."""

import re
import subprocess
import sys
from datetime import datetime

from tests.conftest import environment

JOB = """
import os, sys
from gpt2_ablations.common.logs import log_to, logger
if len(sys.argv) > 1:
    log_to(sys.argv[1])
logger.info("loaded")
logger.warning("little memory")
os.write(2, b"from a library in C\\n")
logger.error("no such file")
"""


def said(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", JOB, *arguments], env=environment(), capture_output=True, text=True, check=True
    )
    return done.stderr


def test_a_person_reads_messages_without_times():
    assert said().splitlines() == ["loaded", "warning: little memory", "from a library in C", "error: no such file"]


def test_a_log_has_the_time_and_level_of_each_message_and_what_libraries_print(tmp_path):
    assert said(str(tmp_path / "log")) == ""
    info, warning, library, error = (tmp_path / "log").read_text().splitlines()
    for line, level, text in (
        (info, "INFO", "loaded"),
        (warning, "WARNING", "little memory"),
        (error, "ERROR", "no such file"),
    ):
        time, found, rest = re.fullmatch(r"(\S+) ([A-Z]+) (.*)", line).groups()
        assert datetime.fromisoformat(time).tzinfo is not None and (found, rest) == (level, text)
    assert library == "from a library in C"

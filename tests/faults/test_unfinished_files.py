"""Unfinished files never have a final name, are removed in time, and are kept while their process writes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from gpt2_ablations.common import unfinished_files
from gpt2_ablations.common.errors import InputError
from gpt2_ablations.common.files import write_text_whole, write_whole
from gpt2_ablations.common.unfinished_files import ABANDONED_AFTER, unfinished_path
from tests.conftest import environment

WRITER = """
import sys, time
from gpt2_ablations.common.files import write_whole
with write_whole(sys.argv[1]) as partial:
    partial.write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""

# The command line, with a command that waits in the middle of writing its file.
JOB = """
import runpy, time
from gpt2_ablations.data import demo_language
from gpt2_ablations.common.files import write_whole

def generate_messages(path):
    with write_whole(path) as partial:
        partial.write_text("half")
        print("writing", flush=True)
        time.sleep(600)

demo_language.generate_messages = generate_messages
runpy.run_module("gpt2_ablations", run_name="__main__")
"""


@pytest.fixture
def writer(tmp_path):
    """Another process in the middle of writing `tmp_path / "file"`."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "file")], stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def names(folder) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_the_unfinished_file_of_a_killed_process_is_removed_by_the_next_writer(writer, tmp_path):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    (left,) = names(tmp_path)
    assert left.startswith(".file.") and left.endswith(f".{writer.pid}.part")
    write_text_whole(tmp_path / "another file", "whole")
    assert names(tmp_path) == ["another file"]


def test_the_unfinished_file_of_a_living_process_is_kept(writer, tmp_path):
    write_text_whole(tmp_path / "file", "whole")
    assert len(names(tmp_path)) == 2


def test_the_unfinished_file_of_another_machine_is_kept_for_a_week(tmp_path, monkeypatch):
    # A process id that no process has here, although one may have it on the other machine.
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    monkeypatch.setattr(unfinished_files, "process_namespace", lambda: "0123456789ab")
    monkeypatch.setattr(os, "getpid", lambda: dead.pid)
    there = unfinished_path(tmp_path / "file")
    monkeypatch.undo()
    there.write_text("half")
    for age, kept in ((0, True), (ABANDONED_AFTER - 60, True), (ABANDONED_AFTER + 60, False)):
        os.utime(there, (time.time() - age,) * 2)
        write_text_whole(tmp_path / "other", "whole")
        assert there.exists() == kept


def test_a_download_that_can_be_resumed_is_kept(tmp_path):
    (tmp_path / ".model.safetensors.part").write_text("the beginning")
    write_text_whole(tmp_path / "other", "whole")
    assert (tmp_path / ".model.safetensors.part").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_job_without_output_and_without_unfinished_files(number, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", JOB, "generate_messages", "--output", str(tmp_path / "file")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as job:
        assert job.stdout.readline() == "writing\n", job.stderr.read()
        assert len(names(tmp_path)) == 1
        job.send_signal(number)
        assert job.communicate()[1] == ""
        assert job.returncode == -number
    assert names(tmp_path) == []


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    write_text_whole(tmp_path / "file", "earlier")
    with pytest.raises(ZeroDivisionError), write_whole(tmp_path / "file") as partial:
        partial.write_text("half")
        1 / 0  # noqa: B018
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "earlier"


def test_a_missing_input_is_not_reported_as_a_full_disk(tmp_path):
    with pytest.raises(FileNotFoundError), write_whole(tmp_path / "file"):
        (tmp_path / "source").read_text()


def test_a_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(InputError, match=r"folder/file: cannot be written \(.*\); make its folder writable"):
        write_text_whole(tmp_path / "folder" / "file", "text")

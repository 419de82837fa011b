"""After kill -9 of Snakemake or of a job, finished files are kept and the next invocation gives the same table."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml

from tests.conftest import CHECKOUT, write_yaml
from tests.faults.runs import (
    Started,
    jobs_in,
    make_resume,
    numbers,
    run,
    start,
    unfinished,
    wait_until,
)

JOBS = [
    "fetch_messages",
    "split_messages",
    "tokenize",
    "fetch_weights",
    "extract_features",
    "train",
    "table",
    "compare",
    "interpret",
    "draw",
    "draw_rows",
    "pages",
]
# The whole demo takes minutes a try. Fewer tries, or only some of its rows, take less time.
TRIES = int(os.environ.get("GPT2_ABLATIONS_KILLS", "20"))
DEMO_ROWS = os.environ.get("GPT2_ABLATIONS_KILLS_ROWS", "all")


def test_resume_completes_the_table_after_snakemake_is_killed(untrained, expected):
    workshop = untrained
    killed = start(workshop)
    job = killed.job("train")
    killed.kill_snakemake()
    assert job.is_running()
    locked = run(workshop)
    assert locked.code == 1 and "Traceback" not in locked.output
    # Which of the two Snakemake reports depends on how far the surviving jobs are.
    assert "Directory cannot be locked" in locked.output or "IncompleteFilesException" in locked.output
    # With `--quiet`, as in `make demo`, Snakemake itself reports neither.
    quiet = run(workshop, "--quiet", "all")
    assert quiet.code == 1 and quiet.output.splitlines()[-1].startswith(
        "note: results: an earlier invocation was killed; run `make resume CONFIG=override.yaml`, or repeat"
    )
    assert not job.is_running() or f"(process {job.pid} on " in quiet.output
    resumed = make_resume(workshop.folder)
    assert resumed.code == 0, resumed.output
    assert numbers(workshop.results) == expected
    wait_until(lambda: not jobs_in(workshop.folder), "the surviving jobs end")
    assert numbers(workshop.results) == expected and unfinished(workshop.folder) == []
    assert "Nothing to be done" in run(workshop).output


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [["train"], pytest.param(JOBS, marks=pytest.mark.faults)], ids=["train", "each"])
def test_the_plain_command_completes_the_table_after_a_job_is_killed(jobs, workshop, expected):
    for job in jobs:
        started = start(workshop, "--until", job)
        started.job(job).kill()
        killed = started.end()
        assert killed.code == 1 and f"Error in rule {job}:" in killed.output, killed.output
        assert "Traceback" not in killed.output and killed.errors == []
    done = run(workshop)
    assert done.code == 0, done.output
    assert numbers(workshop.results) == expected and unfinished(workshop.folder) == []


def make_demo(folder: Path) -> Path:
    """A copy of the checkout in which the demo has not run."""
    for part in ("src", "workflow", "config"):
        shutil.copytree(CHECKOUT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "Snakefile", folder)
    if DEMO_ROWS != "all":
        demo = folder / "config" / "demo.yaml"
        write_yaml(demo, yaml.safe_load(demo.read_text()) | {"rows": DEMO_ROWS.split(",")})
    return folder


@pytest.fixture(scope="module")
def undisturbed_demo(tmp_path_factory) -> tuple[float, dict]:
    """The seconds that the undisturbed demo takes, and its numbers."""
    folder = make_demo(tmp_path_factory.mktemp("demo") / "undisturbed")
    began = time.monotonic()
    done = Started(folder, "--configfile", "config/demo.yaml").end()
    assert done.code == 0, done.output
    return time.monotonic() - began, numbers(folder / "results" / "demo")


@pytest.mark.faults
@pytest.mark.parametrize("number", range(TRIES))
def test_resume_completes_the_demo_after_it_is_killed_at_a_random_moment(number, undisturbed_demo, tmp_path):
    seconds, undisturbed = undisturbed_demo
    folder = make_demo(tmp_path / "demo")
    started = Started(folder, "--configfile", "config/demo.yaml")
    moment = random.Random(number).uniform(0, seconds)
    time.sleep(moment)
    started.kill_snakemake()
    survivors = jobs_in(folder)
    resumed = make_resume(folder, "config/demo.yaml")
    assert resumed.code == 0, f"killed after {moment:.1f} of {seconds:.1f} s: {resumed.output}"
    wait_until(lambda: not jobs_in(folder), "the surviving jobs end")
    print(f"killed after {moment:.1f} of {seconds:.1f} s; jobs that survived: {len(survivors)}")
    assert numbers(folder / "results" / "demo") == undisturbed
    assert unfinished(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_to_snakemake_and_its_jobs_stops_them_cleanly(number, workshop, expected):
    started = start(workshop)
    started.job("train")
    # While Python starts, before it runs the program, it prints a traceback on Ctrl-C.
    wait_until(lambda: list(workshop.results.glob("logs/train/*/*.log")), "a job has begun its log")
    started.signal_group(number)
    stopped = started.end()
    assert stopped.code != 0 and f"died with <Signals.{number.name}" in stopped.output
    assert not list(workshop.results.glob("rows/*/*/metrics.json"))
    assert "Traceback" not in stopped.output and "KeyboardInterrupt" not in stopped.output, stopped.output
    assert stopped.errors == []
    assert jobs_in(workshop.folder) == [] and unfinished(workshop.folder) == []
    done = run(workshop)
    assert done.code == 0, done.output
    assert numbers(workshop.results) == expected


@pytest.mark.slow
def test_sigterm_to_snakemake_alone_lets_the_running_jobs_end(workshop, expected):
    started = start(workshop)
    started.job("train")
    started.process.terminate()
    stopped = started.end()
    assert stopped.code != 0 and stopped.errors == [] and "Traceback" not in stopped.output, stopped.output
    assert jobs_in(workshop.folder) == []
    assert list(workshop.results.glob("rows/*/*/metrics.json"))
    assert not (workshop.results / "table.md").exists()
    done = make_resume(workshop.folder)
    assert done.code == 0, done.output
    assert numbers(workshop.results) == expected

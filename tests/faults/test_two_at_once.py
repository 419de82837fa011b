"""Two invocations in one folder are refused with one line, and two jobs of one row never mix their files."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import environment, write_yaml
from tests.faults.runs import jobs_in, make_resume, numbers, run, start, wait_until

# For each line of standard input, writes a run whose three files all hold the tag.
WRITER = """
import sys
from pathlib import Path
import torch
from gpt2_ablations.runs.write_run import write_run
from gpt2_ablations.runs.result import Result, Step

tag = int(sys.argv[2])
result = Result(history=[Step(i, tag, 0.5) for i in range(50)], logits=torch.full((50, 2), float(tag)))
for _ in sys.stdin:
    write_run(Path(sys.argv[1]), {"tag": tag}, result, torch.zeros(50, dtype=torch.int64))
    print("written", flush=True)
"""


@pytest.mark.parametrize(
    "options",
    [[], pytest.param(["--rerun-incomplete"], marks=pytest.mark.slow)],
    ids=["plain", "rerun-incomplete"],
)
def test_a_second_invocation_in_a_folder_names_the_process_of_the_first(options, workshop, expected):
    first = start(workshop, "table")
    first.job("extract_features")
    second = run(workshop, *options)
    assert second.code == 1 and "Traceback" not in second.output
    assert f"note: results: another invocation is running there (process {first.process.pid} on " in second.output
    # Snakemake looks for unfinished files first and may find those of the first invocation.
    assert "Directory cannot be locked" in second.output or (not options and "IncompleteFiles" in second.output)
    assert first.end().code == 0
    assert numbers(workshop.results) == expected


@pytest.mark.slow
@pytest.mark.parametrize("second", ["make resume", "other outputs"])
def test_a_second_invocation_that_snakemake_does_not_refuse_is_refused_too(second, workshop, expected):
    first = start(workshop, "all")
    first.job("extract_features")
    if second == "make resume":
        refused = make_resume(workshop.folder)
    else:
        rows = {"10": {"weights": "random", "trainable_layers": "all", "model_size": "tiny"}}
        write_yaml(workshop.folder / "other.yaml", {"rows": rows})
        settings = ("--config", "experiments=other.yaml", "precision=bfloat16")
        refused = run(workshop, "row_10", "--nolock", *settings)
    assert refused.code != 0 and "Traceback" not in refused.output, refused.output
    (error,) = refused.errors
    assert error.startswith(f"error: results: another invocation is running there (process {first.process.pid} on "), (
        error
    )
    assert error.endswith("; wait for it, or stop it")
    ended = first.end()
    assert ended.code == 0, ended.output
    assert numbers(workshop.results) == expected
    assert run(workshop, "--dry-run", "table").code == 0


@pytest.mark.slow
def test_a_job_that_outlives_its_invocation_does_not_overwrite_a_newer_job(workshop, expected):
    workshop.rows({"1": {"num_epochs": 100}, "2": {"trainable_layers": "all"}})
    killed = start(workshop, "row_1")
    survivor = killed.job("train")
    log = workshop.results / "logs" / "train" / "1" / "seed-123.log"
    wait_until(lambda: log.exists() and "epoch 1:" in log.read_text(), "the first epoch ends")
    survivor.send_signal(signal.SIGSTOP)
    killed.kill_snakemake()
    workshop.rows({"1": {}, "2": {"trainable_layers": "all"}})
    resumed = make_resume(workshop.folder)
    assert resumed.code == 0, resumed.output
    new_log = log.read_text()
    survivor.send_signal(signal.SIGCONT)
    wait_until(lambda: not jobs_in(workshop.folder), "the survivor ends")
    assert numbers(workshop.results) == expected
    metrics = json.loads((workshop.results / "rows" / "1" / "seed-123" / "metrics.json").read_text())
    assert metrics["settings"]["num_epochs"] == 1
    assert log.read_text() == new_log and "epoch 2:" not in new_log
    assert "logs/train/1/seed-123.log: another job owns these outputs now" in killed.printed.read_text()


def test_the_three_files_of_a_run_are_of_one_job_if_two_jobs_write_it_at_once(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(tag)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for tag in (1, 2)
    ]
    for _ in range(200):
        for writer in writers:
            writer.stdin.write("now\n")
            writer.stdin.flush()
        for writer in writers:
            assert writer.stdout.readline() == "written\n"
        tags = {
            json.loads((tmp_path / "metrics.json").read_text())["tag"],
            int((tmp_path / "history.csv").read_text().splitlines()[1].split(",")[1]),
            int((tmp_path / "predictions.csv").read_text().splitlines()[1].split(",")[3]),
        }
        assert len(tags) == 1
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["history.csv", "metrics.json", "predictions.csv"]

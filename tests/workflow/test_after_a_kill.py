"""What an interrupted or second invocation leaves, and says."""

import base64
import json
import os
import platform
import re
from pathlib import Path

import pytest

from gpt2_ablations.common.unfinished_files import process_namespace
from gpt2_ablations.planning.invocation_lock import how_to_resume, lock_results, surviving_jobs
from gpt2_ablations.settings.paths import Paths

FILES = ["metrics.json", "history.csv", "predictions.csv"]


def mark_incomplete(workshop, *files: str) -> None:
    """What Snakemake leaves of a job that was running when it was killed."""
    for file in files:
        name = base64.urlsafe_b64encode(file.encode()).decode()
        (workshop.folder / ".snakemake" / "incomplete" / name).write_text('{"external_jobid": null}')
        (workshop.folder / ".snakemake" / "metadata" / name).unlink(missing_ok=True)


def test_a_run_that_was_completed_after_its_invocation_was_killed_is_accepted(finished):
    row = "results/rows/1/seed-123"
    (features,) = (finished.results / "features").iterdir()
    mark_incomplete(finished, *(f"{row}/{name}" for name in FILES), f"results/features/{features.name}")
    assert finished.scheduled("table", "--rerun-incomplete") == {}
    assert finished.scheduled("table") == {}


def test_a_run_of_other_settings_that_was_left_incomplete_runs_again(finished):
    finished.rows({"1": {"batch_size": 4}, "2": {"trainable_layers": "all"}})
    mark_incomplete(finished, *(f"results/rows/1/seed-123/{name}" for name in FILES))
    assert finished.scheduled("row_1", "--rerun-incomplete") == {"train": 1}


def test_jobs_that_outlived_their_invocation_are_named_at_the_next_start(workshop):
    progress = Paths("results").progress(Path("results/rows/4/seed-123"))
    report = {"state": "running", "job": "train", "row": "4", "seed": 123, "namespace": process_namespace()}
    report |= {"process": os.getpid(), "host": platform.node()}
    file = workshop.folder / progress
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(report))
    assert surviving_jobs(file.parent) == [f"train, row 4 (process {os.getpid()} on {platform.node()})"]
    locks = workshop.folder / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("results/rows/4/seed-123/metrics.json\n")
    os.close(lock_results(workshop.results, ["row_1", "table"]))
    done = workshop.snakemake("--dry-run", "--quiet", "all")
    assert f"note: results: train, row 4 (process {os.getpid()} on " in done.stderr
    assert "run `make resume CONFIG=override.yaml TARGETS='row_1 table'`, or repeat this command" in done.stderr
    file.write_text(json.dumps(report | {"state": "failed"}))
    assert surviving_jobs(file.parent) == []


def test_make_resume_is_proposed_for_the_targets_that_were_asked_for_and_not_for_settings_that_it_does_not_take():
    assert "`make resume`," in how_to_resume(["config/config.yaml"], [], [])
    assert "`make resume TARGETS='row_1 table'`," in how_to_resume(["config/config.yaml"], ["row_1", "table"], [])
    advice = how_to_resume(["a b.yaml", "config/config.yaml"], [], ["seeds=[1]"])
    assert "make" not in advice and "repeat this command with --unlock" in advice


@pytest.mark.parametrize("target", ["rows_1", "row1", "Row-1", "rows_7"])
def test_a_target_that_is_nearly_that_of_a_row_is_one_line(target, workshop):
    done = workshop.snakemake(target, "--dry-run")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert re.fullmatch(rf"error: no target '{target}'; did you mean 'row_[12]'\? allowed: row_1, row_2", line)


def test_one_row_with_one_seed_is_counted_as_one(workshop):
    workshop.rows({"1": {}})
    done = workshop.command("plan", "--config", "override.yaml")
    assert "Total: 1 row, 1 of 1 run to do." in done.stdout
    assert workshop.command("status", "--config", "override.yaml").stdout.startswith("1 run in ")

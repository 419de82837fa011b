"""After killed jobs, lost nodes and a killed Snakemake, the table is the same."""

import contextlib
import json
import os
import signal

import psutil
import pytest

from tests.slurm.lab import Lab, wait_until
from tests.slurm.tables import numbers
from tests.workflow.conftest import make_workshop

# Row 2 trains long enough to be interrupted.
ROWS = {"1": {}, "2": {"trainable_layers": "all", "num_epochs": 200}}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A workshop in which the same rows have run on this machine without SLURM."""
    workshop = make_workshop(tmp_path_factory.mktemp("undisturbed") / "workshop")
    workshop.rows(ROWS)
    workshop.run()
    return workshop


@pytest.fixture
def cluster(cluster):
    cluster.rows(ROWS)
    return cluster


def assert_same_table(cluster, undisturbed) -> None:
    """Every file of every row is as in the undisturbed workshop, times aside, and no other file is there."""
    assert numbers(cluster.results / "table.md") == numbers(undisturbed.results / "table.md")
    for row in ROWS:
        found, expected = (workshop.results / "rows" / row / "seed-123" for workshop in (cluster, undisturbed))
        assert sorted(os.listdir(found)) == ["history.csv", "metrics.json", "predictions.csv"]
        for file in ("history.csv", "predictions.csv"):
            assert (found / file).read_bytes() == (expected / file).read_bytes()
        metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (found, expected)]
        for name in ("train_correct", "val_correct", "test_correct", "settings"):
            assert metrics[0][name] == metrics[1][name]


def states(cluster) -> dict[str, str]:
    """The state of each row that `status` shows, from the files that jobs on the nodes write."""
    shown = cluster.command("status", "--json", "--config", "config/config.yaml", "override.yaml")
    return {run["name"]: run["state"] for run in json.loads(shown.stdout)["runs"]}


def test_a_job_killed_for_memory_completes_with_more_memory(lab, cluster, undisturbed):
    too_little_at_first = "train:mem_mb=250 * attempt ** 3"
    done = cluster.run("--set-resources", "train:slurm_partition=gpu", too_little_at_first)
    first, second = lab.jobs_in(cluster.folder, "train", "2")
    assert first["JobState"] != "COMPLETED" and first["MinMemoryNode"] == "250M"
    assert "exceeded memory limit" in done.stderr + (cluster.folder / first["StdOut"]).read_text()
    assert second["JobState"] == "COMPLETED" and second["MinMemoryNode"] == "2000M"
    assert_same_table(cluster, undisturbed)


def test_a_node_lost_during_training_changes_nothing(lab: Lab, cluster, undisturbed):
    with cluster.started() as running:
        cluster.wait_for_training("2")
        (job,) = lab.jobs_in(cluster.folder, "train", "2")
        wait_until(lambda: states(cluster)["2"] == "running", 60, "status shows the row as running")
        node = job["BatchHost"]
        lab.kill_node(node)
        try:
            assert not cluster.training("2")
            lab.start_requeued()
            assert running.wait(300) == 0, running.stderr.read()[-3000:]
        finally:
            lab.start_node(node)
            wait_until(lambda: lab.node_states()[node] == "idle", 60, f"{node} is idle again")
    assert states(cluster) == {"1": "done", "2": "done"}
    assert_same_table(cluster, undisturbed)


@pytest.mark.parametrize("late", ["while the new job trains", "when the new job is done"])
def test_a_job_of_a_killed_snakemake_changes_no_result(lab: Lab, cluster, undisturbed, late):
    log = cluster.results / "logs" / "train" / "2" / "seed-123.log"

    def has_begun() -> bool:
        return log.exists() and "epoch 1:" in log.read_text()

    with cluster.started() as running:
        (old,) = cluster.wait_for_training("2")
        # A job that opens its log later than the new job would supersede it.
        wait_until(has_begun, 60, "the first epoch ends")
        old_log, old_job = log.stat(), lab.jobs_in(cluster.folder, "train", "2")[0]["JobId"]
        running.send_signal(signal.SIGKILL)
        running.wait()
        # As on a slow node: the old job still runs when the new one starts.
        old.suspend()
        try:
            refused = cluster.snakemake()
            assert refused.returncode != 0 and "unlock" in refused.stderr
            cluster.run("--unlock")
            with cluster.started() as again:
                _, new = cluster.wait_for_training("2", count=2)
                if late == "while the new job trains":
                    # The old job's own Snakemake waits ten seconds for missing files, then removes the outputs. The new
                    # job is suspended until then: if it ended at that moment, it would run again.
                    wait_until(lambda: has_begun() and not os.path.samestat(log.stat(), old_log), 60, "it trains")
                    new.suspend()
                    old.resume()
                    wait_until(lambda: old_job not in lab.busy_jobs(), 60, "the old job has ended")
                    new.resume()
                assert again.wait(300) == 0, again.stderr.read()[-3000:]
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                old.resume()
    lab.wait_for_quiet()
    assert len(lab.jobs_in(cluster.folder, "train", "2")) == 2
    assert_same_table(cluster, undisturbed)
    assert cluster.scheduled("row_2") == {}

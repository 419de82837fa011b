"""The jobs that SLURM receives, and the resources that they ask for."""

import re


def test_training_and_features_are_jobs_with_one_gpu_and_light_rules_run_here(lab, cluster):
    cluster.override(device="auto")
    # Row 2 trains long enough to be inspected.
    cluster.rows({"1": {}, "2": {"trainable_layers": "all", "num_epochs": 100}})
    with cluster.started() as running:
        (training,) = cluster.wait_for_training("2")
        assert re.fullmatch(r"\d", training.environ()["CUDA_VISIBLE_DEVICES"])
        assert running.wait(300) == 0
    jobs = lab.jobs_in(cluster.folder)
    assert sorted(job["Rule"] for job in jobs) == ["extract_features", "train", "train"]
    for job in jobs:
        assert job["Partition"] == "gpu" and job["TresPerJob"] == "gres:gpu:1"
    assert (cluster.results / "table.md").exists() and (cluster.results / "plots" / "rows" / "curves_2.svg").exists()


def test_a_job_for_the_cpu_asks_for_no_gpu(lab, cluster):
    cluster.run("row_2")
    (job,) = lab.jobs_in(cluster.folder)
    assert "TresPerJob" not in job


def test_runs_that_differ_by_seed_are_one_job_array(lab, cluster):
    cluster.rows({"2": {"trainable_layers": "all"}})
    cluster.override(seeds=[1, 2, 3])
    resources = ("--set-resources", "train:slurm_partition=gpu", "train:mem_mb=1600")
    cluster.run("row_2", "--slurm-array-jobs", "train", *resources)
    jobs = lab.jobs_in(cluster.folder)
    assert len(jobs) == 3 and len({job["ArrayJobId"] for job in jobs}) == 1
    for seed in (1, 2, 3):
        assert (cluster.results / "rows" / "2" / f"seed-{seed}" / "metrics.json").exists()

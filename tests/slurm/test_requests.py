"""Which jobs SLURM gets, and what they ask for."""

import pytest


@pytest.fixture
def by_rule(lab, cluster):
    """The table's jobs in SLURM, by rule, after a run with `device: auto`."""
    known = {job["JobId"] for job in lab.jobs()}
    cluster.override(device="auto")
    cluster.run("--slurm-keep-successful-logs")
    jobs = {}
    for job in lab.jobs():
        if job["JobId"] not in known:
            jobs.setdefault(job["Comment"].split("_wildcards")[0], []).append(job)
    return jobs


def test_training_and_features_ask_for_one_card_and_light_rules_are_no_jobs(by_rule):
    assert {rule: len(jobs) for rule, jobs in by_rule.items()} == {"rule_extract_features": 1, "rule_train": 2}
    for job in [job for jobs in by_rule.values() for job in jobs]:
        print(job)
        assert job["Partition"] == "gpu"
        assert job["TresPerJob"] == "gres:gpu:1"
    assert 0

"""What the profile asks for, seen on a machine without a GPU: a login node."""

import re
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(
    not find_spec("snakemake_executor_plugin_slurm"), reason="`make setup-slurm` installs the SLURM executor"
)
PROFILE = ("--workflow-profile", "workflow/profiles/slurm")


@pytest.mark.parametrize(("device", "gpus"), [("auto", 1), ("cuda", 1), ("cpu", 0)])
def test_a_login_node_s_own_gpus_do_not_count(workshop, device, gpus):
    """Whatever this machine has: a job asks for a GPU unless the table is for the CPU."""
    workshop.override(device=device)
    printed = workshop.run(*PROFILE, "--dry-run").stdout
    jobs = re.findall(r"rule (extract_features|train):.*?resources: ([^\n]*)", printed, flags=re.DOTALL)
    assert len(jobs) == 3
    for _, resources in jobs:
        assert f"gpu={gpus}" in resources and "slurm_partition=gpu" in resources

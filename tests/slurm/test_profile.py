"""The resources of jobs under the profile, on a login node."""

import re
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(
    not find_spec("snakemake_executor_plugin_slurm"), reason="`make setup-slurm` installs the SLURM executor"
)
PROFILE = ("--workflow-profile", "workflow/profiles/slurm")


@pytest.mark.parametrize(("device", "gpus"), [("auto", 1), ("cuda", 1), ("cpu", 0)])
def test_the_gpus_of_a_login_node_do_not_count(workshop, device, gpus):
    """On any machine, a job asks for one GPU unless the device is the CPU."""
    workshop.override(device=device)
    printed = workshop.run(*PROFILE, "--dry-run").stdout
    jobs = re.findall(r"rule (extract_features|train):.*?resources: ([^\n]*)", printed, flags=re.DOTALL)
    assert len(jobs) == 3
    for _, resources in jobs:
        assert f"gpu={gpus}" in resources and "slurm_partition=gpu" in resources

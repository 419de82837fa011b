"""The workflow profiles."""

import re

import yaml

from tests.conftest import CHECKOUT, write_yaml


def test_the_workstation_profile_runs_the_table(finished):
    (finished.results / "table.md").unlink()
    finished.run("--workflow-profile", "workflow/profiles/workstation", "table")
    assert (finished.results / "table.md").exists()


def test_the_slurm_profile_s_lines_for_gres_replace_the_gpus_of_each_job(workshop):
    """As the executor sees them; it writes `--gpus` for `gpu` and `--gres` for `gres`."""
    text = (CHECKOUT / "workflow" / "profiles" / "slurm" / "config.yaml").read_text()
    edited = yaml.safe_load(re.sub(r"# (gpu: 0|gres: gpu:1)", r"\1", text))
    write_yaml(workshop.folder / "gres" / "config.yaml", {"set-resources": edited["set-resources"]})
    workshop.override(device="cuda")
    printed = workshop.run("--workflow-profile", "gres", "--dry-run", "row_1").stdout
    jobs = re.findall(r"rule (?:extract_features|train):.*?resources: ([^\n]*)", printed, flags=re.DOTALL)
    assert len(jobs) == 2
    assert all({"gpu=0", "gres=gpu:1"} <= set(resources.split(", ")) for resources in jobs), jobs

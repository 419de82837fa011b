"""The demo in SLURM."""

from tests.conftest import run_snakemake
from tests.slurm.tables import numbers
from tests.workflow.conftest import make_workshop


def test_the_table_of_the_demo_is_the_same_with_and_without_slurm(lab, cluster, tmp_path):
    cluster.configfile = "config/demo.yaml"
    cluster.run()
    here = make_workshop(tmp_path / "here").folder
    local = run_snakemake("--cores", "2", "--configfile", "config/demo.yaml", "--", "table", folder=here)
    assert local.returncode == 0, local.stderr[-3000:]
    table = numbers(cluster.results / "demo" / "table.md")
    assert len(table) == 2 + 19
    assert table == numbers(here / "results" / "demo" / "table.md")
    rules = [job["Rule"] for job in lab.jobs_in(cluster.folder)]
    assert rules.count("train") == 19 and set(rules) == {"pretrain_miniature", "extract_features", "train"}

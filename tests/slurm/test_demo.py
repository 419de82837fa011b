"""The demo in SLURM."""

from tests.conftest import run_snakemake
from tests.slurm.tables import numbers
from tests.workflow.conftest import make_workshop

# A row of each kind of job: of each kind of trained layers and features, from pretrained and random weights, and of the
# largest model. The others differ in numbers alone.
ROWS = ("1", "3", "5", "8", "10", "11", "14", "19")


def test_the_table_of_the_demo_is_the_same_with_and_without_slurm(lab, cluster, tmp_path):
    selection = ("--config", f"rows=[{','.join(ROWS)}]")
    cluster.configfile = "config/demo.yaml"
    cluster.run(*selection)
    here = make_workshop(tmp_path / "here").folder
    options = ("--cores", "2", "--configfile", "config/demo.yaml", *selection)
    local = run_snakemake(*options, "--", "table", folder=here)
    assert local.returncode == 0, local.stderr[-3000:]
    table = numbers(cluster.results / "demo" / "table.md")
    assert len(table) == 2 + len(ROWS)
    assert table == numbers(here / "results" / "demo" / "table.md")
    rules = [job["Rule"] for job in lab.jobs_in(cluster.folder)]
    assert rules.count("train") == len(ROWS) and set(rules) == {"pretrain_miniature", "extract_features", "train"}

"""The workflow profiles."""


def test_the_workstation_profile_runs_the_table(finished):
    (finished.results / "table.md").unlink()
    finished.run("--workflow-profile", "workflow/profiles/workstation", "table")
    assert (finished.results / "table.md").exists()

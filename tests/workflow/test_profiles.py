"""The workflow profiles."""


def test_the_workstation_profile_runs_the_table(workshop):
    workshop.run("--workflow-profile", "workflow/profiles/workstation")
    assert (workshop.results / "table.md").exists()

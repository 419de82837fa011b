"""Tables, comparison, interpretation, figures, pages and the README block of an invocation."""

import re
import shutil

import yaml

from tests.conftest import write_yaml

FILES = ["table.md", "table.csv", "comparison.md", "interpretation.md"]
FIGURES = ["accuracy", "time", "gap", "loss_curves", "accuracy_curves", "rows/curves_1", "rows/curves_2"]


def test_one_invocation_makes_every_file(finished_workshop):
    results = finished_workshop.results
    wanted = [results / name for name in FILES]
    wanted += [results / "plots" / f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")]
    assert [file for file in wanted if not file.is_file() or not file.stat().st_size] == []


def test_several_seeds_are_trained_and_shown_as_mean_and_deviation(finished):
    finished.override(seeds=[123, 7])
    finished.run("table", "results/interpretation.md")
    assert " ± " in (finished.results / "table.md").read_text()
    assert "seeds" in (finished.results / "interpretation.md").read_text()
    assert (finished.results / "rows" / "1" / "seed-7" / "predictions.csv").exists()


def test_partial_trains_nothing_and_makes_every_file_from_what_has_run(finished):
    finished.rows({"1": {}, "new": {"trainable_layers": "all"}})
    for folder in ("plots", "pages"):
        shutil.rmtree(finished.results / folder)
    assert finished.scheduled("partial") == {"partial": 1}
    finished.run("partial")
    lines = (finished.results / "table.md").read_text().splitlines()
    assert lines[3].startswith("| new ") and lines[3].count(" – ") >= 5
    made = {str(file.relative_to(finished.results)) for file in finished.results.rglob("*.*")}
    assert {"plots/accuracy.svg", "plots/rows/curves_1.png", "pages/table.html", "pages/rows/1.html"} <= made
    assert not {"plots/rows/curves_new.png", "pages/rows/new.html"} & made
    assert "1 of 2 rows ran" in (finished.results / "comparison.md").read_text()


def test_the_table_shows_no_figures_of_a_row_that_was_edited(finished):
    finished.rows({"1": {"batch_size": 4}, "2": {"trainable_layers": "all"}})
    finished.reports("table")
    text = (finished.results / "table.md").read_text()
    edited, unchanged = text.splitlines()[2:4]
    assert edited.count(" – ") >= 5 and " – " not in unchanged
    assert "Row 1 was run with other settings (batch_size 8, now 4). Its results for seed 123 are left out" in text


def test_every_report_is_made_before_anything_has_run(workshop):
    workshop.reports("table", "compare", "interpret", "draw", "draw-rows", "pages")
    assert "–" in (workshop.results / "table.md").read_text()


def test_the_readme_block_is_written_checked_and_restored(finished):
    readme = finished.folder / "README.md"
    readme.write_text("# Title\n\n<!-- table -->\nold\n<!-- /table -->\n\nThe rest.\n")
    stale = finished.snakemake("check_readme")
    assert stale.returncode != 0 and "-old" in stale.stdout and "its table is stale" in stale.stderr
    finished.run("readme")
    text = readme.read_text()
    assert text.startswith("# Title\n") and text.endswith("\n\nThe rest.\n")
    assert (finished.results / "table.md").read_text().strip() in text
    finished.run("check_readme")
    readme.write_text(text.replace("last_block", "LAST_BLOCK"))
    finished.run("readme")
    assert readme.read_text() == text


def test_a_readme_without_markers_is_refused(finished):
    (finished.folder / "README.md").write_text("# Title\n")
    failed = finished.snakemake("readme")
    assert failed.returncode != 0 and "the lines <!-- table --> and <!-- /table --> are missing" in failed.stderr


def test_a_changed_label_makes_the_reports_again_and_trains_nothing(finished):
    file = finished.folder / "models.yaml"
    models = yaml.safe_load(file.read_text())
    write_yaml(file, {"tiny": models["tiny"] | {"label": "tiny (made up)"}})
    assert finished.scheduled() == {"table": 1}  # `scheduled` leaves out the other reports
    finished.run("table")
    assert "| tiny (made up) |" in (finished.results / "table.md").read_text()
    assert ",tiny," in (finished.results / "table.csv").read_text()
    assert '"model": "tiny"' in (finished.results / "rows/1/seed-123/metrics.json").read_text()


def test_without_published_figures_every_file_is_made_and_nothing_is_compared(finished):
    finished.override(published=None)
    assert re.findall(r"^ *(?:local)?rule (compare|draw|pages):", finished.dry_run(), flags=re.MULTILINE)
    finished.reports("compare", "draw", "pages")
    for file in ("comparison.md", "pages/comparison.html"):
        assert "names no published figures" in (finished.results / file).read_text()
    assert "No published figures." in (finished.results / "plots/accuracy.svg").read_text()

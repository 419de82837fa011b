"""Figures: complete, labelled and reproducible."""

import re
import struct
from html import unescape
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.reports.figures import draw
from gpt2_ablations.reports.figures.draw import FIGURES, draw_figures
from gpt2_ablations.reports.figures.draw_rows import draw_row
from gpt2_ablations.reports.figures.place_labels import place_labels
from gpt2_ablations.reports.figures.style import VERMILLION
from gpt2_ablations.settings.labels import load_defaults, row_labels
from tests.results_folder import Results, whole_table

NOTE = "A miniature: its numbers are not the reference's."
AXES = {
    "accuracy": ["Test accuracy (%)"],
    "time": ["Training time (min, logarithmic)", "Test accuracy (%)"],
    "gap": ["Accuracy (%)"],
    "loss_curves": ["Epoch", "Loss (cross-entropy, nats), logarithmic"],
    "accuracy_curves": ["Epoch", "Accuracy (%)"],
}


def texts(file: Path) -> list[str]:
    """The texts of an SVG file; a label on two lines is two texts."""
    return [unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", file.read_text())]


def png_size(file: Path) -> tuple[int, int]:
    content = file.read_bytes()
    assert content.startswith(b"\x89PNG")
    return struct.unpack(">II", content[16:24])


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> tuple[Results, Path]:
    """All figures of the 19 rows, of which row 12 has not run."""
    folder = tmp_path_factory.mktemp("table")
    results = whole_table(Results(folder))
    results.add_published("1", note=NOTE, device_name="H200")
    (results.folder("12", 123) / "metrics.json").unlink()
    draw_figures(results.config, results.experiments, results.models, folder / "figures")
    return results, folder / "figures"


def test_every_figure_is_written_as_svg_and_png(table):
    names = {f"{name}.{suffix}" for name in FIGURES for suffix in ("svg", "png")}
    assert {file.name for file in table[1].iterdir()} == names
    for name in FIGURES:
        width, height = png_size(table[1] / f"{name}.png")
        assert width > 1000 and height > 500


@pytest.mark.parametrize("name", FIGURES)
def test_every_row_is_labelled_by_what_it_changes(table, name):
    results, folder = table
    shown = " ".join(texts(folder / f"{name}.svg"))
    for label in row_labels(results.experiments, load_defaults(results.config), results.models).values():
        assert label in shown


@pytest.mark.parametrize("name", FIGURES)
def test_axes_note_devices_and_missing_rows_are_named(table, name):
    shown = texts(table[1] / f"{name}.svg")
    assert "; A100, cpu (rows 2, 3, 4" in " ".join(shown)
    for label in [*AXES[name], NOTE]:
        assert label in shown
    assert "not run" in shown or "12: gpt2-xl, LoRA (rank 16, alpha 8) (not run)" in shown


def test_the_gap_is_written_in_points(table):
    shown = texts(table[1] / "gap.svg")
    # Row 5: 1036 of 1040 less 144 of 149.
    assert "+3.0" in shown
    assert "−2.7" in shown


def test_curves_of_one_row(table, tmp_path):
    results, _ = table
    files = draw_row(results.config, results.experiments, results.models, "11", tmp_path)
    assert [file.name for file in files] == ["curves_11.svg", "curves_11.png"]
    shown = texts(files[0])
    for label in ("Training of row 11: LoRA (rank 16, alpha 16)", "Loss (cross-entropy, nats)", "Accuracy (%)"):
        assert label in shown


def test_a_row_that_has_not_run_has_no_curves(table, tmp_path):
    results, _ = table
    with pytest.raises(InputError, match="row 12 has no finished run"):
        draw_row(results.config, results.experiments, results.models, "12", tmp_path)
    with pytest.raises(InputError, match="row '20' is not in"):
        draw_row(results.config, results.experiments, results.models, "20", tmp_path)


def few_rows(results: Results, *rows: str) -> dict:
    return {row: results.experiments[row] for row in rows}


def test_the_same_runs_give_the_same_bytes(results, tmp_path):
    for row in ("1", "6"):
        results.add_published(row)
    rows = few_rows(results, "1", "6")
    drawn = [draw_figures(results.config, rows, results.models, tmp_path / name) for name in ("a", "b")]
    for first, second in zip(*drawn):
        assert first.read_bytes() == second.read_bytes()


def test_several_seeds_show_their_mean_and_each(three_seeds, tmp_path):
    for seed in (1, 2, 3):
        three_seeds.add_published("1", seed)
    draw_figures(three_seeds.config, few_rows(three_seeds, "1", "2"), three_seeds.models, tmp_path)
    assert {"mean over seeds, with 95% interval", "single seeds", "published"} <= set(texts(tmp_path / "accuracy.svg"))
    assert any("Thin lines: 3 seeds." in text for text in texts(tmp_path / "loss_curves.svg"))


def test_figures_without_any_run_say_so(results, tmp_path):
    draw_figures(results.config, few_rows(results, "1", "2"), results.models, tmp_path)
    assert "No row has run yet." in texts(tmp_path / "accuracy.svg")
    assert "No row has run yet." in texts(tmp_path / "time.svg")


def test_a_table_too_long_for_a_figure_is_cut_and_says_so(results, tmp_path, monkeypatch):
    monkeypatch.setattr(draw, "MOST_ROWS", 1)
    draw_figures(results.config, few_rows(results, "1", "2"), results.models, tmp_path)
    shown = texts(tmp_path / "gap.svg")
    assert "The first 1 of 2 rows; `rows` in the configuration selects others." in shown
    assert "2: first token" not in shown


def test_without_published_figures_there_are_no_diamonds(results, tmp_path):
    results.add_published("1")
    rows = few_rows(results, "1")
    config = results.config.model_copy(update={"published": None})
    draw_figures(results.config, rows, results.models, tmp_path / "with")
    draw_figures(config, rows, results.models, tmp_path / "without")
    with_published, without = (texts(tmp_path / name / "accuracy.svg") for name in ("with", "without"))
    assert "published" in with_published and not any("No published figures" in text for text in with_published)
    assert "published" not in without and any(text.endswith("No published figures.") for text in without)
    assert "reproduced, with 95% interval" in with_published and "test accuracy, with 95% interval" in without
    # Nothing else in this figure has the colour of the diamonds.
    assert VERMILLION.lower() in (tmp_path / "with" / "accuracy.svg").read_text()
    assert VERMILLION.lower() not in (tmp_path / "without" / "accuracy.svg").read_text()


def test_a_model_s_label_replaces_its_name(labelled, tmp_path):
    for row in ("1", "6"):
        labelled.add_published(row)
    draw_figures(labelled.config, few_rows(labelled, "1", "6"), labelled.models, tmp_path)
    for name in FIGURES:
        shown = " ".join(texts(tmp_path / f"{name}.svg"))
        assert "6: gpt2-medium (miniature)" in shown and "355M" not in shown
    assert "gpt2-small (124M)" in texts(tmp_path / "time.svg")
    curves = draw_row(labelled.config, labelled.experiments, labelled.models, "6", tmp_path)
    assert "Training of row 6: gpt2-medium (miniature)" in texts(curves[0])


def test_labels_of_crowded_points_do_not_overlap():
    figure = Figure(figsize=(8, 5), dpi=150)
    axes = figure.subplots()
    points = {str(n): (0.28 + 0.004 * (n % 5), 98 + 0.1 * (n // 5)) for n in range(1, 16)} | {"far": (8, 70)}
    for x, y in points.values():
        axes.plot(x, y, "o")
    place_labels(figure, axes, points)
    figure.draw_without_rendering()
    # The extent of an annotation would include its line.
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert len(boxes) == 16
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))

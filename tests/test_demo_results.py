"""The files of the demo in results/demo, for the rows and seeds of the latest invocation.

`make demo` selects all 19 rows; a later invocation may have selected fewer.
"""

import csv
import json
from xml.etree import ElementTree

import pytest
import yaml
from PIL import Image

from tests.conftest import CHECKOUT

DEMO = CHECKOUT / "results" / "demo"
ROWS = [str(number) for number in range(1, 20)]
FIGURES = ["accuracy", "time", "gap", "loss_curves", "accuracy_curves"]


@pytest.fixture(scope="module")
def selected() -> dict:
    """The configuration of the latest invocation of the demo."""
    if not (DEMO / "table.md").is_file():
        pytest.skip("the demo has not run here; `make demo` runs it")
    return yaml.safe_load((DEMO / "config.yaml").read_text())


@pytest.fixture(scope="module")
def rows(selected) -> list[str]:
    return ROWS if selected["rows"] == "all" else selected["rows"]


@pytest.fixture(scope="module")
def seeds(selected) -> list[int]:
    return selected["seeds"]


def test_the_demo_selects_every_row():
    chosen = [yaml.safe_load((CHECKOUT / "config" / name).read_text()) for name in ("config.yaml", "demo.yaml")]
    assert (chosen[0] | chosen[1])["rows"] == "all"


def test_the_table_has_every_row(rows, seeds):
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in (DEMO / "table.md").open() if "gpt2-" in line
    ]
    assert [row[0] for row in cells] == rows
    accuracies = [accuracy for row in cells for accuracy in row[6:9]]
    assert all("%" in accuracy and ("±" in accuracy) == (len(seeds) > 1) for accuracy in accuracies)


def test_the_data_has_every_row_and_seed(rows, seeds):
    with open(DEMO / "table.csv", newline="") as file:
        lines = [(line["row"], int(line["seed"])) for line in csv.DictReader(file)]
    assert lines == [(row, seed) for row in rows for seed in seeds]


def test_every_run_has_its_three_files(rows, seeds):
    folders = [DEMO / "rows" / row / f"seed-{seed}" for row in rows for seed in seeds]
    assert [json.loads((folder / "metrics.json").read_text())["row"] for folder in folders] == [
        row for row in rows for _ in seeds
    ]
    assert all((folder / name).stat().st_size for folder in folders for name in ("history.csv", "predictions.csv"))


def test_the_task_is_neither_trivial_nor_hopeless(rows, seeds):
    folders = [DEMO / "rows" / row / f"seed-{seed}" for row in rows if row == "1" for seed in seeds]
    accuracies = [json.loads((folder / "metrics.json").read_text())["test_acc"] for folder in folders]
    assert all(0.70 <= accuracy <= 0.99 for accuracy in accuracies)


def test_every_figure_is_complete(rows):
    for name in [*FIGURES, *(f"rows/curves_{row}" for row in rows)]:
        with Image.open(DEMO / "plots" / f"{name}.png") as image:
            image.load()
            assert min(image.size) > 300, name
        assert ElementTree.parse(DEMO / "plots" / f"{name}.svg").getroot().tag.endswith("svg"), name


def test_the_comparison_says_that_nothing_is_compared(rows, seeds):
    text = (DEMO / "comparison.md").read_text()
    assert f"{len(rows)} of {len(rows)} rows ran, with {len(seeds)} seed" in text
    assert "names no published figures" in text and "| Published" not in text
    # A line of text may be broken anywhere.
    figure = " ".join(ElementTree.parse(DEMO / "plots" / "accuracy.svg").getroot().itertext())
    assert "No published figures." in " ".join(figure.split())


def test_the_interpretation_answers_twelve_questions(rows):
    text = (DEMO / "interpretation.md").read_text()
    assert [line.split(".")[0] for line in text.splitlines() if line.startswith("## ")] == [
        f"## {number}" for number in range(1, 13)
    ]
    if rows == ROWS:
        assert "not run" not in text and "No answer yet" not in text


def test_every_page_of_the_report_is_made(rows):
    names = ["table", "comparison", "interpretation", "configuration", *(f"rows/{row}" for row in rows)]
    assert all("</html>" in (DEMO / "pages" / f"{name}.html").read_text() for name in names)


def test_the_note_says_that_it_is_the_demo(selected):
    for name in ("table", "comparison", "interpretation"):
        assert "Miniature demo, not a reproduction" in (DEMO / f"{name}.md").read_text()


def test_every_model_is_shown_as_a_miniature(rows):
    lines = [line for line in (DEMO / "table.md").open() if "gpt2-" in line]
    assert len(lines) == len(rows) and all("(miniature)" in line for line in lines)
    for name in ("table.md", "interpretation.md", "plots/time.svg", "plots/accuracy.svg"):
        text = (DEMO / name).read_text()
        assert not any(size in text for size in ("124M", "355M", "774M", "1558M")), name

"""The table in the README: the text between the markers."""

import pytest

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.reports.readme import readme_block, readme_difference, update_readme

TEXT = "# Title\n\n<!-- table -->\n| old |\n<!-- /table -->\n\nThe rest.\n"


@pytest.fixture
def readme(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(TEXT)
    return path


def test_only_the_block_is_replaced(readme):
    assert update_readme(readme, "| new |\n")
    assert readme.read_text() == TEXT.replace("old", "new")


def test_a_block_that_is_up_to_date_is_not_written(readme):
    assert not update_readme(readme, "| old |\n")
    assert readme_difference(readme, "| old |\n") == ""


def test_a_stale_block_gives_a_diff(readme):
    lines = readme_difference(readme, "| new |").splitlines()
    assert "-| old |" in lines and "+| new |" in lines
    assert readme.read_text() == TEXT


def test_an_incomplete_table_says_how_many_rows_it_has():
    assert readme_block("| table |\n", finished=2, rows=19) == "| table |\n\nReproduced so far: 2 of 19 rows.\n"
    assert readme_block("| table |\n", finished=19, rows=19) == "| table |\n"


@pytest.mark.parametrize("text", ["", "<!-- table -->\n", "<!-- /table -->\n<!-- table -->\n"])
def test_a_file_without_markers_is_refused_unchanged(readme, text):
    readme.write_text(text)
    with pytest.raises(InputError, match="the lines <!-- table --> and <!-- /table --> are missing"):
        update_readme(readme, "| new |")
    assert readme.read_text() == text

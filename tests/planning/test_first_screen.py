"""What an invocation says before it changes a table."""

import pytest

from gpt2_ablations.planning.first_screen import first_screen
from gpt2_ablations.planning.workflow import make_workflow
from gpt2_ablations.settings.config import DEFAULT_CONFIG
from tests.conftest import CHECKOUT


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"rows": ["1"]}, "(row 2, 3, 5)"),
        ({"rows": ["1", "2", "3", "5"], "seeds": [123]}, "(row 5 with seed 7)"),
        ({"rows": ["1", "2", "3", "5"], "seeds": [7, 123]}, None),
    ],
)
def test_a_table_that_would_lose_rows_or_seeds_is_named_with_the_way_to_keep_it(settings, named, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "table.csv").write_text("row,seed,model_size\n1,123,a\n2,123,a\n3,123,a\n5,7,a\n")
    workflow = make_workflow({"results": str(folder)} | settings, [CHECKOUT / DEFAULT_CONFIG])
    said = " ".join(first_screen(workflow, {"table": 1}, []).split())
    assert ("warning: " in said) == (named is not None)
    if named:
        assert named in said and f"such as `results: {folder}-2`" in said
    assert "warning: " not in first_screen(workflow, {"train": 1}, ["1"])

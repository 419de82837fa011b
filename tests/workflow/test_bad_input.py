"""A mistake in the configuration: one line at the start, and nothing runs."""

import pytest

WRONG_ROWS = [
    (
        {"trainable_layer": "all"},
        "rows.yaml: row 3: unknown key 'trainable_layer'; did you mean 'trainable_layers'? allowed:",
    ),
    ({"trainable_layers": "last_blok"}, "rows.yaml: row 3: trainable_layers is 'last_blok'; allowed: 'last_layer',"),
    ({"model_size": "gpt5"}, "rows.yaml: row 3: model_size is 'gpt5', not in models.yaml; allowed: tiny"),
    ({"no_padding": True, "batch_size": 4}, "rows.yaml: row 3: no_padding needs batch_size 1, found batch_size 4"),
    ({"context_length": 65}, "rows.yaml: row 3: context_length is 65; tiny has 64 positions, so allowed is 1 to 64"),
]


def assert_stops_at_once(workshop, message, *arguments):
    finished = workshop.snakemake(*arguments)
    assert finished.returncode == 1
    said = [line for line in finished.stderr.splitlines() if not line.startswith("Config file ")]
    assert len(said) == 1 and said[0].startswith(f"error: {message}"), finished.stderr
    assert not workshop.results.exists()


@pytest.mark.parametrize(("options", "message"), WRONG_ROWS)
def test_a_wrong_row_stops_the_run(options, message, workshop):
    workshop.rows({"1": {}, "3": options})
    assert_stops_at_once(workshop, message)


def test_a_duplicate_row_id_stops_the_run(workshop):
    (workshop.folder / "rows.yaml").write_text("rows:\n  1: {model_size: tiny}\n  1: {model_size: tiny}\n")
    assert_stops_at_once(workshop, "rows.yaml: line 3: key '1' stands twice (first in line 2); keep one of the two")


def test_a_duplicate_key_in_the_configuration_stops_the_run(workshop):
    with open(workshop.folder / "override.yaml", "a") as file:
        file.write("device: cpu\n")
    assert_stops_at_once(workshop, "override.yaml: line ")


def test_a_wrong_value_on_the_command_line_stops_the_run(workshop):
    assert_stops_at_once(workshop, "--config: precision is 'half'; allowed: 'float32',", "--config", "precision=half")


def test_a_row_that_is_not_there_stops_the_run(workshop):
    workshop.override(rows=[7])
    assert_stops_at_once(workshop, "rows names '7', not in rows.yaml; allowed: 1, 2")


def test_a_results_folder_that_is_a_file_stops_the_run(workshop):
    (workshop.folder / "blocked").write_text("a file")
    workshop.override(results="blocked")
    assert_stops_at_once(workshop, "results is 'blocked', which is a file; name a folder")

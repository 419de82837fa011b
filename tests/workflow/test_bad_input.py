"""A mistake in the configuration gives one line at the start, and nothing runs."""

from contextlib import chdir

import pytest
import yaml
from safetensors.torch import load_file, save_file
from snakemake.utils import update_config

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.planning.workflow import make_workflow
from tests.conftest import write_yaml

WRONG_ROWS = [
    (
        {"trainable_layer": "all"},
        "rows.yaml: row 3: unknown key 'trainable_layer'; did you mean 'trainable_layers'? allowed:",
    ),
    (
        {"trainable_layers": "last_blok"},
        "rows.yaml: row 3: trainable_layers is 'last_blok'; allowed: last_layer, last_block,",
    ),
    ({"model_size": "gpt5"}, "rows.yaml: row 3: model_size is 'gpt5', not in models.yaml; allowed: tiny"),
    ({"no_padding": True, "batch_size": 4}, "rows.yaml: row 3: no_padding needs batch_size 1, found batch_size 4"),
    ({"context_length": 65}, "rows.yaml: row 3: context_length is 65; tiny has 64 positions, so allowed is 1 to 64"),
]


def assert_stops_at_once(workshop, message, *arguments):
    """Snakemake prints one error line, with this beginning, and writes nothing."""
    finished = workshop.snakemake(*arguments)
    assert finished.returncode == 1
    lines = [line for line in finished.stderr.splitlines() if not line.startswith("Config file ")]
    assert len(lines) == 1 and lines[0].startswith(f"error: {message}"), finished.stderr
    assert not workshop.results.exists()


def refusal(workshop) -> str:
    """The error with which the Snakefile ends, from the functions that it calls."""
    config: dict = {}
    with chdir(workshop.folder), pytest.raises(InputError) as raised:
        for file in ("config/config.yaml", "override.yaml"):
            update_config(config, yaml.safe_load((workshop.folder / file).read_text()))
        make_workflow(config, ["override.yaml", "config/config.yaml"])
    return str(raised.value)


def test_an_invalid_row_stops_the_invocation(workshop):
    options, message = WRONG_ROWS[0]
    workshop.rows({"1": {}, "3": options})
    assert_stops_at_once(workshop, message)


def test_an_invalid_value_on_the_command_line_stops_the_invocation(workshop):
    assert_stops_at_once(workshop, "--config: precision is 'half'; allowed: float32,", "--config", "precision=half")


def test_a_row_that_cannot_be_trained_on_the_data_stops_the_invocation_before_any_job(workshop):
    workshop.rows({"1": {}, "3": {"batch_size": 99}})
    message = "rows.yaml: row 3: batch_size is 99 and there are 98 training examples: no whole batch; allowed: 1 to 98"
    assert_stops_at_once(workshop, message, "--quiet", "all")


@pytest.mark.parametrize("target", ["row_7", "results/rows/7/seed-123/metrics.json"])
def test_an_unknown_row_as_a_target_stops_the_invocation_with_the_rows_there_are(workshop, target):
    finished = workshop.snakemake(target)
    assert finished.returncode == 1 and "Traceback" not in finished.stderr
    assert finished.stderr.splitlines()[-1] == "error: row '7' is not in rows.yaml; allowed: 1, 2"
    assert not (workshop.results / "rows").exists()


@pytest.mark.parametrize(("options", "message"), WRONG_ROWS)
def test_an_invalid_row_is_refused(options, message, workshop):
    workshop.rows({"1": {}, "3": options})
    assert refusal(workshop).startswith(message)


def test_a_duplicate_row_id_is_refused(workshop):
    (workshop.folder / "rows.yaml").write_text("rows:\n  1: {model_size: tiny}\n  1: {model_size: tiny}\n")
    assert refusal(workshop) == "rows.yaml: line 3: duplicate key '1' (first in line 2); keep one of them"


def test_a_duplicate_key_in_the_configuration_is_refused(workshop):
    with open(workshop.folder / "override.yaml", "a") as file:
        file.write("device: cpu\n")
    assert refusal(workshop).startswith("override.yaml: line ")


def test_an_unknown_selected_row_is_refused(workshop):
    workshop.override(rows=[7])
    assert refusal(workshop) == "rows names '7', not in rows.yaml; allowed: 1, 2"


def test_the_value_of_an_option_may_look_like_a_row(workshop):
    (workshop.folder / "row_profile").mkdir()
    (workshop.folder / "row_profile" / "config.v9+.yaml").write_text("keep-going: true\n")
    assert workshop.snakemake("-n", "row_1", "--profile", "row_profile").returncode == 0


@pytest.mark.parametrize("option", ["--cleanup-metadata", "--cm"])
def test_snakemake_s_metadata_of_a_removed_row_can_be_cleaned_up(option, workshop):
    gone = "results/rows/7/seed-123/metrics.json"
    finished = workshop.snakemake(option, gone)
    assert "error: " not in finished.stderr and gone in finished.stderr.split("metadata cleanup")[-1]


def test_a_results_folder_that_is_a_file_is_refused(workshop):
    (workshop.folder / "blocked").write_text("a file")
    workshop.override(results="blocked")
    assert refusal(workshop) == "results is 'blocked', which is a file; name a folder"


@pytest.mark.parametrize("beginning", ["", "./", "file://{folder}/"])
def test_a_source_that_the_workflow_itself_writes_is_refused(beginning, workshop):
    """Snakemake removes a job's old outputs first, so the user's only copy would be lost."""
    beginning = beginning.format(folder=workshop.folder.absolute())
    weights = yaml.safe_load((workshop.folder / "models.yaml").read_text())
    messages = f"{beginning}results/dataset/SMSSpamCollection"
    before = yaml.safe_load((workshop.folder / "override.yaml").read_text())["dataset"]
    workshop.override(dataset=before | {"sources": [messages]})
    assert refusal(workshop).startswith(f"dataset.sources: {messages.removeprefix('./')} is the workflow's own output")

    workshop.override(dataset=before)
    source = f"{beginning}results/weights/tiny/model.safetensors"
    write_yaml(workshop.folder / "models.yaml", {"tiny": weights["tiny"] | {"source": source}})
    source = source.removeprefix("./")
    assert refusal(workshop).startswith(f"models.yaml: tiny: source: {source} is the workflow's own output")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("rows.yaml", "rows: [1\nx: {", "rows.yaml: line 2: not valid YAML"),
        (
            "models.yaml",
            "tiny: {n_layer: 0}\n",
            "models.yaml: tiny: n_layer is 0; allowed: an integer from 1 to",
        ),
        ("published.csv", "row,train_acc\n1,x\n", "published.csv: column 'val_acc' is missing; add it"),
        ("comparisons.yaml", "a: {questoin: b}\n", "comparisons.yaml: a: unknown key 'questoin'; did you mean"),
    ],
)
def test_an_invalid_file_is_refused(file, text, message, workshop):
    workshop.override(published="published.csv", comparisons="comparisons.yaml")
    for name in ("published.csv", "comparisons.yaml"):
        (workshop.folder / name).write_text((workshop.folder / "config" / name).read_text())
    (workshop.folder / file).write_text(text)
    assert refusal(workshop).startswith(message)


@pytest.mark.parametrize("file", ["rows.yaml", "models.yaml", "published.csv", "comparisons.yaml"])
def test_a_missing_file_is_refused(file, workshop):
    key = "experiments" if file == "rows.yaml" else file.partition(".")[0]
    workshop.override(**{key: f"absent-{file}"})
    assert refusal(workshop) == f"absent-{file}: no such file; check the path or restore the file"


def rows_of(workshop) -> dict:
    """The content of every file of every row, by path."""
    files = [file for file in (workshop.results / "rows").rglob("*") if file.is_file()]
    assert len(files) == 6
    return {file: file.read_bytes() for file in files}


def assert_fails_and_keeps_the_rows(workshop, message: str) -> None:
    """Snakemake prints one error line, which contains the message, and changes no file of a row."""
    before = rows_of(workshop)
    failed = workshop.snakemake()
    assert failed.returncode != 0
    errors = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0] and "Traceback" not in failed.stderr
    assert rows_of(workshop) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"eggs\thello\n", "line 1 has the label 'eggs'; allowed: ham, spam"),
        (b"", "messages.tsv: an empty file"),
    ],
)
def test_invalid_messages_leave_finished_rows_unchanged(content, message, finished):
    (finished.folder / "messages.tsv").write_bytes(content)
    assert_fails_and_keeps_the_rows(finished, message)


def test_invalid_weights_leave_finished_rows_unchanged(finished):
    content = (finished.folder / "tiny.safetensors").read_bytes()
    (finished.folder / "tiny.safetensors").write_bytes(content[:-1])
    assert_fails_and_keeps_the_rows(finished, "tiny: source: tiny.safetensors: not a whole safetensors file")


def test_a_message_longer_than_the_positions_fails_only_its_row(finished):
    models = yaml.safe_load((finished.folder / "models.yaml").read_text())
    models["short"] = models["tiny"] | {"n_positions": 8, "source": "short.safetensors"}
    write_yaml(finished.folder / "models.yaml", models)
    tensors = load_file(finished.folder / "tiny.safetensors")
    tensors["wpe.weight"] = tensors["wpe.weight"][:8].clone()
    save_file(tensors, finished.folder / "short.safetensors")
    row = {"model_size": "short", "no_padding": True, "batch_size": 1}
    finished.rows({"1": {}, "2": {"trainable_layers": "all"}, "3": row})
    assert_fails_and_keeps_the_rows(finished, "tokens and no_padding never cuts; short has 8 positions")

"""`init` writes files that `check` accepts, with the delimiter, columns and labels that it finds in the data."""

import csv
import io

import pytest

from gpt2_ablations.settings.config import DatasetConfig, load_config
from gpt2_ablations.settings.schema.yaml_files import load_yaml

TEXTS = [("bad" if number % 2 else "good", f"it was, all; in all, number {number}") for number in range(24)]


def table(delimiter: str, rows: list, header: list[str] | None) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([header, *rows] if header else rows)
    return text.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        (
            "comma",
            table(",", [(number, text, label) for number, (label, text) in enumerate(TEXTS)], ["id", "review", "v"]),
            ("comma", "v", "review", ["bad", "good"]),
        ),
        ("excel", table(";", TEXTS, ["Sentiment", "Text"]), ("semicolon", "Sentiment", "Text", ["bad", "good"])),
        ("no names", table("\t", TEXTS, None), ("tab", None, None, ["bad", "good"])),
        (
            "numbers",
            table("\t", [(text, int(label == "good"), "x") for label, text in TEXTS], ["text", "y", "source"]),
            ("tab", "y", "text", ["0", "1"]),
        ),
        (
            "yes and no",
            table(",", [("yes" if label == "bad" else "no", text) for label, text in TEXTS], ["on", "1"]),
            ("comma", "on", "1", ["no", "yes"]),
        ),
    ],
)
def test_delimiter_columns_and_labels_are_found_and_check_accepts_them(name, content, found, project):
    project.write(f"{name}.csv", content)
    answer = project.command("init", "my table", "--data", f"./{name}.csv")
    assert (answer.code, answer.err) == (0, "")
    assert "snakemake --cores all --configfile 'my table/config.yaml'" in answer.out
    dataset = load_config(["my table/config.yaml"]).dataset
    assert (dataset.delimiter, dataset.label_column, dataset.text_column, dataset.labels) == found
    assert dataset.sources == [f"{name}.csv"]
    # The real model is not here; everything else is.
    checked = project.command("check", "--config", "my table/config.yaml")
    assert checked.code == 0 and checked.out.startswith("OK: 4 rows (4 selected), 1 seed\nExamples: "), checked.err


def test_the_common_copy_of_the_sms_messages_is_understood(project):
    rows = [("ham" if number % 3 else "spam", f"£{number} for you", "", "", "") for number in range(60)]
    project.write("spam.csv", table(",", rows, ["v1", "v2", "", "", ""]).encode("latin-1"))
    assert project.command("init", "sms", "--data", "spam.csv").code == 0
    dataset = load_yaml("sms/config.yaml")["dataset"]
    assert (dataset["label_column"], dataset["text_column"]) == ("v1", "v2") and dataset["labels"] == ["ham", "spam"]
    assert dataset.get("encoding", "cp1252") == "cp1252"
    assert ("encoding" in dataset) == ("encoding" in DatasetConfig.model_fields)


def test_a_start_without_data_can_be_filled_in(project):
    assert project.command("init", "new").code == 0
    assert load_config(["new/config.yaml"]).dataset.sources == ["my_texts.csv"]
    line = project.refusal("check", "--config", "new/config.yaml")
    assert "dataset.sources: my_texts.csv: no such file" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,c\n" + "1,x,2\n2,y,3\n3,z,4\n" * 3, "found no column with two labels beside a column of texts"),
        ("", "found no column with two labels"),
        (table(",", [(text, label) for label, text in TEXTS], None), "the columns have no names; add a first line"),
        (b"PK\x03\x04\x00\x00\xff", "found no column with two labels"),
    ],
)
def test_data_without_labels_and_texts_is_refused_and_nothing_is_written(content, message, project):
    project.write("data.csv", content)
    assert message in project.refusal("init", "new", "--data", "data.csv")
    assert not (project.folder / "new").exists()


def test_files_that_exist_are_never_overwritten(project):
    before = (project.folder / "comparisons.yaml").read_bytes()
    (project.folder / "config.yaml").unlink()
    assert project.refusal("init", ".") == "models.yaml: exists already; name another folder"
    assert (project.folder / "comparisons.yaml").read_bytes() == before
    assert not (project.folder / "config.yaml").exists()
    assert "absent.csv: no such file" in project.refusal("init", "new", "--data", "absent.csv")

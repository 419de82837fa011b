"""Invalid files: missing, unreadable, not YAML, with duplicate keys, a folder; and contradictory options."""

import os
import subprocess
import sys

import pytest
import yaml
from safetensors.torch import save_file

from .conftest import FILES, Project, the_line

YAML_FILES = ["config.yaml", "rows.yaml", "models.yaml", "comparisons.yaml"]
ALL_FILES = [*YAML_FILES, "published.csv"]


@pytest.mark.parametrize("file", YAML_FILES)
@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", 3, "not valid YAML"),
        ("a: 1\nb: c: d\n", 2, "not valid YAML (mapping values are not allowed here)"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ('a: "never closed\n', 2, "not valid YAML"),
        ("a: *nothing\n", 1, "not valid YAML (found undefined alias 'nothing')"),
        ("a: !!python/object/apply:os.system [touch owned]\n", 1, "not valid YAML"),
        ("a: 1\nb: 2\na: 3\n", 3, "duplicate key 'a' (first in line 1); keep one of them"),
        ("a:\n  b: 1\n  b: 2\n", 3, "duplicate key 'b' (first in line 2); keep one of them"),
        ("? [a, b]\n: 1\n", 1, "a key must be plain text"),
    ],
)
def test_invalid_yaml_is_named_with_its_line(project, file, text, line, problem):
    project.write(file, text)
    assert project.refusal().startswith(f"{file}: line {line}: {problem}")
    assert not (project.folder / "owned").exists()


@pytest.mark.parametrize("file", ALL_FILES)
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", ("found nothing", "empty or not a CSV file")),
        (b"a: \xff\xfe\n", ("byte 3 is not UTF-8; save the file as UTF-8",)),
        (b"\x00\x01\x02", ("not valid YAML", "unknown column")),
        (b"- a\n- b\n", ("found list", "unknown column")),
        (b"PK\x03\x04", ("not valid YAML", "unknown column")),
    ],
    ids=["empty", "not UTF-8", "binary", "a list", "a zip"],
)
def test_a_file_that_is_not_a_configuration_is_named(project, file, content, problem):
    project.write(file, content)
    line = project.refusal()
    assert line.startswith(f"{file}: ") and any(part in line for part in problem), line


@pytest.mark.parametrize("file", ALL_FILES)
def test_a_file_that_is_missing_or_a_folder_is_named(project, file):
    (project.folder / file).unlink()
    assert project.refusal() == f"{file}: no such file; check the path or restore the file"
    (project.folder / file).mkdir()
    assert project.refusal() == f"{file}: cannot be read (Is a directory); check the path"


@pytest.mark.parametrize("file", [*ALL_FILES, "messages.tsv", "tiny.safetensors"])
def test_a_file_that_may_not_be_read_is_named(project, file, unprivileged):
    (project.folder / file).chmod(0)
    done = unprivileged(sys.executable, "-m", "gpt2_ablations", "check", "--config", "config.yaml")
    line = the_line(done.stderr)
    assert done.returncode == 1 and file in line and "cannot be read (Permission denied)" in line


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"no_padding": True}, "no_padding needs batch_size 1, found batch_size 8; set batch_size: 1"),
        ({"average_embeddings": True, "trainable_token_pos": "flexible"}, "keep one of them"),
        ({"context_length": 65}, "context_length is 65; tiny has 64 positions, so allowed is 1 to 64"),
        ({"model_size": "tinny"}, "model_size is 'tinny', not in models.yaml; did you mean 'tiny'? allowed: tiny"),
    ],
)
def test_options_that_contradict_each_other_or_the_model_are_named(project, row, message):
    project.contents["rows.yaml"]["rows"]["2"] = row
    project.save("rows.yaml")
    line = project.refusal()
    assert line.startswith("rows.yaml: row 2: ") and message in line


def test_two_trained_blocks_need_two_blocks(project):
    project.contents["rows.yaml"]["rows"]["2"] = {"trainable_layers": "last_two_blocks"}
    project.contents["models.yaml"]["tiny"]["n_layer"] = 1
    project.save("rows.yaml")
    project.save("models.yaml")
    assert "trainable_layers is 'last_two_blocks'; tiny has one block" in project.refusal()


@pytest.mark.parametrize("row", ["a/b", "a b", "..", "", "é", "a\nb", "$(id)", "a'b", "{x}", "x" * 65, "../../etc"])
def test_a_row_id_with_other_characters_is_refused(project, row):
    project.contents["rows.yaml"]["rows"] = {row: {}}
    project.save("rows.yaml")
    line = project.refusal()
    assert line.startswith("rows.yaml: invalid row id ")
    assert line.endswith(": expected 1 to 64 letters, digits, '_' and '-'")


@pytest.mark.parametrize("name", ["()", "a\nb", "--help", "x" * 65])
def test_a_model_name_that_cannot_be_a_folder_or_a_flag_is_refused(project, name):
    project.contents["models.yaml"] = {name: project.contents["models.yaml"]["tiny"]}
    project.save("models.yaml")
    assert project.refusal().startswith("models.yaml: invalid model name ")


@pytest.mark.parametrize("folder", ["-x", "./-x", "a{b}", "a\nb", "a\0b", "\x1b[31mred"])
def test_a_results_folder_that_snakemake_could_not_handle_is_refused(project, folder):
    project.contents["config.yaml"]["results"] = folder
    project.save("config.yaml")
    assert "results is " in project.refusal() and "allowed: a " in project.refusal()


@pytest.mark.parametrize("key", ["experiments", "models", "published", "comparisons"])
@pytest.mark.parametrize("path", ["a{b}", "a\nb", "a\0b", ""])
def test_a_path_that_snakemake_could_not_handle_is_refused(project, key, path):
    project.contents["config.yaml"][key] = path
    project.save("config.yaml")
    assert project.refusal().startswith(f"config.yaml: {key} is ")


@pytest.mark.parametrize("source", ["a{b}", "file:///a{b}", "a\nb", "https://host/\n", ""])
def test_a_source_that_snakemake_could_not_handle_is_refused(project, source):
    project.contents["config.yaml"]["dataset"]["sources"] = [source]
    project.save("config.yaml")
    assert "config.yaml: dataset.sources.0 is " in project.refusal()
    project.restore()
    project.contents["models.yaml"]["tiny"]["source"] = source
    project.save("models.yaml")
    assert "models.yaml: tiny: source is " in project.refusal()


def test_a_results_folder_that_cannot_be_created_is_refused(project, unprivileged):
    def refusal_of(results: str) -> str:
        project.contents["config.yaml"]["results"] = results
        project.save("config.yaml")
        return project.refusal()

    project.write("file", "a file")
    assert refusal_of("file") == "results is 'file', which is a file; name a folder"
    assert refusal_of("file/deeper").endswith("file is a file; name a folder")
    assert "File name too long" in refusal_of("x" * 300)
    locked = project.folder / "locked"
    locked.mkdir(mode=0o500)
    project.contents["config.yaml"]["results"] = "locked/results"
    project.save("config.yaml")
    done = unprivileged(sys.executable, "-m", "gpt2_ablations", "check", "--config", "config.yaml")
    assert the_line(done.stderr).endswith("locked cannot be written to; make it writable, or choose another folder")


def test_selected_rows_that_are_unknown_or_duplicate_are_refused(project):
    for rows, message in (
        ([3], "rows names '3', not in rows.yaml; allowed: 1, 2"),
        ([1, 1], "rows contains a duplicate row: 1, 1;"),
    ):
        project.contents["config.yaml"]["rows"] = rows
        project.save("config.yaml")
        assert message in project.refusal()


def test_yaml_with_aliases_that_grow_without_end_is_refused_at_once(project):
    bomb = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    bomb += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    for file in YAML_FILES[:3]:
        project.write(file, "\n".join([*bomb, "seeds: *a29", "rows: *a29", ""]))
        assert project.refusal().startswith(f"{file}: ")
        project.restore()
    nested = "note: &n [1]\nseeds: &s [*n, *n]\n".replace("[1]", "[" * 50 + "]" * 50)
    others = {key: value for key, value in FILES["config.yaml"].items() if key not in ("note", "seeds")}
    project.write("config.yaml", nested + yaml.safe_dump(others))
    assert project.refusal().startswith("config.yaml: ")
    project.restore()
    project.write("rows.yaml", "rows: {1: {num_epochs: " + "[" * 500 + "]" * 500 + "}}\n")
    assert project.refusal().startswith("rows.yaml: ")
    project.write("rows.yaml", "rows: {1: {num_epochs: 0x" + "f" * 5000 + "}}\n")
    assert "num_epochs is a number of thousands of digits; allowed: an integer from 1 to" in project.refusal()


def source_error(project: Project, *addresses: str, sha256: str | None = None) -> str:
    project.contents["config.yaml"]["dataset"] = {"sources": list(addresses), "sha256": sha256}
    project.save("config.yaml")
    return project.refusal()


def test_local_messages_that_are_missing_or_different_are_named(project):
    assert "dataset.sources: absent.tsv: no such file" in source_error(project, "absent.tsv")
    assert ".: a folder, not a file" in source_error(project, ".")
    assert "file:///absent: no such file" in source_error(project, "file:///absent")
    line = source_error(project, "messages.tsv", sha256="0" * 64)
    assert "messages.tsv: its sha256 is " in line and "set dataset.sha256: null for your own data" in line
    project.write("messages.tsv", "eggs\tand spam\n")
    assert "messages.tsv: line 1 has the label 'eggs'; allowed: ham, spam" in source_error(project, "messages.tsv")


def test_a_missing_local_file_is_accepted_if_another_source_is_remote(project):
    project.contents["config.yaml"]["dataset"]["sources"] = ["absent.tsv", "https://example.org/messages"]
    project.save("config.yaml")
    assert project.check().code == 0


def test_a_tokenizer_folder_without_its_files_is_named(project):
    project.contents["config.yaml"]["tokenizer"] = {"name": "gpt2", "sources": ["."]}
    project.save("config.yaml")
    line = project.refusal()
    assert "tokenizer.sources: ./vocab.bpe: no such file" in line and "./merges.txt: no such file" in line


def test_local_weights_that_are_missing_or_different_are_named(project):
    project.contents["models.yaml"]["tiny"]["source"] = "absent.safetensors"
    project.save("models.yaml")
    assert project.refusal().startswith(
        "models.yaml: tiny: source: absent.safetensors: no such file; set source to the path of your copy"
    )
    project.contents["models.yaml"]["tiny"] |= {"source": "tiny.safetensors", "n_layer": 3}
    project.save("models.yaml")
    assert "lacks tensor 'h.2.ln_1.weight' (and 11 more)" in project.refusal()
    project.contents["models.yaml"]["tiny"]["n_layer"] = 2
    project.save("models.yaml")
    (project.folder / "tiny.safetensors").write_bytes((project.folder / "tiny.safetensors").read_bytes()[:-1])
    assert "not a whole safetensors file" in project.refusal()


def test_weights_that_no_selected_row_needs_may_be_missing(project):
    project.contents["rows.yaml"]["defaults"]["weights"] = "random"
    project.save("rows.yaml")
    (project.folder / "tiny.safetensors").unlink()
    assert project.check().code == 0


def test_check_writes_nothing(project):
    before = sorted(os.walk(project.folder))
    project.check()
    assert sorted(os.walk(project.folder)) == before


def test_weights_without_tensors_are_refused(project):
    save_file({}, project.folder / "tiny.safetensors")
    assert "lacks tensor 'wte.weight' (and 27 more)" in project.refusal()


def test_the_command_line_in_a_process_of_its_own_gives_the_same_error(project, unprivileged):
    project.write("rows.yaml", "rows: {1: {trainable_layer: all}}\n")
    done = subprocess.run(
        [sys.executable, "-m", "gpt2_ablations", "check", "--config", "config.yaml"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, the_line(done.stderr)) == (1, "", project.refusal())

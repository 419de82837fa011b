"""Invalid messages files: each is refused with one line, and no split is written."""

import os

import pytest

from .conftest import Project

GOOD = "".join(f"ham\tsee you at {i}\nspam\twin a prize {i}\n" for i in range(20)).encode()


def split(project: Project, content: bytes) -> str:
    """The one-line error for a messages file. It is the same from `check` and from the job."""
    project.write("messages.tsv", content)
    checked = project.refusal()
    fetched = project.command("fetch_messages", "--config", "config.yaml")
    if fetched.code:
        return checked
    line = project.refusal("split_messages", "--config", "config.yaml")
    assert not (project.folder / "results" / "dataset" / "train.csv").exists()
    assert line == checked and line.startswith("messages.tsv: ")  # the user's file, not the workflow's copy
    return line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"\n\n\n", "the file is empty; expected lines of a label, a tab and a message"),
        (b"eggs\thello\n" + GOOD, "line 1 has the label 'eggs'; allowed: ham, spam"),
        (GOOD + b"Ham\thello\n", "line 41 has the label 'Ham'; allowed: ham, spam"),
        (GOOD + b"ham hello\n", "line 41 has the label 'ham hello'; allowed: ham, spam"),
        (GOOD + b"ham\t\n", "line 41 has an empty text; give it a text or remove the line"),
        (GOOD + b"spam\n", "line 41 has an empty text; give it a text or remove the line"),
        (GOOD + b"spam\t  \n", "line 41 has an empty text; give it a text or remove the line"),
        (
            GOOD + "ham\tcafé\n".encode("latin-1"),
            "(line 41) is not utf-8; set dataset.encoding",
        ),
        (GOOD.decode().encode("utf-16"), "is not utf-8; set dataset.encoding to the file's, such as utf-16"),
        (b"ham\thello\n" * 50, "50 ham and 0 spam examples; at least 10 of each are needed"),
        (b"spam\thello\n" * 50, "0 ham and 50 spam examples; at least 10 of each are needed"),
        (GOOD[: GOOD.index(b"ham\tsee you at 9")], "9 ham and 9 spam examples; at least 10 of each are needed"),
        (b"\x00" * 100, "line 1 has the label "),
        (b"<!DOCTYPE html><html></html>", "an HTML page in place of the file"),
        (b"PK\x03\x04 half a zip", "a damaged zip: its end is missing"),
    ],
)
def test_a_file_without_valid_messages_is_refused(project, content, message):
    assert message in split(project, content)


def test_a_line_with_too_many_fields_is_refused(project):
    assert "line 41 has 3 tab-separated fields, not 2" in split(project, GOOD + b"ham\tone\ttwo\n")
    assert "line 1 has 3 tab-separated fields, not 2" in split(project, b"ham\tone\ttwo\n" + GOOD)


def test_an_unclosed_quote_is_refused(project):
    problem = "line 41 opens a quote that no line closes; close it, or set dataset.quoting: none"
    assert problem in split(project, GOOD + b'ham\t"never closed\n' + GOOD)


def test_a_folder_instead_of_a_messages_file_is_named(project):
    (project.folder / "messages.tsv").unlink()
    (project.folder / "messages.tsv").mkdir()
    for arguments in ([], ["fetch_messages", "--config", "config.yaml"]):
        assert "messages.tsv: a folder, not a file" in project.refusal(*arguments)
    (project.folder / "results" / "dataset" / "SMSSpamCollection").mkdir(parents=True, exist_ok=True)
    line = project.refusal("split_messages", "--config", "config.yaml")
    assert line == "results/dataset/SMSSpamCollection: cannot be read (Is a directory); check the path"


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that opens and cannot be read")
def test_a_file_that_fails_while_it_is_read_is_named(project):
    project.contents["config.yaml"]["dataset"]["sources"] = ["/proc/self/mem"]
    project.save("config.yaml")
    for arguments in ([], ["fetch_messages", "--config", "config.yaml"]):
        assert "/proc/self/mem: cannot be read (Input/output error)" in project.refusal(*arguments)


def prepare(project: Project, content: bytes) -> None:
    """Make the inputs of `train`, with these messages."""
    project.write("messages.tsv", content)
    for command in ("fetch_messages", "split_messages", "tokenize", "fetch_weights --model tiny"):
        answer = project.command(*command.split(), "--config", "config.yaml")
        assert answer.code == 0, answer


LONG = GOOD + b"".join(b"%b\t%b\n" % (label, b"x" * 65) for label in (b"ham", b"spam") for _ in range(40))


def test_a_message_longer_than_the_models_positions_is_named_if_the_row_does_not_cut(project):
    prepare(project, LONG)
    flags = ["--model_size=tiny", "--no_padding", "--batch_size=1", "--config", "config.yaml"]
    line = project.refusal("train", *flags)
    assert "has 65 tokens and no_padding never cuts; tiny has 64 positions; shorten the text or drop" in line
    line = project.refusal("train", "--model_size=tiny", "--config", "config.yaml")
    assert (
        "the longest training example has 65 tokens; tiny has 64 positions; set context_length to an integer up to 64"
        in line
    )
    assert project.command("train", "--model_size=tiny", "--context_length=64", "--config", "config.yaml").code == 0


def test_a_batch_size_over_the_number_of_training_messages_is_named(project):
    prepare(project, GOOD)
    line = project.refusal("train", "--model_size=tiny", "--batch_size=29", "--config", "config.yaml")
    assert line == "batch_size is 29 and there are 28 training examples: no whole batch; allowed: 1 to 28"


@pytest.mark.parametrize("content", [b"", b"Label\n1\n", b"Label,Text\nx,y\n", b"Label,Text\n2,y\n", b"\xff\xfe"])
def test_a_damaged_split_is_named(project, content):
    prepare(project, GOOD)
    (project.folder / "results" / "dataset" / "test.csv").write_bytes(content)
    line = project.refusal("tokenize", "--config", "config.yaml")
    assert line.startswith("results/dataset/test.csv: ") and "delete it and run again" in line


@pytest.mark.parametrize("content", [b"", bytes(100), b"{}"])
def test_damaged_tokens_are_named(project, content):
    prepare(project, GOOD)
    (project.folder / "results" / "dataset" / "tokens.safetensors").write_bytes(content)
    for layers in ("last_block", "all"):
        line = project.refusal("train", "--model_size=tiny", f"--trainable_layers={layers}", "--config", "config.yaml")
        assert line.endswith("tokens.safetensors: damaged; delete it and run `snakemake --cores all tokenize`")

"""The splits: how many, from what, and which files are refused."""

import csv

import pytest

from gpt2_ablations.dataset import read_split, split_messages
from gpt2_ablations.errors import InputError


def messages(path, ham: int, spam: int, extra: str = ""):
    lines = [f"ham\tsee you at {i}" for i in range(ham)] + [f"spam\twin prize {i}" for i in range(spam)]
    path.write_text("\n".join(lines) + "\n" + extra, encoding="utf-8")
    return path


def texts(folder, name):
    return read_split(folder / f"{name}.csv")[1]


def test_classes_are_balanced_and_cut_70_10_20(tmp_path):
    counts = split_messages(messages(tmp_path / "m", ham=90, spam=50), tmp_path)
    assert counts == {"train": 70, "validation": 10, "test": 20}
    labels = [label for name in counts for label in read_split(tmp_path / f"{name}.csv")[0]]
    assert labels.count(0) == labels.count(1) == 50


def test_the_larger_class_is_drawn_from_also_when_it_is_spam(tmp_path):
    split_messages(messages(tmp_path / "m", ham=20, spam=70), tmp_path)
    labels = [label for name in ("train", "validation", "test") for label in read_split(tmp_path / f"{name}.csv")[0]]
    assert labels.count(0) == labels.count(1) == 20


def test_no_message_stands_in_two_splits(tmp_path):
    split_messages(messages(tmp_path / "m", ham=50, spam=50), tmp_path)
    drawn = [text for name in ("train", "validation", "test") for text in texts(tmp_path, name)]
    assert len(drawn) == len(set(drawn)) == 100


def test_the_same_messages_give_the_same_splits(tmp_path):
    source = messages(tmp_path / "m", ham=60, spam=40)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        split_messages(source, tmp_path / name)
    assert (tmp_path / "a" / "train.csv").read_bytes() == (tmp_path / "b" / "train.csv").read_bytes()


def test_a_text_with_commas_and_quotes_survives(tmp_path):
    source = messages(tmp_path / "m", ham=10, spam=10, extra='ham\ta, "b" and c\n')
    split_messages(source, tmp_path)
    for name in ("train", "validation", "test"):
        with open(tmp_path / f"{name}.csv", newline="") as file:
            assert [row["Text"] for row in csv.DictReader(file)] == texts(tmp_path, name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"ham\thello\neggs\thello\n", "message 2 has the label 'eggs'; allowed: ham, spam"),
        (b"ham\thello\nspam\t\n", "message 2 is empty"),
        (b"ham\thello\nspam\t   \n", "message 2 is empty"),
        (b"ham\thello\n" * 20, "20 ham and 0 spam messages; at least 10 of each are needed"),
        (b"ham\t\xff\xfe\n", "is not UTF-8"),
        (b"<html><body>no</body></html>\n", "message 1 has the label"),
    ],
)
def test_a_file_that_is_no_list_of_messages_is_refused_with_one_line(content, message, tmp_path):
    file = tmp_path / "messages"
    file.write_bytes(content)
    with pytest.raises(InputError) as error:
        split_messages(file, tmp_path)
    assert str(error.value).startswith(f"{file}: ") and message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "train.csv").exists()


def test_a_missing_split_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(
        InputError, match=r"train.csv: no such file; make it with `snakemake --cores all split_messages`"
    ):
        read_split(tmp_path / "train.csv")

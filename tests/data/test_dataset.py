"""The splits of the messages file, and the files that are refused."""

import csv

import pytest

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.data.dataset import parse_messages, read_split, split_messages
from gpt2_ablations.settings.dataset_format import DatasetFormat


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


def test_the_larger_class_is_sampled_also_if_it_is_spam(tmp_path):
    split_messages(messages(tmp_path / "m", ham=20, spam=70), tmp_path)
    labels = [label for name in ("train", "validation", "test") for label in read_split(tmp_path / f"{name}.csv")[0]]
    assert labels.count(0) == labels.count(1) == 20


def test_no_message_is_in_two_splits(tmp_path):
    split_messages(messages(tmp_path / "m", ham=50, spam=50), tmp_path)
    sampled = [text for name in ("train", "validation", "test") for text in texts(tmp_path, name)]
    assert len(sampled) == len(set(sampled)) == 100


def test_the_same_messages_give_the_same_splits(tmp_path):
    source = messages(tmp_path / "m", ham=60, spam=40)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        split_messages(source, tmp_path / name)
    assert (tmp_path / "a" / "train.csv").read_bytes() == (tmp_path / "b" / "train.csv").read_bytes()


def test_a_text_with_commas_and_quotes_is_read_back(tmp_path):
    source = messages(tmp_path / "m", ham=10, spam=10, extra='ham\ta, "b" and c\n')
    split_messages(source, tmp_path)
    for name in ("train", "validation", "test"):
        with open(tmp_path / f"{name}.csv", newline="") as file:
            assert [row["Text"] for row in csv.DictReader(file)] == texts(tmp_path, name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"ham\thello\neggs\thello\n", "line 2 has the label 'eggs'; allowed: ham, spam"),
        (b"ham\thello\nspam\t\n", "line 2 has an empty text"),
        (b"ham\thello\nspam\t   \n", "line 2 has an empty text"),
        (b"ham\thello\n" * 20, "20 ham and 0 spam examples; at least 10 of each are needed"),
        (b"ham\t\xff\xfe\n", "byte 4 (line 1) is not utf-8; set dataset.encoding to the file's, such as cp1252"),
        (b"<html><body>no</body></html>\n", "line 1 has the label"),
    ],
)
def test_an_invalid_messages_file_is_refused_with_one_line(content, message, tmp_path):
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


REVIEWS = DatasetFormat("comma", label_column="verdict", text_column="review", labels=("bad", "good"))
HEADER = "id,review,stars,verdict\n"


def reviews(bad: int, good: int) -> str:
    lines = [f'{i},"dull, ""slow"" and {i} hours long",1,bad' for i in range(bad)]
    return HEADER + "\n".join(lines + [f"{i},a joy,5,good" for i in range(good)]) + "\n"


def test_named_columns_and_labels_give_the_same_splits_as_the_default_format(tmp_path):
    (tmp_path / "reviews.csv").write_text(reviews(30, 20))
    lines = [f'ham\t"dull, ""slow"" and {i} hours long"' for i in range(30)] + ["spam\ta joy"] * 20
    (tmp_path / "plain.tsv").write_text("\n".join(lines) + "\n")
    for name, written in {"reviews.csv": REVIEWS, "plain.tsv": DatasetFormat()}.items():
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        assert split_messages(tmp_path / name, folder, written) == {"train": 28, "validation": 4, "test": 8}
    for name in ("train", "validation", "test"):
        split = (tmp_path / "reviews" / f"{name}.csv").read_text()
        assert split == (tmp_path / "plain" / f"{name}.csv").read_text() and 'dull, ""slow"" and' in split


def test_the_first_label_is_class_0(tmp_path):
    (tmp_path / "reviews.csv").write_text(reviews(20, 20))
    split_messages(tmp_path / "reviews.csv", tmp_path, REVIEWS)
    labels, texts = read_split(tmp_path / "train.csv")
    assert {(label, text.startswith("dull")) for label, text in zip(labels, texts)} == {(0, True), (1, False)}


@pytest.mark.parametrize("text", ["NA", "null", "12", "1e3", "True"])
def test_texts_that_look_like_numbers_or_missing_values_remain_texts(text):
    content = reviews(10, 10) + f"9,{text},1,bad\n"
    assert parse_messages(content.encode(), "reviews.csv", REVIEWS).texts[-1] == text


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_is_not_part_of_a_column_name(start):
    written = DatasetFormat("semicolon", "class", "text", ("0", "1"))
    content = start + b"class;text\n" + b"0;see you\n1;win\n" * 10
    assert parse_messages(content, "mine.csv", written).labels == ["0", "1"] * 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty; expected lines of comma-separated columns 'verdict' and 'review'"),
        (HEADER, "the file is empty"),
        ("id,text,verdict\n", "dataset.text_column is 'review', which is not in the first line; allowed: id, "),
        ("review,review,verdict\n", "duplicate column 'review' in the first line; rename one of them"),
        (reviews(10, 10) + "9,fine,3,middling\n", "line 22 has the label 'middling'; allowed: bad, good"),
        (reviews(10, 10) + "9,,3,good\n", "line 22 has an empty text; give it a text or remove the line"),
        (reviews(10, 10) + "9,fine, really,3,good\n", "line 22 has 5 comma-separated fields, not 4"),
        (reviews(10, 9), "10 bad and 9 good examples; at least 10 of each are needed"),
    ],
)
def test_an_invalid_table_is_refused_with_one_line(content, message):
    with pytest.raises(InputError) as error:
        parse_messages(content.encode(), "reviews.csv", REVIEWS)
    assert str(error.value).startswith("reviews.csv: ") and message in str(error.value)

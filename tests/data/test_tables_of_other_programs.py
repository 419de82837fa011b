"""Files of labelled texts as people's programs write them: encodings, marks, line ends, quotes, lengths, words."""

import codecs
import csv
import hashlib
import io
import zipfile

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.data.dataset import described, parse_messages, read_split, split_messages
from gpt2_ablations.data.download.archives import read_messages
from gpt2_ablations.data.download.sources import messages_name
from gpt2_ablations.settings.constants import SPLITS
from gpt2_ablations.settings.dataset_format import DatasetFormat
from tests.conftest import fuzz_cases

KAGGLE = DatasetFormat("comma", "v1", "v2", encoding="latin-1")
EXCEL = DatasetFormat("semicolon", "class", "text", ("no", "yes"), encoding="cp1252")


def plain(ham: int = 12, spam: int = 12) -> str:
    return "".join(f"ham\tsee you {i}\n" for i in range(ham)) + "".join(f"spam\twin {i}\n" for i in range(spam))


def kaggle() -> bytes:
    """The form in which this data set is most often found: columns without names, latin-1, \\r\\n."""
    lines = [
        "v1,v2,,,",
        'ham,"Go, jurong",,,',
        'spam,"WINNER!! £900, ""free""", and more,,',
        "ham,NA,,,",
        "spam,nan,,,",
    ]
    lines += [f"{label},text {i} £,,," for i in range(12) for label in ("ham", "spam")]
    return "\r\n".join([*lines, ""]).encode("latin-1")


def test_the_most_common_copy_of_the_data_set_is_read_bare_and_in_a_zip(tmp_path):
    file = tmp_path / "archive.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("spam.csv", kaggle())
    assert read_messages(file) == kaggle()
    examples = parse_messages(read_messages(file), file, KAGGLE)
    assert examples.texts[:4] == ["Go, jurong", 'WINNER!! £900, "free"', "NA", "nan"]
    assert examples.counts == {"ham": 14, "spam": 14} and examples.line_note is None


def test_a_csv_of_excel_with_semicolons_and_empty_rows_is_read():
    lines = [
        "class;text;",
        'yes;"a; ""b"" — €";',
        *[f"{label};text {i};" for i in range(12) for label in ("no", "yes")],
    ]
    content = "\r\n".join([*lines, ";;", ";;", ""]).encode("cp1252")
    examples = parse_messages(content, "mine.csv", EXCEL)
    assert examples.texts[0] == 'a; "b" — €' and examples.counts == {"no": 12, "yes": 13}


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", codecs.BOM_UTF8),
        ("utf-8", b""),
        ("UTF8", codecs.BOM_UTF8),
        ("utf-16", b""),  # Python writes the mark itself
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32", b""),
        ("cp1252", b""),
        ("mac_roman", b""),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_mark_and_line_end_gives_the_same_examples(encoding, mark, end):
    text = "label\ttext\n" + plain() + "ham\té £\n\n"
    written = DatasetFormat("tab", "label", "text", encoding=encoding)
    examples = parse_messages(mark + text.replace("\n", end).encode(encoding), "x", written)
    assert examples.texts[-1] == "é £" and examples.counts == {"ham": 13, "spam": 12}


@pytest.mark.parametrize(
    ("written_in", "stated", "suggested"),
    [
        ("cp1252", "utf-8", "cp1252"),
        ("utf-16", "utf-8", "utf-16"),
        ("utf-32", "utf-8", "utf-32"),
        ("utf-8", "ascii", "utf-8"),
        ("utf-8", "utf-32", "utf-8"),
    ],
)
def test_a_wrong_encoding_is_named_with_one_that_the_file_may_have(written_in, stated, suggested):
    with pytest.raises(InputError) as raised:
        parse_messages((plain() + "ham\t£9 “x”\n").encode(written_in), "mine.tsv", DatasetFormat(encoding=stated))
    line = str(raised.value)
    assert line.startswith("mine.tsv: ") and f"is not {stated}; set dataset.encoding to the file's" in line
    assert line.endswith(f"such as {suggested}") and "\n" not in line


def test_a_label_that_is_a_whole_file_is_shortened():
    with pytest.raises(InputError) as raised:
        parse_messages(b"x" * 10**6, "mine.tsv")
    assert len(str(raised.value)) < 150


def test_errors_name_the_source_that_the_user_wrote_and_not_its_secrets(tmp_path):
    copy, there = tmp_path / "copy", tmp_path / "mine.csv"
    there.touch()
    assert messages_name(["https://u:p@host/a.csv?token=x"], copy) == "https://host/a.csv?…"
    assert messages_name([str(there), "https://host/b"], copy) == str(there)
    assert messages_name(["https://host/a", str(there)], copy) == str(copy)  # it may be either
    assert messages_name([str(tmp_path / "gone"), str(there)], copy) == str(copy)


def test_half_characters_which_no_split_could_hold_are_refused():
    content = plain().encode() + b"ham\t+2AA-\n"
    assert "\ud800" in content.decode("utf-7")
    with pytest.raises(InputError, match=r"x: the file is not utf-7; set dataset\.encoding"):
        parse_messages(content, "x", DatasetFormat(encoding="utf-7"))


WORDS = ["NA", "N/A", "nan", "NaN", "None", "null", "NULL", "n/a", "<NA>", "#N/A", "-inf", "1e3", "True", "007"]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("header", [False, True])
def test_words_that_look_like_missing_values_or_numbers_are_texts_and_labels(word, header, tmp_path):
    columns = {"label_column": "l", "text_column": "t"} if header else {}
    written = DatasetFormat("tab", labels=(word, "other"), **columns)
    content = "l\tt\n" * header + "".join(f"{word}\t{word}\nother\t{word}\n" for _ in range(10))
    (tmp_path / "m").write_text(content)
    split_messages(tmp_path / "m", tmp_path, written)
    labels, texts = zip(*(read_split(tmp_path / f"{name}.csv") for name in SPLITS))
    assert {text for split in texts for text in split} == {word} and sum(map(sum, labels)) == 10


ODD = [
    "a\rb",
    "\r",
    "x\r\ny",
    "x\ny",
    '"',
    '""',
    'a "b" c',
    '"a" b',
    "a\0b",
    "\u2028",
    "a\x0bb\x0cc\x1cd\x85e",
    "'",
    ",",
]
ODD = [f"odd {text}" for text in ODD] + [f"{text} odd" for text in ODD] + ["x" * 140_000, "\ufeffodd", "=1+1", "\t odd"]


def quoted(rows: list[tuple[str, str]], delimiter: str = "\t") -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    return buffer.getvalue().encode()


def test_splits_hold_texts_with_any_line_end_quote_and_length(tmp_path):
    rows = [(label, text) for text in ODD for label in ("ham", "spam")]
    (tmp_path / "m").write_bytes(quoted(rows))
    split_messages(tmp_path / "m", tmp_path)
    texts = [text for name in SPLITS for text in read_split(tmp_path / f"{name}.csv")[1]]
    assert sorted(texts) == sorted(text for _, text in rows)


def test_a_quote_that_joins_lines_is_reported_with_its_lines(tmp_path, caplog):
    lines = plain(30, 30).splitlines()
    lines[28], lines[32] = 'ham\t"Buy', 'spam\tnow" friend'
    content = "\n".join(lines).encode()
    examples = parse_messages(content, "x")
    note = "60 lines, 56 examples: line 29 opens a quote that line 33 closes; dataset.quoting: none reads each line by"
    assert examples.line_note is not None and examples.line_note.startswith(note)
    assert described(examples) == [
        "Examples: 29 ham, 27 spam; 54 are used: 37 train, 5 validation, 12 test.",
        examples.line_note,
    ]
    assert parse_messages(content + b'\nham\t"a\nb"\n', "x").line_note.count("closes, and 1 more such; ") == 1
    as_they_are = parse_messages(content, "x", DatasetFormat(quoting="none"))
    assert as_they_are.counts == {"ham": 30, "spam": 30} and as_they_are.line_note is None
    assert as_they_are.texts[28] == '"Buy'


def test_a_quote_that_is_never_closed_is_refused_with_its_line():
    with pytest.raises(InputError, match="x: line 25 opens a quote that no line closes; close it, or set "):
        parse_messages((plain() + 'ham\t"never\nspam\tclosed\n').encode(), "x")
    assert parse_messages((plain() + 'ham\t"closed"').encode(), "x").texts[-1] == "closed"


def test_columns_beyond_those_of_the_first_line_are_refused_with_the_line():
    with pytest.raises(InputError, match="x: line 4 has 6 comma-separated fields, not 5; expected comma-separated col"):
        parse_messages(kaggle().replace(b"ham,NA,,,", b"ham,NA,,,,"), "x", KAGGLE)


def test_columns_without_a_name_are_not_listed():
    with pytest.raises(InputError) as raised:
        parse_messages(kaggle(), "x", DatasetFormat("comma", "label", "v2", encoding="latin-1"))
    assert str(raised.value).endswith(
        "dataset.label_column is 'label', which is not in the first line; allowed: v1, v2"
    )


def test_the_real_messages_join_one_pair_of_lines_and_keep_their_splits(shared, tmp_path):
    (tmp_path / "m").write_bytes(content := read_messages(shared / "real" / "sms_spam_collection.zip"))
    note = parse_messages(content, "x").line_note
    assert note is not None and note.startswith("5574 lines, 5572 examples: line 5082 opens a quote that line 5084 ")
    split_messages(tmp_path / "m", tmp_path)
    found = [hashlib.sha256((tmp_path / f"{name}.csv").read_bytes()).hexdigest()[:8] for name in SPLITS]
    assert found == ["ec2895b0", "f92996ef", "f82216f3"]


LINE = st.text(st.sampled_from("ab \"'\t,£") | st.characters(exclude_characters="\0\r\n", codec="utf-8"), max_size=12)


@settings(max_examples=fuzz_cases(), deadline=None)
@given(st.lists(LINE.filter(str.strip), max_size=8), st.sampled_from(["\n", "\r\n", "\r"]))
def test_quotes_lines_and_fields_are_those_of_pandas(lines, end):
    content = end.join([*(f"ham\t{line}" for line in lines), *plain().splitlines()])
    try:
        examples = parse_messages(content.encode(), "x")
    except InputError:
        return
    expected = pd.read_csv(io.StringIO(content), sep="\t", header=None, dtype=str, keep_default_na=False)
    assert list(zip(examples.labels, examples.texts, strict=True)) == list(expected.itertuples(index=False, name=None))


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip) | st.sampled_from(ODD[:-4])


@pytest.mark.faults
@settings(max_examples=fuzz_cases(), deadline=None)
@given(
    st.lists(TEXT, min_size=10, max_size=14),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be", "utf-7", "gb18030"]),
    st.sampled_from(["tab", "comma", "semicolon"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_any_texts_in_any_encoding_are_written_and_read_again(
    tmp_path_factory, texts, encoding, delimiter, end, header
):
    folder, buffer = tmp_path_factory.mktemp("splits"), io.StringIO(newline="")
    separator = {"tab": "\t", "comma": ",", "semicolon": ";"}[delimiter]
    writer = csv.writer(buffer, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "label", "")] * header)
    writer.writerows((text, label, "") if header else (label, text) for text in texts for label in ("ham", "spam"))
    (folder / "m").write_bytes(buffer.getvalue().encode(encoding))
    columns = {"label_column": "label", "text_column": "text"} if header else {}
    split_messages(folder / "m", folder, DatasetFormat(delimiter, encoding=encoding, **columns))
    found = [text for name in SPLITS for text in read_split(folder / f"{name}.csv")[1]]
    assert sorted(found) == sorted([*texts, *texts])

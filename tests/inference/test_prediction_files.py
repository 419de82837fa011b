"""The texts of a file to classify, as people's programs write it."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2_ablations.cli import main
from gpt2_ablations.common.errors import InputError
from gpt2_ablations.inference.prediction_files import read_texts
from tests.conftest import fuzz_cases


@pytest.fixture
def read(tmp_path):
    """A function that writes a file and reads its texts."""

    def texts(content: str | bytes, *arguments, name: str = "texts.txt", **options) -> list[str]:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(read_texts(str(tmp_path / name), *arguments, **options))

    return texts


def refusal(read, *arguments, **options) -> str:
    with pytest.raises(InputError) as raised:
        read(*arguments, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_in_every_encoding_and_with_every_line_end_are_texts(read, encoding, end):
    content = end.join(["win £9", "", 'say "no\u00a0', ""]).encode(encoding)
    stated = encoding.removesuffix("-sig")
    assert read(content, encoding=stated) == ["win £9", "", 'say "no\u00a0']


@pytest.mark.parametrize(
    ("name", "separator"), [("a.csv", ","), ("a.CSV", ","), ("a.tsv", "\t"), ("my.data.TSV", "\t")]
)
def test_a_table_whose_column_is_not_named_is_refused_with_the_names_of_its_columns(read, name, separator):
    line = refusal(read, f"\ufeffid{separator}review\n1{separator}good\n", name=name)
    assert f"{name}: a table; name the column of its texts with --column; found: id, review" in line


def test_long_fields_quotes_and_short_records_of_a_column_are_read(read):
    long = "x" * 140_000
    content = f'id,text\n1,{long}\n2,"two\r\nlines, ""quoted"""\n\n3\n4,NA\n'
    assert read(content, "text", name="a.csv") == [long, 'two\r\nlines, "quoted"', "", "NA"]


def test_other_delimiters_are_stated(read):
    assert read("id;text\r\n1;a, b\r\n", "text", delimiter="semicolon", name="a.csv") == ["a, b"]
    assert read("id\ttext\n1\ta, b\n", "text", delimiter="tab") == ["a, b"]
    assert "found 0 times in the first line; allowed: id;text" in refusal(read, "id;text\n", "text", name="a.csv")


def test_a_quote_in_a_table_joins_lines_with_a_note_or_is_a_character(read, capfd):
    content = 'id\ttext\n1\t"Buy\n2\tnow" friend\n3\tyes\n'
    assert read(content, "text", name="a.tsv") == ["Buy\n2\tnow friend", "yes"]
    note = "3 lines, 2 texts: line 2 opens a quote that line 3 closes; --quoting none reads each line by itself\n"
    assert capfd.readouterr().err == note
    assert read(content, "text", quoting="none", name="a.tsv") == ['"Buy', 'now" friend', "yes"]
    line = refusal(read, 'text\n"never\nclosed\n', "text", name="a.csv")
    assert line.endswith(
        "line 2 opens a quote that no line closes; close it, or read quotes as they are with --quoting none"
    )


@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_another_encoding_is_refused_with_the_flag_that_states_it(read, name):
    column = "text" if name == "a.csv" else None
    line = refusal(read, "text\ncafé\n".encode("latin-1"), column, name=name)
    assert line.endswith(f"{name}: not utf-8 text; name the file's encoding with --encoding, such as cp1252 or utf-16")
    assert "not utf-16 text" in refusal(read, b"text\n1", column, name=name, encoding="utf-16")


def test_flags_that_are_not_known_are_named(capfd):
    assert main(["predict", "--row", "1", "--encoding", "utf8000", "x"]) == 1
    assert "unknown encoding 'utf8000': expected one such as utf-8" in capfd.readouterr().err
    assert main(["predict", "--row", "1", "a", " "]) == 1
    assert capfd.readouterr().err == "error: predict: text 2 is empty; fill it in or remove it\n"


FIELD = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(['"', '""', "a\rb", "\r\n", "NA", ""])


@pytest.mark.faults
@settings(max_examples=fuzz_cases(), deadline=None)
@given(
    st.lists(FIELD, min_size=1, max_size=6),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "gb18030"]),
    st.sampled_from(["tab", "comma", "semicolon"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_any_column_in_any_encoding_is_read_as_it_was_written(tmp_path_factory, texts, encoding, delimiter, end):
    buffer, file = io.StringIO(newline=""), tmp_path_factory.mktemp("column") / "file"
    separator = {"tab": "\t", "comma": ",", "semicolon": ";"}[delimiter]
    writer = csv.writer(buffer, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("id", "text"), *enumerate(texts)])
    file.write_bytes(buffer.getvalue().encode(encoding))
    stated = encoding.removesuffix("-sig")
    assert list(read_texts(str(file), "text", delimiter, encoding=stated)) == texts

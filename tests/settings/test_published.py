"""The published figures: as printed, and all but one of them possible."""

import re

import pytest

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.settings.published import load_published

HEADER = "row,train_acc,val_acc,test_acc,minutes,device"


@pytest.fixture
def read(tmp_path):
    def load(*lines: str):
        (tmp_path / "published.csv").write_text("\n".join(lines) + "\n")
        return load_published(tmp_path / "published.csv")

    return load


def test_the_references_figures_are_those_it_prints(shared, results):
    document = (shared / "document/additional-experiments.txt").read_text()
    pattern = r"^(\d+) gpt2.* (\S+)% (\S+)% (\S+)% (\S+) min (\S+)$"
    printed = {row: (*map(float, values), device) for row, *values, device in re.findall(pattern, document, re.M)}
    ours = {
        row: (entry.train_acc, entry.val_acc, entry.test_acc, entry.minutes, entry.device)
        for row, entry in results.published.items()
    }
    assert len(printed) == 19
    assert ours == printed


def test_all_published_values_but_one_are_possible_counts(results):
    impossible = [
        (row, split)
        for row, entry in results.published.items()
        for split in ("train", "val", "test")
        if entry.correct(split, entry.total(split)) is None
    ]
    assert impossible == [("8", "val")]


def test_totals_and_values_may_be_left_out(read):
    entry = read(HEADER, "1,,,95.00,,")["1"]
    assert (entry.test_acc, entry.train_acc, entry.minutes, entry.test_total) == (95.0, None, None, None)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER, "1,1,1,101,1,A100"], "line 2: test_acc is '101'; allowed: a number from 0 to 100, or an empty field"),
        ([HEADER, "1,x,1,1,1,A100"], "line 2: train_acc is 'x'"),
        ([HEADER, "1,nan,1,1,1,A100"], "line 2: train_acc is 'nan'"),
        ([HEADER, "1,1,1,1,0,A100"], "line 2: minutes is '0'"),
        ([HEADER, "1,1,1"], "line 2: 3 fields, the first line has 6"),
        ([HEADER, "1,1,1,1,1,A100", "1,1,1,1,1,A100"], "line 3: duplicate row 1"),
        ([HEADER + ",devise", "1,1,1,1,1,A100,x"], "unknown column 'devise'; did you mean 'device'?"),
        ([HEADER + ",row", "1,1,1,1,1,A100,2"], "duplicate column 'row'"),
        (["row,train_acc,val_acc,minutes,device", "1,1,1,1,A100"], "column 'test_acc' is missing"),
    ],
)
def test_a_mistake_is_one_line(read, lines, message):
    with pytest.raises(InputError) as error:
        read(*lines)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"published\.csv: no such file"):
        load_published(tmp_path / "published.csv")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_figures_as_a_spreadsheet_writes_them_are_read(tmp_path, end, mark):
    device = '"2 ""A100"", ' + "x" * 140_000 + '"'
    lines = [HEADER, "", f'"1",96.63,"",95.00,,{device}', ",,,,,", "2,,,,,", ",,,,,", "", ""]
    (tmp_path / "published.csv").write_bytes((mark + end.join(lines)).encode())
    found = load_published(tmp_path / "published.csv")
    assert list(found) == ["1", "2"] and found["1"].device.startswith('2 "A100", xxx') and found["2"].test_acc is None
    (tmp_path / "published.csv").write_bytes((mark + end.join([*lines, "3,x,,,,"])).encode())
    with pytest.raises(InputError, match="line 9: train_acc is 'x'"):
        load_published(tmp_path / "published.csv")


def test_a_quote_that_is_never_closed_is_named_with_its_line(read):
    with pytest.raises(InputError, match="line 2 opens a quote that no line closes; close it"):
        read(HEADER, '1,,,,,"A100', "2,,,,,")

"""Durations, sizes, tables and other text for a terminal."""

import pytest

from gpt2_ablations.common.text import (
    bar,
    duration,
    file_size,
    listed,
    memory,
    paragraph,
    shorten,
    shorten_middle,
    text_table,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (0, "0 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (3600, "60 min"),
        (5970, "1.7 h"),
        (86400, "24.0 h"),
        (172800, "2.0 days"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 kB"),
        (207_707, "208 kB"),
        (999_600, "1.0 MB"),
        (548_105_171, "548 MB"),
        (6.43e9, "6.4 GB"),
        (2e12, "2.0 TB"),
    ],
)
def test_file_sizes_are_decimal(size, text):
    assert file_size(size) == text


@pytest.mark.parametrize(("mebibytes", "text"), [(512, "512 MiB"), (999.6, "1.0 GiB"), (24064, "23.5 GiB")])
def test_memory_is_binary(mebibytes, text):
    assert memory(mebibytes) == text


def test_a_table_is_aligned_with_numbers_to_the_right():
    assert text_table(["row", "time"], [["1", "5 s"], ["10", "12 min"]], right=[1]) == (
        "row    time\n1       5 s\n10   12 min"
    )


def test_the_widest_columns_of_a_table_are_shortened_to_fit_80_columns():
    rows = [["1", "m" * 70, "t" * 40, "123.4 GiB"]]
    lines = text_table(["row", "model", "trains", "memory"], rows, right=[3]).splitlines()
    assert max(map(len, lines)) == 80
    assert lines[1].startswith("1 ") and lines[1].endswith("123.4 GiB") and lines[1].count("…") == 2


def test_shortened_texts_have_an_ellipsis():
    assert shorten("abcdef", 6) == "abcdef" and shorten("abcdef", 4) == "abc…"
    assert shorten_middle("https://example.org/file.zip", 15) == "https:/…ile.zip"
    assert len(shorten_middle("x" * 100, 44)) == 44
    assert listed(["1", "2", "3"], 2) == "1, 2 and 1 more" and listed(["1"]) == "1"


def test_a_paragraph_does_not_break_paths():
    lines = paragraph("see " + "/a/long/path" * 10 + " and the words after it " * 5, "  ").splitlines()
    assert "/a/long/path" * 10 in [line.strip() for line in lines]
    assert all(len(line) <= 80 for line in lines if "/a/long" not in line)


def test_a_bar_is_full_only_at_the_end():
    assert bar(0, 4) == "[....]" and bar(0.99, 4) == "[###.]" and bar(1, 4) == "[####]" and bar(7, 4) == "[####]"

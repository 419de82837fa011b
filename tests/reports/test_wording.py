"""The format of numbers and lists in the reports."""

import pytest

from gpt2_ablations.reports import wording


@pytest.mark.parametrize(
    ("value", "text"), [(1.334, "+1.33"), (-0.333, "−0.33"), (0.0, "0.00"), (-0.0049, "0.00"), (1e-15, "0.00")]
)
def test_signed(value, text):
    assert wording.format_signed(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1.00×"), (17.486, "17.49×"), (0.0214, "0.021×"), (0.00214, "0.0021×"), (1450.4, "1,450×"), (0, "0.00×")],
)
def test_ratio(value, text):
    assert wording.format_ratio(value) == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.5, "p = 0.500"), (0.0004, "p = 0.0004"), (1e-9, "p < 0.0001"), (1, "p = 1.000")]
)
def test_p_values(p, text):
    assert wording.format_p_equals(p) == text


@pytest.mark.parametrize(
    ("rows", "text"), [(["1"], "row 1"), (["1", "2"], "rows 1 and 2"), (["1", "2", "3"], "rows 1, 2 and 3")]
)
def test_rows_named(rows, text):
    assert wording.rows_named(rows) == text


@pytest.mark.parametrize(("correct", "text"), [(285, "285/300"), (285.0, "285/300"), (284.667, "284.7/300")])
def test_counts(correct, text):
    assert wording.format_count(correct, 300) == text

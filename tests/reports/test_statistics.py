"""Statistics: cases worked by hand, and scipy's values."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gpt2_ablations.reports.statistics import (
    bootstrap_interval,
    holm,
    mcnemar_p,
    mean_and_sd,
    paired_p,
    sign_flip_p,
    wilson_interval,
    within_sampling_error,
)
from gpt2_ablations.settings.published import possible_count


def messages(*counts: int) -> np.ndarray:
    """Right and wrong messages in turns, bool [1, N]: messages(2, 1) is right, right, wrong."""
    turns = itertools.cycle([True, False])
    return np.array([[right for count, right in zip(counts, turns) for _ in range(count)]])


def test_the_standard_deviation_over_seeds_is_that_of_a_sample():
    assert mean_and_sd([0.95, 0.97]) == pytest.approx((0.96, 0.02 / math.sqrt(2)))


def test_one_seed_has_no_standard_deviation():
    assert mean_and_sd([0.95]) == (0.95, None)


def test_wilson_interval_worked_by_hand():
    # 285 of 300: center (p + z²/2n) / (1 + z²/n), half width z sqrt(pq/n + z²/4n²) / (1 + z²/n).
    z, n, p = 1.959964, 300, 0.95
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert wilson_interval(285, 300) == pytest.approx((center - half, center + half), abs=1e-6)


def test_wilson_interval_of_no_mistake_still_has_a_width():
    low, high = wilson_interval(300, 300)
    assert low == pytest.approx(0.98736, abs=1e-5)
    assert high == 1


def test_mcnemar_worked_by_hand():
    # 1 against 7: 2 · (C(8,0) + C(8,1)) / 2⁸.
    assert mcnemar_p(1, 7) == pytest.approx(2 * 9 / 256)


def test_fewer_than_six_discordant_messages_are_never_significant():
    assert mcnemar_p(5, 0) == pytest.approx(1 / 16)
    assert mcnemar_p(6, 0) == pytest.approx(1 / 32)


def test_rows_that_agree_on_every_message_have_p_one():
    assert paired_p(messages(9, 1), messages(9, 1)) == 1
    assert paired_p(np.tile(messages(9, 1), (3, 1)), np.tile(messages(9, 1), (3, 1))) == 1


def test_concordant_messages_do_not_matter():
    few = paired_p(messages(0, 7, 1), messages(7, 1))
    many = paired_p(messages(100, 7, 1), messages(107, 1))
    assert few == many == mcnemar_p(7, 1)


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=60))
@settings(max_examples=50, deadline=None)
def test_the_sign_flip_test_of_one_seed_is_mcnemars(differences):
    gained, lost = differences.count(1), differences.count(-1)
    assert sign_flip_p(np.array(differences)) == pytest.approx(mcnemar_p(gained, lost))


@given(st.lists(st.integers(-4, 4), min_size=2, max_size=9))
@settings(max_examples=25, deadline=None)
def test_the_sign_flip_test_is_scipys_exact_permutation_test(differences):
    expected = stats.permutation_test(
        (np.array(differences),), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_p(np.array(differences)) == pytest.approx(min(expected.pvalue, 1))


def test_sign_flip_worked_by_hand():
    # Sizes 2, 1, 1, all for the one row: of 8 sign patterns, two reach |4|.
    assert sign_flip_p(np.array([2, 1, 1, 0])) == pytest.approx(2 / 8)


def test_repeating_a_seed_brings_no_new_evidence():
    # Pooled as if they were new messages, three equal seeds would take p from 0.125 to 0.0005.
    reference, other = messages(96, 4), messages(100)
    three = np.tile(reference, (3, 1)), np.tile(other, (3, 1))
    assert paired_p(reference, other) == pytest.approx(0.125)
    assert paired_p(*three) == pytest.approx(0.125)


def test_the_bootstrap_is_reproducible():
    reference, other = messages(270, 30), messages(250, 10, 40)
    assert bootstrap_interval(reference, other) == bootstrap_interval(reference, other)


def test_the_bootstrap_of_one_seed_agrees_with_scipys():
    random = np.random.default_rng(1)
    reference, other = (random.random((1, 300)) < accuracy for accuracy in (0.9, 0.95))
    expected = stats.bootstrap(
        (reference[0].astype(float), other[0].astype(float)),
        lambda a, b, axis=-1: b.mean(axis=axis) - a.mean(axis=axis),
        paired=True,
        method="percentile",
        random_state=2,
    ).confidence_interval
    assert bootstrap_interval(reference, other) == pytest.approx((expected.low, expected.high), abs=1 / 300 + 1e-9)


def test_the_bootstrap_of_several_seeds_allows_for_their_spread():
    # All messages differ alike, but with the one seed for the one row and with the other for the other.
    reference = np.array([[False] * 100, [True] * 100])
    assert bootstrap_interval(reference, ~reference) == (-1, 1)


def test_the_spread_over_seeds_is_not_understated():
    # Every message of a seed has the same result, so that only the draw of seeds matters: sd of a mean is s / sqrt(n).
    right = np.array([0] * 10 + [1] * 10, dtype=bool)
    reference, other = np.zeros((20, 50), dtype=bool), np.repeat(right[:, None], 50, axis=1)
    low, high = bootstrap_interval(reference, other)
    expected = 2 * 1.96 * right.std(ddof=1) / math.sqrt(20)
    assert high - low == pytest.approx(expected, abs=2 / 19)


def test_equal_rows_have_a_difference_of_exactly_zero():
    assert bootstrap_interval(messages(9, 1), messages(9, 1)) == (0, 0)


def test_holm_worked_by_hand():
    # In order 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1, and never below one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_of_nothing_and_of_large_values():
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1, 1]


def test_equal_counts_lie_within_sampling_error():
    assert within_sampling_error(285, 300, 285, 300)


def test_the_edge_of_sampling_error_is_fishers():
    for other in range(285, 301):
        expected = stats.fisher_exact([[285, 15], [other, 300 - other]]).pvalue >= 0.05
        assert within_sampling_error(285, 300, other, 300) == expected
    assert within_sampling_error(285, 300, 294, 300)
    assert not within_sampling_error(285, 300, 295, 300)


@pytest.mark.parametrize(
    ("percentage", "total", "count"),
    [(95.00, 300, 285), (96.63, 1040, 1005), (99.33, 1045, 1038), (99.33, 149, 148), (100, 149, 149), (0, 149, 0)],
)
def test_a_printed_percentage_gives_its_count(percentage, total, count):
    assert possible_count(percentage, total) == count


@pytest.mark.parametrize(("percentage", "total"), [(99.81, 149), (95.01, 300), (50.00, 149), (100.01, 149)])
def test_some_percentages_are_no_count(percentage, total):
    assert possible_count(percentage, total) is None


@given(st.integers(1, 9_999), st.data())
@settings(max_examples=100)
def test_every_count_is_found_again_from_its_percentage(total, data):
    count = data.draw(st.integers(0, total))
    assert possible_count(float(f"{100 * count / total:.2f}"), total) == count

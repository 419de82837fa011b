"""Intervals and tests for accuracies on a few hundred examples.

Two rows are compared on the same test examples and with the same seeds. Functions that compare two rows take, for each,
which examples it classifies correctly: bool [seeds, examples].
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

LEVEL = 0.05
CONFIDENCE = 1 - LEVEL
REPLICATES = 10_000
BOOTSTRAP_SEED = 123
# Replicates drawn at a time: limits the memory for many seeds and examples.
REPLICATES_AT_ONCE = 1_000


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and the sample standard deviation (n - 1), which is None for one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Wilson's 95% interval of an accuracy, as fractions.

    It is the range of the accuracy on other examples from the same source, for this trained model.
    """
    interval = stats.binomtest(correct, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(baseline: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The 95% paired percentile bootstrap interval of the difference in accuracy, other minus baseline, as fractions.

    Each replicate draws examples with replacement, as many as there are. The same examples are drawn for both rows and
    all seeds. With several seeds, each replicate also draws seeds with replacement, the same for both rows and
    independent of the examples. It draws one seed fewer than there are: drawing as many would understate the variance
    between seeds by the factor (seeds - 1) / seeds. A replicate is the mean difference over the drawn examples and
    seeds. Two or three seeds give a poor estimate of the spread over seeds. The random generator is seeded, so equal
    arguments give equal intervals.

    Args:
        baseline, other: bool [seeds, examples], the same seeds and examples in the same order.
    """
    differences = other.astype(np.int8) - baseline.astype(np.int8)
    # Examples with equal results are interchangeable: it is enough to draw how often each pattern occurs.
    patterns, counts = np.unique(differences, axis=1, return_counts=True)  # [seeds, patterns]
    patterns = patterns.astype(float)  # products of integers are slow
    n_seeds, n_examples = differences.shape
    n_drawn = max(n_seeds - 1, 1)
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    replicates = []
    for _ in range(REPLICATES // REPLICATES_AT_ONCE):
        seeds = generator.multinomial(n_drawn, np.full(n_seeds, 1 / n_seeds), REPLICATES_AT_ONCE)
        examples = generator.multinomial(n_examples, counts / n_examples, REPLICATES_AT_ONCE)
        replicates.append(((seeds @ patterns) * examples).sum(axis=1) / (n_drawn * n_examples))
    low, high = np.quantile(np.concatenate(replicates), [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def paired_p(baseline: np.ndarray, other: np.ndarray) -> float:
    """The two-sided p-value of equal accuracy: McNemar's exact test, or its extension to several seeds.

    With one seed, only the examples count that exactly one row classifies correctly. Under equal accuracy, each of
    them favours either row with probability 1/2: the exact binomial test.

    With several seeds, the predictions of one example depend on each other and cannot be pooled as independent
    examples. An example counts once, with the sum of its differences over the seeds. Under equal accuracy, this sum is
    as likely positive as negative: the exact sign-flip test over examples, which for one seed is McNemar's. Both tests
    are about these trained models. Only `bootstrap_interval` accounts for other seeds.

    Args:
        baseline, other: bool [seeds, examples], the same seeds and examples in the same order.
    """
    differences = (other.astype(int) - baseline.astype(int)).sum(axis=0)
    if len(baseline) == 1:
        return mcnemar_p(int((differences > 0).sum()), int((differences < 0).sum()))
    return sign_flip_p(differences)


def mcnemar_p(gained: int, lost: int) -> float:
    """McNemar's exact p-value, from the number of examples that only the one or only the other row gets right."""
    return float(stats.binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


def sign_flip_p(differences: np.ndarray) -> float:
    """The exact two-sided p-value of a sum of integers whose signs are equally likely.

    The n examples of one size s add s · (2 · Binomial(n, 1/2) - n); these distributions are convolved.

    Args:
        differences: integers [examples].
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    distribution = np.ones(1)
    for size, count in zip(sizes, counts):
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        distribution = np.convolve(distribution, steps)
    sums = np.arange(len(distribution)) - len(distribution) // 2
    return min(1.0, float(distribution[np.abs(sums) >= abs(differences.sum())].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the given order.

    Rejecting where the adjusted p is below 5% keeps the probability of any false rejection at or below 5%.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def within_sampling_error(correct: int, total: int, other_correct: int, other_total: int) -> bool:
    """Whether the choice of examples alone can explain the difference of two accuracies.

    This is Fisher's exact test on the counts, with p at least 5%. It treats the counts as independent samples. For
    counts on the same examples this is lenient: examples that are hard for both make the true sampling error of the
    difference smaller. A "no" is strong evidence; a "yes" means that the counts do not contradict each other.
    """
    table = [[correct, total - correct], [other_correct, other_total - other_correct]]
    return bool(stats.fisher_exact(table).pvalue >= LEVEL)

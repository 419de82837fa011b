"""What accuracies on a few hundred messages can and cannot tell.

Two rows are always compared on the same test messages, and mostly with the same seeds. `correct` stands for which
messages a row classifies rightly: bool [seeds, messages].
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

LEVEL = 0.05
CONFIDENCE = 1 - LEVEL
REPLICATES = 10_000
BOOTSTRAP_SEED = 123
# Replicates drawn at a time: bounds the memory that many seeds and messages take.
REPLICATES_AT_ONCE = 1_000


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation of a sample (n - 1); None for one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Wilson's 95% interval of an accuracy, as fractions.

    It says how far the accuracy on other messages from the same source may lie, for the model as it is trained.
    """
    interval = stats.binomtest(correct, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(reference: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """A 95% interval of the difference in accuracy, other minus reference, as fractions.

    Paired percentile bootstrap. Each replicate draws as many messages as there are, with replacement, once for both
    rows: a drawn message brings its result in both rows and with every seed. With several seeds it also draws seeds,
    with replacement, once for both rows and independently of the messages; one fewer than there are, because drawing
    as many would understate the variance between seeds by the factor (seeds - 1) / seeds. The replicate is the mean
    difference over drawn messages and drawn seeds. Two or three seeds can still say little about the spread of others.
    The draws are the same in every run of the program.

    Args:
        reference, other: bool [seeds, messages], the same seeds and messages in the same order.
    """
    differences = other.astype(np.int8) - reference.astype(np.int8)
    # Messages with equal results are interchangeable: it is enough to draw how often each pattern occurs.
    patterns, counts = np.unique(differences, axis=1, return_counts=True)  # [seeds, patterns]
    patterns = patterns.astype(float)  # products of integers are slow
    n_seeds, n_messages = differences.shape
    n_drawn = max(n_seeds - 1, 1)
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    replicates = []
    for _ in range(REPLICATES // REPLICATES_AT_ONCE):
        seeds = generator.multinomial(n_drawn, np.full(n_seeds, 1 / n_seeds), REPLICATES_AT_ONCE)
        messages = generator.multinomial(n_messages, counts / n_messages, REPLICATES_AT_ONCE)
        replicates.append(((seeds @ patterns) * messages).sum(axis=1) / (n_drawn * n_messages))
    low, high = np.quantile(np.concatenate(replicates), [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def paired_p(reference: np.ndarray, other: np.ndarray) -> float:
    """The two-sided p-value of equal accuracy: McNemar's exact test, and its extension to several seeds.

    With one seed only the messages count that one row gets right and the other wrong. If the rows were equally good,
    each such message would favour either with probability 1/2: the exact binomial test.

    With several seeds the predictions of one message depend on each other, so that they cannot be pooled as if they
    were new messages. A message counts once, with the sum over seeds of its differences, and under equal accuracy its
    sign is as likely positive as negative: the exact sign-flip test over messages, which for one seed is McNemar's.
    Like McNemar's it speaks of these trained models. Other seeds may differ, which only the interval of
    `bootstrap_interval` allows for.

    Args:
        reference, other: bool [seeds, messages], the same seeds and messages in the same order.
    """
    differences = (other.astype(int) - reference.astype(int)).sum(axis=0)
    if len(reference) == 1:
        return mcnemar_p(int((differences > 0).sum()), int((differences < 0).sum()))
    return sign_flip_p(differences)


def mcnemar_p(gained: int, lost: int) -> float:
    """McNemar's exact p-value, from the messages that only the one row or only the other classifies rightly."""
    return float(stats.binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


def sign_flip_p(differences: np.ndarray) -> float:
    """The exact two-sided p-value of a sum of integers [messages] whose signs are each equally likely.

    Messages of equal size s add s · (2 · binomial - number of them); these distributions are convolved.
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
    """Holm's adjusted p-values, in the given order: those below 5% stand when all questions are asked at once."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def within_sampling_error(correct: int, total: int, other_correct: int, other_total: int) -> bool:
    """Whether two accuracies may differ by the choice of messages alone: Fisher's exact test of the counts, p >= 5%.

    The test takes the two for independent samples. For results on the same messages, of which only the counts are
    known, that is lenient: messages that are hard for both make the real sampling error of the difference smaller.
    A "no" is therefore strong evidence, and a "yes" says only that the counts do not contradict each other.
    """
    table = [[correct, total - correct], [other_correct, other_total - other_correct]]
    return bool(stats.fisher_exact(table).pvalue >= LEVEL)

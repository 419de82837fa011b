"""Equal examples are recognized, and only those."""

import torch

from gpt2_ablations.data.tokens import first_copies


def copies(*examples: list[int], real: list[int] | None = None) -> list[int]:
    lengths = real or [len(ids) for ids in examples]
    return first_copies([torch.tensor(ids) for ids in examples], torch.tensor(lengths)).tolist()


def test_a_repeated_example_gets_the_index_of_the_first_one():
    assert copies([5, 6], [5], [5, 6], [6, 5], [6, 5], [7], [5, 6]) == [0, 1, 0, 3, 3, 5, 0]


def test_examples_that_differ_only_in_the_number_of_padding_tokens_are_not_equal():
    # The token ids are equal, but the last real position differs.
    assert copies([5, 9, 9], [5, 9, 9], [5, 9, 9], real=[1, 2, 1]) == [0, 1, 0]

"""Messages that are the same are found, and only those."""

import torch

from gpt2_ablations.data.tokens import first_copies


def copies(*messages: list[int], real: list[int] | None = None) -> list[int]:
    lengths = real or [len(message) for message in messages]
    return first_copies([torch.tensor(message) for message in messages], torch.tensor(lengths)).tolist()


def test_a_message_that_comes_again_is_the_first_one():
    assert copies([5, 6], [5], [5, 6], [6, 5], [6, 5], [7], [5, 6]) == [0, 1, 0, 3, 3, 5, 0]


def test_padding_that_a_message_holds_itself_is_none_of_its_own():
    # The same ids, but the last real position is another one.
    assert copies([5, 9, 9], [5, 9, 9], [5, 9, 9], real=[1, 2, 1]) == [0, 1, 0]

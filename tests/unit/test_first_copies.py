"""Messages that are the same are found, and only those."""

import torch

from gpt2_ablations.tokens import AttendedSplit, first_copies


def split(*messages: list[int], real: list[int] | None = None) -> AttendedSplit:
    lengths = torch.tensor([len(message) for message in messages])
    return AttendedSplit(
        ids=torch.tensor([token for message in messages for token in message]),
        lengths=lengths,
        real_lengths=lengths if real is None else torch.tensor(real),
        labels=torch.arange(len(messages)) % 2,
    )


def test_a_message_that_comes_again_is_the_first_one_in_any_split():
    train, test = split([5, 6], [5], [5, 6], [6, 5]), split([6, 5], [7], [5, 6])
    assert first_copies([train, test]).tolist() == [0, 1, 0, 3, 3, 5, 0]


def test_padding_that_a_message_holds_itself_is_none_of_its_own():
    # The same ids, but the last real position is another one.
    assert first_copies([split([5, 9, 9], [5, 9, 9], [5, 9, 9], real=[1, 2, 1])]).tolist() == [0, 1, 0]

"""Batch orders are those of PyTorch's data loaders."""

import torch
from torch.utils.data import DataLoader

from gpt2_ablations.finetuning.batches import LoaderOrder, ModelInputs, cut_batches


def test_orders_are_those_of_data_loaders_whole_and_partial():
    torch.manual_seed(5)
    train = DataLoader(range(23), batch_size=4, shuffle=True, drop_last=True)
    validation = DataLoader(range(9), batch_size=4)
    theirs, ours, order = [], [], LoaderOrder(5)
    for _ in range(2):
        theirs += [batch.tolist() for batch in train]
        theirs += [next(iter(validation)).tolist()]
        theirs += [next(iter(train)).tolist()]
        ours += [batch.tolist() for batch in cut_batches(order.shuffled(23), 4, drop_last=True)]
        ours += [cut_batches(order.sequential(9), 4, drop_last=False)[0].tolist()]
        ours += [cut_batches(order.shuffled(23), 4, drop_last=True)[0].tolist()]
    assert ours == theirs


def test_the_last_short_batch_is_kept_unless_dropped():
    sizes = [len(batch) for batch in cut_batches(torch.arange(9), 4, drop_last=False)]
    assert sizes == [4, 4, 1] and len(cut_batches(torch.arange(9), 4, drop_last=True)) == 2


def test_texts_are_gathered_shortest_first_with_their_own_tokens():
    lengths = torch.tensor([2, 1, 3])
    inputs = ModelInputs(
        store=torch.tensor([10, 11, 20, 30, 31, 32]),
        starts=torch.tensor([0, 2, 3]),
        lengths=lengths,
        labels=torch.tensor([0, 1, 0]),
        pooled=lengths - 1,
        causal=True,
    )
    packed, layout, texts = inputs.gather(torch.tensor([2, 0, 1]), torch.device("cpu"))
    assert packed.tolist() == [20, 10, 11, 30, 31, 32]
    assert texts.tolist() == [1, 0, 2] and layout.lengths == (1, 2, 3)
    assert packed[layout.pooled].tolist() == [20, 11, 32]

"""Training runs on a GPU: each update is recorded and replayed, and where it cannot be, computed as it is."""

from collections import Counter

import pytest
import torch

from gpt2_ablations.finetuning import cuda_graph
from gpt2_ablations.finetuning import loop as training
from gpt2_ablations.finetuning.cuda_graph import GraphedUpdate
from gpt2_ablations.finetuning.updates import FixedShapeUpdates
from gpt2_ablations.settings.experiment import Experiment
from tests.device import DEVICE
from tests.oracle.test_fast_path import Case, check

pytestmark = pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU: make test-gpu")

RECORDED = {
    "head alone": Experiment(trainable_layers="last_layer"),
    "last block": Experiment(),
    "last block, real tokens": Experiment(trainable_token_pos="flexible"),
    "last block, no padding": Experiment(no_padding=True, batch_size=1),
    "last block, accumulated": Experiment(no_padding=True, batch_size=1, accumulation_steps=4),
    "last block, no mask": Experiment(disable_causal_mask=True),
    "mean": Experiment(average_embeddings=True),
    "two blocks": Experiment(trainable_layers="last_two_blocks"),
    "all": Experiment(trainable_layers="all", weights="random"),
    "LoRA": Experiment(trainable_layers="lora", lora_rank=4),
}


@pytest.fixture
def recorded(monkeypatch) -> list[GraphedUpdate]:
    """Every update that training runs hand over to be recorded."""
    made = []

    class Noted(GraphedUpdate):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr("gpt2_ablations.finetuning.updates.GraphedUpdate", Noted)
    return made


@pytest.mark.parametrize("name", RECORDED)
def test_updates_of_every_way_to_train_are_recorded_and_equal_the_plain_implementation(name, recorded):
    check(Case(RECORDED[name], texts=(40, 7, 9)))
    # The first of the two runs of `check` computes micro-batches.
    assert [update.graph is not None for update in recorded] == [True]


def test_updates_whose_batches_differ_in_shape_are_computed_as_they_are(recorded):
    check(Case(Experiment(trainable_layers="all", trainable_token_pos="flexible")))
    assert not recorded


@pytest.mark.parametrize("fault", ["asks the GPU", "is out of memory"])
def test_an_update_that_cannot_be_recorded_is_computed_as_it_is(fault, monkeypatch, recorded, capsys):
    compute = FixedShapeUpdates._whole_update

    def faulty(self, update, examples, weights):
        result = compute(self, update, examples, weights)
        if torch.cuda.is_current_stream_capturing():
            _ = result.sum().item() if fault == "asks the GPU" else torch.empty(2**45, device=DEVICE)
        return result

    monkeypatch.setattr(FixedShapeUpdates, "_whole_update", faulty)
    check(Case(Experiment(trainable_layers="all"), texts=(40, 7, 9)))
    assert all(update.graph is None for update in recorded)
    assert "note: continuing without a CUDA graph" in capsys.readouterr().err


def test_memory_that_runs_out_after_the_recording_leads_to_smaller_batches_without_it(monkeypatch, recorded):
    classify, calls = training.classify, Counter()

    def full_at_the_first_epoch_s_end(classifier, *arguments):
        calls[id(classifier)] += 1
        # After the two evaluations of losses at step 0.
        if calls[id(classifier)] == 3:
            raise torch.OutOfMemoryError("none left")
        return classify(classifier, *arguments)

    monkeypatch.setattr(training, "classify", full_at_the_first_epoch_s_end)
    check(Case(Experiment(), texts=(40, 7, 9)))
    updates_an_epoch = 5
    assert recorded[0].calls == updates_an_epoch > cuda_graph.WARM_UP

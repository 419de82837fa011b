"""The FLOPs that an estimate counts are those that the real code runs."""

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gpt2_ablations.data.tokens import TokenizedSplit, context_positions
from gpt2_ablations.finetuning.batches import inputs_from_features, inputs_from_tokens
from gpt2_ablations.finetuning.classifier import build_classifier
from gpt2_ablations.finetuning.features import Features, extract, lay_out_features, split_features
from gpt2_ablations.finetuning.loop import Finetuning
from gpt2_ablations.gpt2.weights import RandomWeights
from gpt2_ablations.planning.costs import Lengths, expected_lengths, feature_cost, training_cost
from gpt2_ablations.settings.config import load_config
from gpt2_ablations.settings.experiment import make_experiment
from gpt2_ablations.settings.feature_spec import feature_spec
from gpt2_ablations.settings.models import ModelConfig
from tests.conftest import CHECKOUT

CPU = torch.device("cpu")
MODEL = ModelConfig(n_layer=3, n_head=2, n_embd=32, n_positions=24, source="none: random weights")
CONFIG = load_config([CHECKOUT / "config" / "config.yaml"])
KINDS = {
    "last_block": {},
    "last_two_blocks": {"trainable_layers": "last_two_blocks"},
    "all": {"trainable_layers": "all"},
    "last_3_blocks": {"trainable_layers": "last_3_blocks"},
    "lora": {"trainable_layers": "lora", "lora_rank": 4},
    "lora-query-value": {"trainable_layers": "lora", "lora_rank": 8, "lora_layers": ["query", "value"]},
    "lora-values-mlp": {"trainable_layers": "lora", "lora_rank": 8, "lora_layers": ["value", "mlp_out", "head"]},
    "best": {"keep": "best_validation"},
    "masked": {"mask_padding": True},
    "masked-all": {"mask_padding": True, "trainable_layers": "all"},
    "masked-average": {"mask_padding": True, "average_embeddings": True},
    "average-of-real": {"average_embeddings": True, "average_over": "real"},
    "average": {"average_embeddings": True},
    "first": {"trainable_token_pos": "first"},
    "flexible": {"trainable_token_pos": "flexible"},
    "flexible-all": {"trainable_token_pos": "flexible", "trainable_layers": "all"},
    "no-padding": {"no_padding": True, "batch_size": 1},
    "long": {"context_length": "model_context_length", "trainable_layers": "all"},
}
WHOLE = (
    "all",
    "masked-all",
    "lora",
    "lora-query-value",
    "lora-values-mlp",
    "flexible-all",
    "long",
)  # nothing is frozen in these
FROZEN = {name: kind for name, kind in KINDS.items() if name not in WHOLE} | {
    "head": {"trainable_layers": "last_layer"},
    "head-of-mean": KINDS["average"] | {"trainable_layers": "last_layer"},
}


def tokens() -> dict[str, TokenizedSplit]:
    """Texts of which one in ten appears twice."""
    generator = torch.Generator().manual_seed(7)
    splits = {}
    for split, count in {"train": 41, "validation": 30, "test": 10}.items():
        lengths = torch.randint(1, 20, (count,), generator=generator)
        messages = [torch.randint(50256, (int(length),), generator=generator) for length in lengths]
        messages[count - count // 10 :] = messages[: count // 10]
        lengths = torch.tensor([len(message) for message in messages])
        splits[split] = TokenizedSplit(torch.cat(messages), lengths, torch.randint(2, (count,), generator=generator))
    return splits


LENGTHS = Lengths.of(
    {name: split.ids.numpy() for name, split in tokens().items()},
    {name: split.lengths.numpy() for name, split in tokens().items()},
)


def counted(work) -> float:
    """The FLOPs that PyTorch counts during some work, with attention as plain matrix products."""

    def product(result_shape, one_shape, other_shape, *rest, **more) -> int:
        return 2 * one_shape[0] * one_shape[1] * other_shape[1]

    in_place = {torch.ops.aten.addmm_: product}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        work()
    return counter.get_total_flops()


@pytest.fixture
def row(request, monkeypatch):
    """A row's settings, its frozen layers, their layout, and a function that computes them."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)  # PyTorch does not count its products
    experiment = make_experiment({"weights": "random", "num_epochs": 2, "batch_size": 4} | request.param, "here")
    spec = feature_spec(experiment, MODEL, 1, "float32")
    layout = spec and lay_out_features(spec, MODEL, tokens())
    return (
        experiment,
        spec,
        layout,
        lambda: list(extract(spec, MODEL, layout, lambda: RandomWeights(MODEL, 1), CPU, 64)),
    )


@pytest.mark.parametrize("row", FROZEN.values(), ids=FROZEN, indirect=True)
def test_flops_of_the_frozen_layers_are_counted(row):
    _, spec, _, run = row
    assert feature_cost(spec, MODEL, CONFIG, LENGTHS).flops == pytest.approx(counted(run), rel=0.01)


@pytest.mark.parametrize("row", KINDS.values(), ids=KINDS, indirect=True)
def test_flops_of_training_are_counted(row):
    experiment, spec, layout, run = row
    if spec is None:
        inputs = inputs_from_tokens(experiment, tokens(), context_positions(experiment, tokens(), MODEL.n_positions))
    else:
        hidden = torch.cat(run())
        inputs = inputs_from_features(
            experiment, Features(spec, split_features(layout, hidden), layout.context, 0.0, 0.0)
        )
    training = Finetuning(experiment, build_classifier(experiment, MODEL, RandomWeights(MODEL, 1), 1), inputs, 1, CPU)
    # The texts drawn for an evaluation are counted as average ones.
    expected = training_cost(experiment, MODEL, CONFIG, LENGTHS).flops
    assert expected == pytest.approx(counted(training.train), rel=0.06)


def test_wider_models_and_more_epochs_cost_more():
    model = MODEL.model_copy(update={"n_embd": 64, "n_head": 4})
    row = make_experiment({"trainable_layers": "all"}, "here")
    base = training_cost(row, MODEL, CONFIG, LENGTHS)
    wider = training_cost(row, model, CONFIG, LENGTHS)
    longer = training_cost(
        make_experiment({"trainable_layers": "all", "num_epochs": 10}, "here"), MODEL, CONFIG, LENGTHS
    )
    assert wider.flops > 2 * base.flops and wider.bytes_moved > 1.9 * base.bytes_moved
    assert 1.8 < longer.flops / base.flops < 2 and longer.steps == 2 * base.steps


def test_without_data_lengths_like_the_reference_s_are_expected():
    lengths = expected_lengths()
    assert [len(lengths.train), len(lengths.validation), len(lengths.test)] == [1045, 149, 300]
    assert lengths.distinct.max() == 120 and 28 < np.mean(lengths.distinct) < 34 and not lengths.known

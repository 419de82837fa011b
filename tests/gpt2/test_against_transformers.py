"""The same file of weights gives the same hidden states and logits as the transformers library's GPT-2."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gpt2_ablations.data.tokens import TokenizedSplit, context_positions
from gpt2_ablations.finetuning.batches import inputs_from_features, inputs_from_tokens
from gpt2_ablations.finetuning.classifier import build_classifier
from gpt2_ablations.finetuning.features import Features, extract, lay_out_features, split_features
from gpt2_ablations.gpt2.weight_files import check_pretrained_weights
from gpt2_ablations.gpt2.weights import PretrainedWeights
from gpt2_ablations.settings.constants import PAD_TOKEN, SPLITS
from gpt2_ablations.settings.experiment import Experiment
from gpt2_ablations.settings.feature_spec import FeatureSpec, feature_spec
from gpt2_ablations.settings.models import ModelConfig

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

MODEL = ModelConfig(n_layer=3, n_head=2, n_embd=16, n_positions=24, source="a file of these tests")
CONTEXT = 20
LENGTHS = {"train": [20, 1, 7, 7, 13], "validation": [3], "test": [19, 2, 20]}
TOLERANCE = 1e-5
SEED = 123
CPU = torch.device("cpu")
# A GPT2LMHeadModel's file has the `transformer.` prefix, a GPT2Model's has not.
LIBRARY_CLASSES = ("GPT2LMHeadModel", "GPT2Model")


def build_library_model(name: str):
    config = transformers.GPT2Config(
        vocab_size=50257,
        n_layer=MODEL.n_layer,
        n_head=MODEL.n_head,
        n_embd=MODEL.n_embd,
        n_positions=MODEL.n_positions,
        attn_implementation="eager",
    )
    model = getattr(transformers, name)(config).eval()
    generator = torch.Generator().manual_seed(5)
    # The library's initial weights are so small that attention is almost uniform, and its biases are zero.
    for parameter_name, parameter in model.named_parameters():
        drawn = 0.3 * torch.randn(parameter.shape, generator=generator)
        is_norm_weight = ".ln_" in f".{parameter_name}" and parameter_name.endswith("weight")
        parameter.data.copy_(1 + drawn if is_norm_weight else drawn)
    return model


@pytest.fixture(scope="module", params=LIBRARY_CLASSES)
def library(request, tmp_path_factory):
    """A library model and its saved file."""
    model = build_library_model(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return model, folder / "model.safetensors"


@pytest.fixture(scope="module")
def tokens() -> dict[str, TokenizedSplit]:
    generator = torch.Generator().manual_seed(3)
    return {
        name: TokenizedSplit(
            ids=torch.randint(PAD_TOKEN, (sum(lengths),), generator=generator),
            lengths=torch.tensor(lengths),
            labels=torch.zeros(len(lengths), dtype=torch.int64),
        )
        for name, lengths in LENGTHS.items()
    }


def padded(split: TokenizedSplit) -> Tensor:
    """Token ids, [N, CONTEXT]."""
    ids = torch.full((len(split.lengths), CONTEXT), PAD_TOKEN)
    for padded_ids, text in zip(ids, split.ids.split(split.lengths.tolist()), strict=True):
        padded_ids[: len(text)] = text
    return ids


@torch.no_grad()
def library_hidden_states(model, ids: Tensor) -> list[Tensor]:
    """What enters each block, then what the final norm gives, [N, T, C] each."""
    trunk = getattr(model, "transformer", model)
    return list(trunk(ids, output_hidden_states=True).hidden_states)


def compute_features(experiment: Experiment, tokens: dict[str, TokenizedSplit], file) -> Features:
    return run_frozen_layers(feature_spec(experiment, MODEL, SEED, "float32"), tokens, file)


def run_frozen_layers(spec: FeatureSpec, tokens: dict[str, TokenizedSplit], file) -> Features:
    layout = lay_out_features(spec, MODEL, tokens)
    shards = extract(spec, MODEL, layout, lambda: PretrainedWeights(file, MODEL), CPU, max_memory_mb=64)
    return Features(spec, split_features(layout, torch.cat(list(shards))), layout.context, 0.0, 0.0)


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def pool(hidden: Tensor, position: str, lengths: Tensor) -> Tensor:  # (N, T, C) -> (N, C)
    """The pooled hidden state of each text."""
    if position == "mean":
        return hidden.mean(dim=1)
    positions = {"first": torch.zeros_like(lengths), "last": torch.full_like(lengths, -1), "flexible": lengths - 1}
    return hidden[torch.arange(len(lengths)), positions[position]]


def options(position: str) -> dict:
    return {"average_embeddings": True} if position == "mean" else {"trainable_token_pos": position}


POSITIONS = ("first", "last", "flexible", "mean")


def test_both_kinds_of_file_are_saved_with_and_without_the_prefix(library):
    from safetensors import safe_open

    model, file = library
    with safe_open(file, framework="pt") as stored:
        prefixed = {name.startswith("transformer.") for name in stored.keys()}  # noqa: SIM118
    assert prefixed == {hasattr(model, "transformer")}


def test_file_of_the_library_passes_the_check(library):
    _, file = library
    check_pretrained_weights(file, MODEL)


@pytest.mark.parametrize("blocks", range(MODEL.n_layer))
def test_hidden_states_that_enter_a_block_equal_the_library_s(blocks, library, tokens):
    model, file = library
    spec = feature_spec(Experiment(trainable_layers="last_block"), MODEL, SEED, "float32")
    features = run_frozen_layers(replace(spec, blocks=blocks), tokens, file)
    for name in SPLITS:
        split = features.splits[name]
        expected = library_hidden_states(model, padded(tokens[name]))[blocks]
        assert set(split.lengths.tolist()) == {CONTEXT}
        for start, text in zip(split.starts.tolist(), expected, strict=True):
            assert_close(split.hidden[start : start + CONTEXT], text)


@pytest.mark.parametrize("position", POSITIONS)
def test_final_hidden_state_equals_the_library_s(position, library, tokens):
    model, file = library
    features = compute_features(Experiment(trainable_layers="last_layer", **options(position)), tokens, file)
    for name in SPLITS:
        final = library_hidden_states(model, padded(tokens[name]))[-1]
        split = features.splits[name]
        assert_close(split.hidden[split.starts], pool(final, position, tokens[name].lengths))


@pytest.mark.parametrize("trained", ["last_layer", "last_block", "last_two_blocks", "all", "lora"])
@pytest.mark.parametrize("position", POSITIONS)
def test_classifier_s_logits_equal_the_library_s_hidden_states_through_the_head(position, trained, library, tokens):
    model, file = library
    experiment = Experiment(trainable_layers=trained, **options(position))
    if feature_spec(experiment, MODEL, SEED, "float32") is None:
        inputs = inputs_from_tokens(experiment, tokens, context_positions(experiment, tokens, MODEL.n_positions))
    else:
        inputs = inputs_from_features(experiment, compute_features(experiment, tokens, file))
    classifier = build_classifier(experiment, MODEL, PretrainedWeights(file, MODEL), SEED)
    generator = torch.Generator().manual_seed(9)
    head_weight, head_bias = (torch.randn(shape, generator=generator) for shape in ((MODEL.n_embd, 2), (2,)))
    with torch.no_grad():
        classifier.head.weight.copy_(head_weight)
        classifier.head.bias.copy_(head_bias)
        for name in SPLITS:
            packed, layout, order = inputs[name].gather(torch.arange(len(tokens[name].labels)), CPU)
            logits = classifier(packed, layout)
            final = library_hidden_states(model, padded(tokens[name]))[-1]
            expected = pool(final, position, tokens[name].lengths) @ head_weight + head_bias
            assert_close(logits, expected[order])

"""A row's settings, flags, and the positions and layers it needs."""

import argparse
import dataclasses
import json
import shlex

import pytest

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.settings.experiment import Experiment, add_experiment_flags, experiment_from_flags, make_experiment
from gpt2_ablations.settings.models import load_models
from gpt2_ablations.settings.rows import load_experiments
from tests.conftest import CHECKOUT

# The reference's Usage section, with the misprints of rows 9 and 19 fixed.
USAGE = {
    "1": "",
    "2": "--trainable_token_pos first",
    "3": "--trainable_layers last_layer",
    "4": "--trainable_layers last_two_blocks",
    "5": "--trainable_layers all",
    "6": '--model_size "gpt2-medium (355M)"',
    "7": '--model_size "gpt2-large (774M)"',
    "8": '--model_size "gpt2-xl (1558M)"',
    "9": '--model_size "gpt2-xl (1558M)" --trainable_layers all',
    "10": "--weights random --trainable_layers all",
    "11": "--trainable_layers lora --lora_rank 16 --lora_alpha 16",
    "12": '--trainable_layers lora --lora_rank 16 --lora_alpha 8 --model_size "gpt2-xl (1558M)"',
    "13": '--context_length "model_context_length"',
    "14": "--no_padding --batch_size 1",
    "15": "--no_padding --batch_size 1 --accumulation_steps 8",
    "16": '--last_token_pos "flexible"',
    "17": "--disable_causal_mask",
    "18": "--ignore_index 50256",
    "19": "--average_embeddings",
}


def parse(flags: list[str]) -> Experiment:
    parser = argparse.ArgumentParser()
    add_experiment_flags(parser)
    return experiment_from_flags(parser.parse_args(flags))


@pytest.fixture(scope="module")
def rows() -> dict[str, Experiment]:
    models = load_models(CHECKOUT / "config" / "models.yaml")
    return load_experiments(CHECKOUT / "config" / "experiments.yaml", models, "config/models.yaml")


@pytest.mark.parametrize("row", USAGE)
def test_usage_command_makes_the_row(row, rows):
    assert parse(shlex.split(USAGE[row])) == rows[row]


@pytest.mark.parametrize("row", USAGE)
def test_flags_of_a_row_are_the_reference_s(row, rows):
    document = USAGE[row].replace("--last_token_pos", "--trainable_token_pos")
    assert sorted(rows[row].flags()) == sorted(shlex.split(document))


@pytest.mark.parametrize("row", USAGE)
def test_flags_make_the_same_row_again(row, rows):
    assert parse(rows[row].flags()) == rows[row]


def test_a_fractional_alpha_survives_the_command_line():
    experiment = Experiment(trainable_layers="lora", lora_alpha=0.1)
    assert parse(experiment.flags()) == experiment


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": 2e-4, "weight_decay": 0, "lr_schedule": "cosine", "warmup_steps": 3},
        {"class_weights": [1, 2.5], "lora_layers": ["value", "query"], "trainable_layers": "lora"},
        {"class_weights": "balanced", "max_grad_norm": 1.0, "label_smoothing": 0.1, "keep": "best_validation"},
    ],
)
def test_options_beyond_the_reference_survive_the_command_line_and_json(options):
    row = make_experiment(options, "here")
    assert parse(row.flags()) == row
    assert make_experiment(json.loads(json.dumps(dataclasses.asdict(row))), "there") == row


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"trainable_layers": "last_2_blocks"}, {"trainable_layers": "last_two_blocks"}),
        ({"trainable_layers": "last_1_blocks"}, {"trainable_layers": "last_block"}),
        ({"trainable_layers": "lora_alternative"}, {"trainable_layers": "lora"}),
        ({"learning_rate": "5e-5"}, {}),
        ({"lora_layers": ["head", "mlp_out", "mlp_in", "attention_output", "value", "key", "query"]}, {}),
        ({"lora_layers": ["value", "query"]}, {"lora_layers": ["query", "value"]}),
    ],
)
def test_the_same_row_written_in_another_way_is_the_same_row(written, meant):
    assert make_experiment(written, "here") == make_experiment(meant, "here")


def test_an_experiment_is_a_frozen_dataclass():
    assert dataclasses.is_dataclass(Experiment)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Experiment().batch_size = 3


@pytest.mark.parametrize(
    ("options", "attended"),
    [
        ({}, "all"),
        ({"trainable_token_pos": "first"}, "first"),
        ({"trainable_token_pos": "first", "disable_causal_mask": True}, "all"),
        ({"trainable_token_pos": "first", "average_embeddings": True}, "all"),
        ({"trainable_token_pos": "flexible"}, "real"),
        ({"trainable_token_pos": "flexible", "disable_causal_mask": True}, "all"),
        ({"no_padding": True, "batch_size": 1}, "all"),
        ({"mask_padding": True}, "real_and_last"),
        ({"mask_padding": True, "trainable_token_pos": "first"}, "first"),
        ({"mask_padding": True, "trainable_token_pos": "first", "disable_causal_mask": True}, "real"),
        ({"mask_padding": True, "trainable_token_pos": "flexible", "disable_causal_mask": True}, "real"),
        ({"mask_padding": True, "average_embeddings": True}, "all_on_real"),
        ({"mask_padding": True, "average_embeddings": True, "average_over": "real"}, "real"),
        ({"average_embeddings": True, "average_over": "real"}, "real"),
        ({"average_embeddings": True, "average_over": "real", "disable_causal_mask": True}, "all"),
        ({"no_padding": True, "batch_size": 1, "trainable_token_pos": "flexible"}, "all"),
    ],
)
def test_only_positions_that_reach_the_loss_are_attended(options, attended):
    assert Experiment(**options).attended == attended


@pytest.mark.parametrize(
    ("layers", "blocks"),
    [
        ("last_layer", 12),
        ("last_block", 11),
        ("last_two_blocks", 10),
        ("last_12_blocks", 0),
        ("all", None),
        ("lora", None),
    ],
)
def test_blocks_below_the_trained_layers_are_frozen(layers, blocks):
    assert Experiment(trainable_layers=layers).n_frozen_blocks(12) == blocks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"trainable_layers": "last_blok"},
            "row 3: trainable_layers is 'last_blok'; allowed: last_layer, last_block",
        ),
        ({"trainable_layer": "all"}, "row 3: unknown key 'trainable_layer'; did you mean 'trainable_layers'?"),
        ({"trainable_layers": "last_0_blocks"}, "row 3: trainable_layers is 'last_0_blocks'; allowed: last_layer"),
        ({"learning_rate": 0}, "row 3: learning_rate is 0; allowed: a number above 0, up to 1"),
        ({"learning_rate": "fast"}, "row 3: learning_rate is 'fast'; allowed: a number above 0, up to 1"),
        ({"weight_decay": -0.1}, "row 3: weight_decay is -0.1; allowed: a number from 0 to 1"),
        ({"lr_schedule": "step"}, "row 3: lr_schedule is 'step'; allowed: constant, linear, cosine"),
        ({"warmup_steps": -1}, "row 3: warmup_steps is -1; allowed: an integer from 0"),
        ({"max_grad_norm": 0}, "row 3: max_grad_norm is 0; allowed: a number above 0, or null"),
        ({"label_smoothing": 2}, "row 3: label_smoothing is 2; allowed: a number from 0 to 1"),
        ({"class_weights": [1]}, "row 3: class_weights is [1]; allowed: a list of a number above 0 for each class"),
        ({"class_weights": 3}, "row 3: class_weights is 3; allowed: a list of a number above 0 for each class"),
        ({"class_weights": [1, 0]}, "row 3: class_weights is [1, 0]; allowed: a list of a number above 0"),
        ({"lora_scaling": "rank"}, "row 3: lora_scaling is 'rank'; allowed: alpha, alpha/rank, alpha/sqrt(rank)"),
        ({"lora_layers": []}, "row 3: lora_layers is []; allowed: all, or a list of query, key, value"),
        ({"lora_layers": ["query", {}]}, "row 3: lora_layers is ['query', {}]; allowed: all, or a list of query"),
        ({"lora_layers": ["query"] * 2}, "row 3: lora_layers is ['query', 'query']; allowed: all, or a list of"),
        ({"mask_padding": True, "no_padding": True, "batch_size": 1}, "row 3: mask_padding masks the padding, and"),
        ({"average_over": "some"}, "row 3: average_over is 'some'; allowed: all, real"),
        ({"keep": "best"}, "row 3: keep is 'best'; allowed: last, best_validation"),
        ({"lora_rank": "x"}, "row 3: lora_rank is 'x'; allowed: an integer from 1 to 2147483647"),
        ({"lora_rank": 0}, "row 3: lora_rank is 0; allowed: an integer from 1 to"),
        ({"lora_alpha": -1}, "row 3: lora_alpha is -1; allowed: a number above 0"),
        ({"lora_alpha": float("nan")}, "row 3: lora_alpha is nan; allowed: a number above 0"),
        ({"num_epochs": True}, "row 3: num_epochs is True; allowed: an integer from 1 to"),
        ({"no_padding": "yes"}, "row 3: no_padding is 'yes'; allowed: true, false"),
        (
            {"context_length": 0},
            "row 3: context_length is 0; allowed: longest_training_example, model_context_length, or",
        ),
        ({"no_padding": True}, "row 3: no_padding needs batch_size 1, found batch_size 8; set batch_size: 1"),
        (
            {"average_embeddings": True, "trainable_token_pos": "flexible"},
            "row 3: average_embeddings pools all positions, and trainable_token_pos: flexible pools one",
        ),
    ],
)
def test_a_wrong_option_is_one_line_that_says_what_is_allowed(options, message):
    with pytest.raises(InputError) as error:
        make_experiment(options, "row 3")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)

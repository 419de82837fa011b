"""Labels: a row is named by the options it changes, a model by its label."""

import pytest

from gpt2_ablations.settings.experiment import Experiment
from gpt2_ablations.settings.labels import display_name, load_defaults, row_label, row_labels
from gpt2_ablations.settings.models import ModelConfig


def test_the_rows_of_the_reference(results):
    labels = row_labels(results.experiments, load_defaults(results.config), results.models)
    assert list(labels.values()) == [
        "1: defaults",
        "2: first token",
        "3: last layer",
        "4: last two blocks",
        "5: all layers",
        "6: gpt2-medium",
        "7: gpt2-large",
        "8: gpt2-xl",
        "9: gpt2-xl, all layers",
        "10: random weights, all layers",
        "11: LoRA (rank 16, alpha 16)",
        "12: gpt2-xl, LoRA (rank 16, alpha 8)",
        "13: full context length",
        "14: no padding (batch size 1)",
        "15: no padding (batch size 8)",
        "16: last real token",
        "17: no causal mask",
        "18: ignore_index 50256",
        "19: averaged embeddings",
    ]


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({"context_length": 64, "num_epochs": 1}, "x: context length 64, 1 epoch"),
        ({"trainable_layers": "lora"}, "x: LoRA (rank 8, alpha 8)"),
        ({"batch_size": 4, "accumulation_steps": 2}, "x: batch size 4, 2 accumulation steps"),
        ({"lora_rank": 4}, "x: defaults"),
        ({"mask_padding": True, "average_over": "real"}, "x: padding masked"),
        ({"average_embeddings": True, "average_over": "real"}, "x: averaged embeddings of real tokens"),
        (
            {"trainable_layers": "last_3_blocks", "keep": "best_validation"},
            "x: last 3 blocks, best epoch by validation",
        ),
        (
            {"learning_rate": 1e-4, "weight_decay": 0, "lr_schedule": "cosine", "warmup_steps": 1},
            "x: learning rate 0.0001, weight decay 0, cosine schedule, warm-up of 1 update",
        ),
        (
            {"max_grad_norm": 1.0, "label_smoothing": 0.1, "class_weights": [1, 2]},
            "x: gradient norm up to 1, label smoothing 0.1, class weights 1 and 2",
        ),
        (
            {"trainable_layers": "lora", "lora_scaling": "alpha/rank", "lora_layers": ["query", "mlp_in"]},
            "x: LoRA (rank 8, alpha 8 / rank, on query and mlp in)",
        ),
    ],
)
def test_rows_of_ones_own(options, label):
    assert row_label("x", Experiment(**options), vars(Experiment()), {}) == label


def test_reverting_a_default_is_a_change():
    defaults = Experiment(disable_causal_mask=True, no_padding=True, batch_size=1, ignore_index=50256)
    assert row_label("x", Experiment(), vars(defaults), {}) == "x: padding, batch size 8, causal mask, no ignore_index"


def test_another_rank_than_the_defaults():
    defaults = Experiment(trainable_layers="lora")
    label = row_label("x", Experiment(trainable_layers="lora", lora_rank=2, lora_alpha=0.5), vars(defaults), {})
    assert label == "x: LoRA (rank 2, alpha 0.5)"


def test_a_model_s_label_is_shown_whole_and_its_name_without_the_size():
    entry = ModelConfig(n_layer=1, n_head=1, n_embd=1, n_positions=1, source="-")
    models = {"a (1M)": entry, "b (2M)": entry.model_copy(update={"label": "b (miniature)"})}
    labels = [row_label("x", Experiment(model_size=name), vars(Experiment()), models) for name in models]
    assert labels == ["x: a", "x: b (miniature)"]
    assert [display_name(name, models) for name in models] == ["a (1M)", "b (miniature)"]

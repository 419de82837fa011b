"""An interrupted training run resumes from its checkpoint and gives the same numbers, bit for bit."""

import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from gpt2_ablations.data.tokens import TokenizedSplit, context_positions
from gpt2_ablations.finetuning import checkpoints, loop
from gpt2_ablations.finetuning.batches import LoaderOrder, inputs_from_features, inputs_from_tokens
from gpt2_ablations.finetuning.checkpoints import Checkpoint, TrainingState
from gpt2_ablations.finetuning.classifier import build_classifier
from gpt2_ablations.finetuning.features import Features, extract, lay_out_features, split_features
from gpt2_ablations.finetuning.loop import Finetuning
from gpt2_ablations.gpt2.weights import RandomWeights
from gpt2_ablations.runs.result import Step
from gpt2_ablations.settings.experiment import make_experiment
from gpt2_ablations.settings.feature_spec import feature_spec
from gpt2_ablations.settings.models import ModelConfig

CPU = torch.device("cpu")
MODEL = ModelConfig(n_layer=2, n_head=2, n_embd=8, n_positions=16, source="none: random weights")
KINDS = {
    "last_block": {},
    "last_layer": {"trainable_layers": "last_layer"},
    "all": {"trainable_layers": "all", "trainable_token_pos": "first"},
    "lora": {"trainable_layers": "lora", "lora_rank": 2},
    "schedule": {"lr_schedule": "cosine", "warmup_steps": 5, "learning_rate": 0.01, "max_grad_norm": 0.1},
    "best": {"keep": "best_validation", "learning_rate": 0.05, "class_weights": "balanced"},
    "no_padding": {"trainable_layers": "all", "no_padding": True, "batch_size": 1, "accumulation_steps": 3},
}


def finetuning(seed: int = 123, **options) -> Finetuning:
    """A training run of a few epochs on 50 random texts."""
    experiment = make_experiment({"weights": "random", "num_epochs": 4, "batch_size": 4} | options, "here")
    generator = torch.Generator().manual_seed(7)
    tokens = {}
    for split, count in {"train": 30, "validation": 10, "test": 10}.items():
        lengths = torch.randint(1, 13, (count,), generator=generator)
        ids = torch.randint(50256, (int(lengths.sum()),), generator=generator)
        tokens[split] = TokenizedSplit(ids, lengths, torch.randint(2, (count,), generator=generator))
    spec = feature_spec(experiment, MODEL, seed, "float32")
    if spec is None:
        inputs = inputs_from_tokens(experiment, tokens, context_positions(experiment, tokens, MODEL.n_positions))
    else:
        layout = lay_out_features(spec, MODEL, tokens)
        hidden = torch.cat(list(extract(spec, MODEL, layout, lambda: RandomWeights(MODEL, seed), CPU, 64)))
        inputs = inputs_from_features(
            experiment, Features(spec, split_features(layout, hidden), layout.context, 0.0, 0.0)
        )
    classifier = build_classifier(experiment, MODEL, RandomWeights(MODEL, seed), seed)
    return Finetuning(experiment, classifier, inputs, seed, CPU)


class Interrupted(Exception):
    """Stands for whatever ends a process."""


def interrupt(training: Finetuning, epoch: int, step: int = 2) -> None:
    """Make a training run end in the middle of an epoch."""
    update = training.optimizer.step

    def until_then() -> None:
        line = training.result.history[-1]
        if (line.epoch, line.step % 7) == (epoch, step):
            raise Interrupted
        update()

    training.optimizer.step = until_then


def checkpoint(folder: Path, **settings) -> Checkpoint:
    return Checkpoint(folder / "run.safetensors", {"seed": 123} | settings, every_epoch=True)


def interrupted(folder: Path, epoch: int, **options) -> None:
    training = finetuning(**options)
    interrupt(training, epoch)
    with pytest.raises(Interrupted):
        training.train(checkpoint(folder))


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, options):
    uninterrupted = finetuning(**options)
    expected = uninterrupted.train()
    interrupted(tmp_path, 2, **options)
    again = finetuning(**options)
    interrupt(again, 4)
    with pytest.raises(Interrupted):
        again.train(checkpoint(tmp_path))
    # The second process began with the second epoch, the third begins with the fourth.
    resumed = finetuning(**options)
    epochs = []
    train_epoch = resumed._train_epoch
    resumed._train_epoch = lambda epoch: (epochs.append(epoch), train_epoch(epoch))
    result = resumed.train(checkpoint(tmp_path))
    assert epochs == [4]
    assert [asdict(line) for line in result.history] == [asdict(line) for line in expected.history]
    assert result.correct == expected.correct and torch.equal(result.logits, expected.logits)
    for name, tensor in uninterrupted.state().items():
        assert torch.equal(resumed.state()[name], tensor), name


def test_nothing_is_resumed_before_the_first_epoch_ends(tmp_path):
    interrupted(tmp_path, 1)
    assert not (tmp_path / "run.safetensors").exists()
    assert checkpoint(tmp_path).load() is None


def test_a_checkpoint_of_other_settings_is_not_resumed(tmp_path, capfd):
    interrupted(tmp_path, 3)
    assert checkpoint(tmp_path, learning_rate=1e-4, seed=1).load() is None
    assert "run.safetensors: made with other settings (learning_rate, seed); not used" in capfd.readouterr().err
    assert checkpoint(tmp_path).load().epoch == 2


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None], ids=["empty", "text", "cut"])
def test_a_damaged_checkpoint_is_reported_and_not_used(tmp_path, capfd, damage):
    interrupted(tmp_path, 3)
    file = tmp_path / "run.safetensors"
    file.write_bytes(file.read_bytes()[:-1] if damage is None else damage)
    assert checkpoint(tmp_path).load() is None
    assert "run.safetensors: damaged (" in capfd.readouterr().err


def test_training_seconds_are_summed_over_interruptions(tmp_path):
    interrupted(tmp_path, 3)
    kept = checkpoint(tmp_path).load()
    assert 0 < kept.seconds < 100
    kept.seconds += 1000
    checkpoint(tmp_path).save(kept)
    assert 1000 < finetuning().train(checkpoint(tmp_path)).training_seconds < 1100


def test_a_checkpoint_is_written_when_it_costs_a_twentieth_of_the_time_since_the_last(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    one = Checkpoint(tmp_path / "run.safetensors", {})
    # 10 s on a slow disk.
    size = int(10 * checkpoints.SLOW_DISK)
    now = 199.0
    assert not one.is_due(size)
    now = 201.0
    assert one.is_due(size)

    def write_for_two_seconds(*_) -> bytes:
        nonlocal now
        now += 2
        return b""

    monkeypatch.setattr(checkpoints, "safetensors_header", write_for_two_seconds)
    one.save(TrainingState(1, 0.0, [Step(0, 1)], {}))
    # From here on, the cost of the last checkpoint counts, and the time since it.
    now += 39
    assert not one.is_due(size)
    now += 2
    assert one.is_due(size)


def test_a_checkpoint_that_cannot_be_written_does_not_stop_training(tmp_path, capfd):
    (tmp_path / "file").touch()
    lost = Checkpoint(tmp_path / "file" / "run.safetensors", {}, every_epoch=True)
    assert torch.equal(finetuning().train(lost).logits, finetuning().train().logits)
    warning = capfd.readouterr().err
    assert "warning: " in warning and "; training continues without this checkpoint" in warning


def test_the_order_of_batches_resumes_from_its_state():
    order, later = LoaderOrder(1), LoaderOrder(2)
    order.shuffled(5)
    later.state = order.state
    assert torch.equal(order.shuffled(50), later.shuffled(50))


def test_the_time_to_write_checkpoints_is_not_training_time(tmp_path, monkeypatch):
    clock, saved = [0.0], []
    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock[0])

    class Slow(Checkpoint):
        def save(self, state: TrainingState) -> None:
            saved.append(state.seconds)
            clock[0] += 1000

    training = finetuning(num_epochs=3, trainable_layers="last_layer")
    train_epoch = training._train_epoch

    def of_one_second(epoch: int) -> None:
        train_epoch(epoch)
        clock[0] += 1

    training._train_epoch = of_one_second
    result = training.train(Slow(tmp_path / "run.safetensors", {}, every_epoch=True))
    assert saved == [1, 2, 3] and result.training_seconds == 3

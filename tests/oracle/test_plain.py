"""The plain implementation, with which the fast path is compared, equals the reference."""

import argparse
import csv
import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from gpt2_ablations.settings.experiment import Experiment, add_experiment_flags, experiment_from_flags
from tests.oracle.plain import Dimensions, Finetuning, Texts, build_model, context_length
from tests.parity.inputs import MODELS, N_POSITIONS, write_synthetic

TRACES = Path(__file__).parents[1] / "parity" / "synthetic"
SEED = 123
# LoRA, no causal mask, averaged embeddings.
QUICK_ROWS = (11, 17, 19)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    write_synthetic(folder)
    return folder


def read_texts(file: Path) -> Texts:
    with open(file, newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return Texts([list(row["Text"].encode()) for row in rows], [int(row["Label"]) for row in rows])


def experiment_of(arguments: list[str]) -> Experiment:
    parser = argparse.ArgumentParser()
    add_experiment_flags(parser)
    return experiment_from_flags(parser.parse_args(arguments))


@pytest.mark.parametrize(
    "row", [row if row in QUICK_ROWS else pytest.param(row, marks=pytest.mark.slow) for row in range(1, 20)]
)
def test_plain_implementation_equals_the_reference(row, synthetic):
    trace = json.loads((TRACES / f"row-{row:02d}.json").read_text())
    experiment = experiment_of(trace["arguments"])
    stem, n_embd, n_layer, n_head = MODELS[experiment.model_size]
    dimensions = Dimensions(n_layer, n_head, n_embd, N_POSITIONS["synthetic"])
    data = {split: read_texts(synthetic / f"{split}.csv") for split in ("train", "validation", "test")}
    pretrained = load_file(synthetic / f"{stem}.safetensors") if experiment.weights == "pretrained" else None

    context = context_length(experiment, data["train"], dimensions)
    model = build_model(experiment, dimensions, SEED, pretrained)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    run = Finetuning(experiment, model, data, context).finetune(SEED)

    assert context == trace["context_length"]
    assert trained == trace["trainable_parameters"]
    assert run.batch_losses == pytest.approx(trace["batch_loss"], rel=0, abs=1e-5)
    assert [step for step, _, _ in run.evaluations] == [entry["step"] for entry in trace["evaluations"]]
    losses = [loss for _, *pair in run.evaluations for loss in pair]
    expected = [entry[name] for entry in trace["evaluations"] for name in ("train_loss", "val_loss")]
    assert losses == pytest.approx(expected, rel=0, abs=1e-5)
    expected = [entry[name] for entry in trace["epochs"] for name in ("train_acc", "val_acc")]
    assert [accuracy for pair in run.epochs for accuracy in pair] == pytest.approx(expected, rel=0, abs=1e-8)
    expected = [trace["final"][f"{name}_acc"] for name in ("train", "val", "test")]
    assert [correct / total for correct, total in run.correct.values()] == pytest.approx(expected, rel=0, abs=1e-8)
    expected = [logit for pair in trace["test_logits"] for logit in pair]
    assert run.test_logits.flatten().tolist() == pytest.approx(expected, rel=0, abs=1e-4)

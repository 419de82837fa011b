"""Invalid pretrained weights: `fetch_weights` names the tensor and the file, and keeps nothing of them."""

import re

import pytest
import torch

from .conftest import MODEL, Project, save_weights

SMALLER = MODEL | {"n_layer": 1}
LARGER = MODEL | {"n_layer": 3}
WIDER = MODEL | {"n_embd": 8}


def fetched(project: Project):
    return project.folder / "results" / "weights" / "tiny" / "model.safetensors"


def refusal(project: Project) -> str:
    line = project.refusal("fetch_weights", "--model", "tiny", "--config", "config.yaml")
    assert "tiny" in line
    assert [file for file in fetched(project).parent.iterdir() if not file.name.startswith(".")] == []
    return line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ln_f.bias": None}, "lacks tensor 'ln_f.bias'; expected a GPT-2 of 2 blocks"),
        ({"score.weight": torch.zeros(2, 4)}, "has an extra tensor 'score.weight'"),
        ({"h.1.ln_2.bias": torch.zeros(1, 4)}, "tensor 'h.1.ln_2.bias' has shape [1, 4], expected [4]"),
        ({"h.1.ln_2.bias": torch.zeros(4, dtype=torch.int64)}, "tensor 'h.1.ln_2.bias' has type I64; allowed: float"),
        ({"h.0.mlp.c_fc.bias": torch.full((16,), float("nan"))}, "tensor 'h.0.mlp.c_fc.bias' holds NaN or infinity"),
        ({"wpe.weight": torch.full((64, 4), float("inf"))}, "tensor 'wpe.weight' holds NaN or infinity"),
    ],
    ids=["missing", "extra", "mis-shaped", "integers", "NaN", "infinity"],
)
def test_a_wrong_tensor_is_named(project, changes, message):
    save_weights(project.folder / "tiny.safetensors", **changes)
    assert message in refusal(project)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (SMALLER, "lacks tensor 'h.1.ln_1.weight' (and 11 more)"),
        (LARGER, "has an extra tensor 'h.2.attn.c_attn.bias' (and 11 more)"),
        (WIDER, "tensor 'wte.weight' has shape [50257, 8], expected [50257, 4]"),
    ],
    ids=["smaller", "larger", "wider"],
)
def test_weights_of_another_size_are_refused(project, model, message):
    save_weights(project.folder / "tiny.safetensors", model)
    assert message in refusal(project)


@pytest.mark.parametrize("end", [1, 7, 8, 100, 5000, -1])
def test_a_truncated_file_is_refused(project, end):
    file = project.folder / "tiny.safetensors"
    file.write_bytes(file.read_bytes()[:end])
    assert "not a whole safetensors file" in refusal(project)


def test_an_empty_file_and_an_html_page_are_named_as_such(project):
    project.write("tiny.safetensors", b"")
    assert "an empty file" in refusal(project)
    project.write("tiny.safetensors", b"<!DOCTYPE html><html>login</html>")
    assert "an HTML page in place of the file" in refusal(project)


def test_a_pickle_is_refused_without_being_loaded(project):
    class Owner:
        def __reduce__(self):
            return open, ("owned", "w")

    torch.save(Owner(), project.folder / "tiny.safetensors")
    assert "a pickle, which could run code and is not read" in refusal(project)
    assert not (project.folder / "owned").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_float32(project, dtype):
    """A row gives the same results as on a float32 file of the rounded values."""
    tensors = save_weights(project.folder / "tiny.safetensors")
    rounded = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    logits = []
    for stored in (rounded, {name: tensor.float() for name, tensor in rounded.items()}):
        save_weights(project.folder / "tiny.safetensors", **stored)
        for command in ("fetch_messages", "split_messages", "tokenize", "fetch_weights --model tiny"):
            assert project.command(*command.split(), "--config", "config.yaml").code == 0
        row = ["--model_size=tiny", "--num_epochs=1", "--output=row", "--config", "config.yaml"]
        assert project.command("train", *row).code == 0
        logits.append((project.folder / "row" / "predictions.csv").read_text())
    assert logits[0] == logits[1]


def test_weights_that_are_damaged_after_they_were_fetched_are_named(project):
    for command in ("fetch_messages", "split_messages", "tokenize", "fetch_weights --model tiny"):
        assert project.command(*command.split(), "--config", "config.yaml").code == 0
    fetched(project).write_bytes(fetched(project).read_bytes()[:1000])
    for layers in ("last_block", "all"):
        flags = ["--model_size=tiny", f"--trainable_layers={layers}", "--config", "config.yaml"]
        assert "not a whole safetensors file" in project.refusal("train", *flags)


def test_weights_with_which_the_loss_is_not_finite_stop_the_training_at_that_step(project):
    tensors = save_weights(project.folder / "tiny.safetensors")
    # These weights are finite, so that the file is accepted; their products overflow float32.
    huge = {name: tensors[name] * 1e30 for name in ("h.1.mlp.c_fc.weight", "h.1.mlp.c_proj.weight")}
    save_weights(project.folder / "tiny.safetensors", **huge)
    for command in ("fetch_messages", "split_messages", "tokenize", "fetch_weights --model tiny"):
        assert project.command(*command.split(), "--config", "config.yaml").code == 0
    line = project.refusal("train", "--model_size=tiny", "--output=row", "--config", "config.yaml")
    assert re.match(r"step \d+: the loss is (nan|inf); training cannot continue; check the weights", line), line
    assert not (project.folder / "row" / "metrics.json").exists()


def test_fetched_weights_are_replaced_only_by_valid_ones(project):
    assert project.command("fetch_weights", "--model", "tiny", "--config", "config.yaml").code == 0
    good = fetched(project).read_bytes()
    save_weights(project.folder / "tiny.safetensors", SMALLER)
    project.refusal("fetch_weights", "--model", "tiny", "--config", "config.yaml")
    assert fetched(project).read_bytes() == good

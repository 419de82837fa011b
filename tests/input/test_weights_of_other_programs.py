"""Weights as other programs write them: they load where it is clear what they are, or one line says what to do."""

import io
import shlex
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt2_ablations.gpt2.weight_files import BEGINNINGS, WeightFile, weight_shapes
from gpt2_ablations.gpt2.weights import PretrainedWeights
from gpt2_ablations.settings.models import ModelConfig

from .conftest import MODEL, save_weights

TINY = ModelConfig(**MODEL)
CHECK = ["check", "--config", "config.yaml"]


def renamed(project, prefix: str, **others: torch.Tensor) -> dict[str, torch.Tensor]:
    """Give every tensor of the model's file a prefix, and add other tensors."""
    file = project.folder / "tiny.safetensors"
    tensors = load_file(file)
    save_file({prefix + name: tensor for name, tensor in tensors.items()} | others, file)
    return tensors


@pytest.mark.parametrize(
    ("prefix", "others"),
    [
        ("transformer.", ["score.weight"]),
        ("transformer.", ["lm_head.weight"]),
        ("transformer.", ["classifier.weight", "classifier.bias"]),
        ("_orig_mod.", []),
        ("_orig_mod.transformer.", ["_orig_mod.score.weight"]),
        ("base_model.model.transformer.", ["base_model.model.score.weight"]),
        ("module.", []),
    ],
)
def test_a_model_with_a_prefix_or_a_head_loads(project, prefix, others):
    tensors = renamed(project, prefix, **{name: torch.ones(2, 4) for name in others})
    assert project.command(*CHECK).code == 0
    assert project.command("fetch-weights", "--model", "tiny", "--config", "config.yaml").code == 0
    weights = PretrainedWeights(project.folder / "results" / "weights" / "tiny" / "model.safetensors", TINY)
    for name, tensor in (weights.embeddings() | weights.block(1) | weights.final_norm()).items():
        assert torch.equal(tensor, tensors[name])


def test_two_models_in_one_file_are_named(project):
    tensors = renamed(project, "policy.")
    both = {prefix + name: tensor for name, tensor in tensors.items() for prefix in ("policy.", "value.")}
    save_file({name: tensor.clone() for name, tensor in both.items()}, project.folder / "tiny.safetensors")
    line = project.refusal(*CHECK)
    assert "tiny.safetensors: holds 2 models, with the prefixes 'policy.', 'value.'; keep one of them" in line


def test_adapters_of_lora_are_named_alone_and_in_a_whole_model(project):
    prefix = "base_model.model.transformer."
    adapter = {f"{prefix}h.0.attn.c_attn.lora_A.weight": torch.ones(2, 4)}
    renamed(project, prefix, **adapter)
    assert "holds LoRA adapters; merge them into their model, with `merge_and_unload()`" in project.refusal(*CHECK)
    save_file(adapter, project.folder / "tiny.safetensors")
    assert "lacks tensor 'wte.weight' (and 27 more); " in (line := project.refusal(*CHECK))
    assert "holds LoRA adapters" in line


def test_a_larger_model_with_a_prefix_is_refused(project):
    save_weights(project.folder / "tiny.safetensors", MODEL | {"n_layer": 3})
    renamed(project, "transformer.")
    assert "has an extra tensor 'transformer.h.2.attn.c_attn.bias' (and 11 more)" in project.refusal(*CHECK)


def test_the_saved_model_of_a_row_is_named_with_the_command_that_writes_a_whole_one(project):
    head = {"head.weight": torch.ones(4, 2), "head.bias": torch.ones(2)}
    save_file(head, project.folder / "tiny.safetensors", {"format_version": "1"})
    assert "holds the trained layers alone; `export` writes the whole model" in project.refusal(*CHECK)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_says_how_to_convert_it_and_the_converted_file_loads(project, zipped):
    tensors = load_file(project.folder / "tiny.safetensors")
    tensors["lm_head.weight"] = tensors["wte.weight"]  # one memory, as transformers saves it
    torch.save(tensors, project.folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    project.contents["models.yaml"]["tiny"] = MODEL | {"source": "pytorch_model.bin"}
    project.save("models.yaml")
    line = project.refusal(*CHECK)
    found, _, command = line.partition("; convert a file that you trust: ")
    assert found.endswith("pytorch_model.bin: a pickle, which could run code and is not read")
    assert project.refusal("fetch-weights", "--model", "tiny", "--config", "config.yaml").endswith(command)
    program, *arguments = shlex.split(command)
    assert program == "python"
    if not zipped:
        return
    subprocess.run([sys.executable, *arguments], cwd=project.folder, check=True)
    assert WeightFile(project.folder / "model.safetensors", TINY).stored.keys() == weight_shapes(TINY).keys()


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_file_of_another_format_is_named(project, beginning):
    project.write("tiny.safetensors", beginning + b" and more" * 20)
    assert project.refusal(*CHECK).endswith(f"tiny.safetensors: {BEGINNINGS[beginning]}")


def test_a_zip_without_a_pickle_is_not_called_one(project):
    content = io.BytesIO()
    torch.save({}, content)
    project.write("tiny.safetensors", content.getvalue().replace(b"data.pkl", b"data.txt"))
    assert "not a whole safetensors file" in project.refusal(*CHECK)

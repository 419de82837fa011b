"""A feature file serves every row with the same frozen layers, whatever its model is called, and no other."""

import hashlib
import json
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gpt2_ablations.planning.workflow import load_workflow

from .conftest import MODEL, Project, save_weights

CONFIG = ["--config", "config.yaml"]


def extracted(project: Project, row: str) -> Path:
    """Extract the features of a row as the workflow's job does."""
    workflow = load_workflow(["config.yaml"])
    file = Path(workflow.feature_file(workflow.feature_spec(row, 123)))
    spec = json.dumps(asdict(workflow.spec(file.stem)))
    assert project.command("extract-features", "--spec", spec, "--output", str(file), *CONFIG).code == 0
    return file


def prepare(project: Project, models: dict, rows: dict) -> None:
    for file, content in (("models.yaml", models), ("rows.yaml", {"rows": rows})):
        project.contents[file] = deepcopy(content)
        project.save(file)
    for command in ("fetch-messages", "split-messages", "tokenize"):
        assert project.command(command, *CONFIG).code == 0
    for name in models:
        assert project.command("fetch-weights", "--model", name, *CONFIG).code == 0


@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_two_names_of_one_model_share_a_feature_file(project, weights):
    sha256 = hashlib.sha256((project.folder / "tiny.safetensors").read_bytes()).hexdigest()
    prepare(
        project,
        {name: MODEL | {"sha256": sha256} for name in ("tiny", "twin")},
        {name: {"model_size": name, "weights": weights} for name in ("tiny", "twin")},
    )
    file = extracted(project, "tiny")
    workflow = load_workflow(["config.yaml"])
    assert workflow.feature_file(workflow.feature_spec("twin", 123)) == str(file)
    flags = [f"--weights={weights}", "--num_epochs=1", "--seed=123", "--features", str(file), *CONFIG]
    predictions = []
    for name in ("tiny", "twin"):
        assert project.command("train", f"--model_size={name}", *flags, "--output", name).code == 0
        predictions.append((project.folder / name / "predictions.csv").read_text())
    assert predictions[0] == predictions[1]


def test_features_of_other_weights_are_refused_although_the_model_has_the_same_name(project):
    prepare(project, {"tiny": MODEL}, {"1": {"model_size": "tiny"}})
    file = extracted(project, "1")
    save_weights(project.folder / "other.safetensors")
    project.contents["models.yaml"]["tiny"] |= {"source": "other.safetensors"}
    project.save("models.yaml")
    line = project.refusal("train", "--model_size=tiny", "--features", str(file), *CONFIG)
    assert line.startswith(f"{file}: holds the features of ") and line.endswith("; leave --features out")


def test_a_gpu_that_the_configuration_names_has_feature_files_of_its_own_wherever_they_are_planned(project):
    files = {}
    for device in ("auto", "cpu", "cuda", "mps"):
        project.contents["config.yaml"]["device"] = device
        project.save("config.yaml")
        for local in (True, False):
            workflow = load_workflow(["config.yaml"], local=local)
            files.setdefault(device, set()).add(workflow.feature_file(workflow.feature_spec("1", 123)))
    assert all(len(of_device) == 1 for of_device in files.values())
    assert files["auto"] == files["cpu"] and len(set.union(*files.values())) == 3


def test_features_of_another_device_are_computed_again_for_the_row(project):
    prepare(project, {"tiny": MODEL}, {"1": {"model_size": "tiny"}})
    file = extracted(project, "1")
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    assert metadata["device"] == "cpu"
    flags = ["--model_size=tiny", "--num_epochs=1", "--features", str(file), *CONFIG]
    assert "not used" not in project.command("train", *flags, "--output", "same").err
    # Another device would round differently; these differ for all to see.
    tensors = load_file(file)
    save_file(tensors | {"hidden": tensors["hidden"] + 1}, file, metadata | {"device": "cuda"})
    said = project.command("train", *flags, "--output", "other").err
    assert "features of cuda are not used on cpu: computed again for this row\n" in said
    same, other = ((project.folder / run / "predictions.csv").read_text() for run in ("same", "other"))
    assert same == other

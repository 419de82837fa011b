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
from gpt2_ablations.settings.feature_spec import feature_identity

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


def test_features_of_a_gpu_are_in_a_file_of_their_own(project):
    files = []
    for device in ("cpu", "auto", "cuda", "mps"):
        project.contents["config.yaml"]["device"] = device
        project.save("config.yaml")
        workflow = load_workflow(["config.yaml"], local=device != "auto")
        files.append(workflow.feature_file(workflow.feature_spec("1", 123)))
    cpu, auto_on_a_cluster, cuda, mps = files
    assert auto_on_a_cluster == cuda and len({cpu, cuda, mps}) == 3


def test_a_row_says_that_its_features_come_from_another_device(project):
    prepare(project, {"tiny": MODEL}, {"1": {"model_size": "tiny"}})
    file = extracted(project, "1")
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    workflow = load_workflow(["config.yaml"])
    spec, model = workflow.feature_spec("1", 123), workflow.models["tiny"]
    identity = feature_identity(spec, model, workflow.config, "cuda")
    assert metadata["device"] == "cpu" and metadata["identity"] == file.stem != identity
    save_file(load_file(file), file, metadata | {"device": "cuda", "identity": identity})
    flags = ["--model_size=tiny", "--num_epochs=1", "--features", str(file), "--output", "out", *CONFIG]
    said = project.command("train", *flags).err
    assert "warning: the features were computed on cuda, and this row trains on cpu\n" in said

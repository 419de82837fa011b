"""Commands that a user runs by hand, without Snakemake: they choose threads as its jobs do."""

import json
import os

import pytest
import torch

from gpt2_ablations import cli
from gpt2_ablations.gpt2 import pretraining

from .conftest import MODEL

MINIATURE = json.dumps({"tiny": MODEL})
SPEC = {"model_size": "tiny", "blocks": 1, "attended": "all", "kept": "all", "context_length": None, "causal": True}
SPEC |= {"precision": "float32", "seed": None}


@pytest.fixture
def eight_cores(monkeypatch):
    """A process of eight cores for which nobody has chosen threads."""
    monkeypatch.setattr(cli, "usable_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    monkeypatch.delenv("OMP_NUM_THREADS")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--model_size=tiny", "--config", "config.yaml"],
        ["extract-features", "--output", "f", "--spec", json.dumps(SPEC), "--config", "config.yaml"],
        ["pretrain-miniature", "--output", "f", "--model", MINIATURE],
    ],
    ids=lambda command: command[0],
)
def test_a_command_on_a_miniature_takes_one_thread_as_its_job_does(command, project, eight_cores, monkeypatch):
    monkeypatch.setattr(pretraining, "pretrain", lambda *_, **__: None)
    project.command(*command)  # the inputs of the first two are missing
    assert (os.environ["OMP_NUM_THREADS"], torch.get_num_threads()) == ("1", 1)


def test_a_command_on_a_large_model_takes_the_cores_that_there_are(project, eight_cores):
    project.contents["models.yaml"]["tiny"] |= {"n_embd": 512}
    project.save("models.yaml")
    project.command("train", "--model_size=tiny", "--config", "config.yaml")
    assert (os.environ["OMP_NUM_THREADS"], torch.get_num_threads()) == ("8", 8)


def test_the_number_of_threads_that_the_environment_names_stays(project, eight_cores, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    project.command("train", "--model_size=tiny", "--config", "config.yaml")
    assert torch.get_num_threads() == 3


def test_a_spec_of_a_model_that_does_not_exist_names_it(project):
    spec = json.dumps(SPEC | {"model_size": "tinny"})
    line = project.refusal("extract-features", "--output", "f", "--spec", spec, "--config", "config.yaml")
    assert line == "--spec: model_size is 'tinny', not in models.yaml; did you mean 'tiny'? allowed: tiny"

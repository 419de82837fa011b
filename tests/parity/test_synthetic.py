"""Every row of the table computes what the reference computed, step by step, on the synthetic suite."""

import argparse
import hashlib
import json
from pathlib import Path

import pytest

from gpt2_ablations.finetuning import training_job
from gpt2_ablations.settings.config import Config
from gpt2_ablations.settings.experiment import Experiment, add_experiment_flags, experiment_from_flags
from gpt2_ablations.settings.models import load_models
from gpt2_ablations.settings.rows import load_experiments
from tests.conftest import CHECKOUT
from tests.device import DEVICE
from tests.parity.inputs import synthetic_config, write_synthetic, write_weights
from tests.parity.traces import assert_equals_trace, tolerance

ROWS = [str(row) for row in range(1, 20)]
INPUT_HASHES = {
    "train.csv": "a504ddb73c241076521cd1cf41b2b2594e180c3fde4257844954d80b88b7b9e9",
    "validation.csv": "003bf35e605a922a1c4e572e1ad19f2baaa525a09aad2534894f2ccdedb27244",
    "test.csv": "ff6a096fe0657fd627c668109d8aed70b199c5707f3e66c0d1e16ef2c8deceb0",
    "tiny-small.safetensors": "a7923ca44f1f75621b41b63499528bc39efdb7f307341efcfb48726e134d907d",
    "tiny-medium.safetensors": "7fd04b4167538ee7ef629c957a1f23b4415ca514c8a03fb38c807e0e972d7dcf",
    "tiny-large.safetensors": "d94f619e04ba86aae77c5276cb4c67ccc92bce6e259509c385000b432fb36bd7",
    "tiny-xl.safetensors": "50643aeae5cc67ff17c0492522ef31132d1469a671a6edd2b70fd9c41bc10a37",
}


def trace_of(row: str) -> dict:
    return json.loads((Path(__file__).parent / "synthetic" / f"row-{int(row):02d}.json").read_text())


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> tuple[Path, Config]:
    """The synthetic splits and weights, where the workflow would write them."""
    folder = tmp_path_factory.mktemp("synthetic")
    return folder, synthetic_config(folder, device=DEVICE.type)


def experiment_of(row: str, config: Config) -> Experiment:
    models = load_models(config.models)
    return load_experiments(CHECKOUT / "config" / "experiments.yaml", models, config.models)[row]


def test_inputs_are_the_bytes_the_traces_were_made_on(tmp_path):
    write_synthetic(tmp_path)
    assert {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in tmp_path.iterdir()} == INPUT_HASHES


def test_inputs_are_the_bytes_of_the_shared_generator(tmp_path, shared):
    import subprocess
    import sys

    for suite in ("synthetic", "real"):
        folder = tmp_path / suite
        write_synthetic(folder) if suite == "synthetic" else write_weights(folder, 1024)
        theirs = tmp_path / f"their-{suite}"
        subprocess.run([sys.executable, shared / "parity" / "make_inputs.py", suite, theirs], check=True)
        assert {f.name: f.read_bytes() for f in folder.iterdir()} == {f.name: f.read_bytes() for f in theirs.iterdir()}


@pytest.mark.parametrize("row", ROWS)
def test_row_of_the_experiments_file_is_the_reference_s_command(row, suite):
    _, config = suite
    parser = argparse.ArgumentParser()
    add_experiment_flags(parser)
    assert experiment_from_flags(parser.parse_args(trace_of(row)["arguments"])) == experiment_of(row, config)


@pytest.mark.parametrize("row", ROWS)
def test_row_equals_the_reference(row, suite):
    folder, config = suite
    output = folder / "rows" / row
    training_job.train(config, experiment_of(row, config), seed=123, row=row, features_file=None, output=output)
    assert_equals_trace(output, trace_of(row), tolerance("synthetic", row))

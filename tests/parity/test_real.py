"""The whole table through Snakemake, from the real messages and the real BPE, with scaled-down weights."""

import hashlib
import json
from pathlib import Path

import pytest
from safetensors import safe_open

from gpt2_ablations.data.tokens import load_tokens
from tests.conftest import CHECKOUT, run_snakemake, write_yaml
from tests.device import DEVICE
from tests.parity.inputs import model_entries, write_weights
from tests.parity.traces import assert_equals_trace, tolerance

ROWS = [str(row) for row in range(1, 20)]
SPLIT_HASHES = {
    "train.csv": "ec2895b026553ce06475815818c52cf44828af0605b07b257935a194e611195a",
    "validation.csv": "f92996ef2ae2ed6d6937e96bc7a3f739f2bae59b07d1babd7f3725e473f2d2bd",
    "test.csv": "f82216f37a6d785b52f99a84a3552dcc9835316018758c2117b2ca133e6c1409",
}


@pytest.fixture(scope="module")
def results(shared, tmp_path_factory) -> Path:
    """The results folder of `snakemake --cores all`, run once for the module."""
    folder = tmp_path_factory.mktemp("real table")
    write_weights(folder / "pretrained", 1024)
    write_yaml(folder / "models.yaml", model_entries("real", folder / "pretrained"))
    override = {
        "models": "models.yaml",
        "dataset": {"sources": [str(shared / "real" / "sms_spam_collection.zip")]},
        "tokenizer": {"sources": [str(shared / "real" / "tokenizer")]},
        "device": DEVICE.type,
    }
    write_yaml(folder / "override.yaml", override)
    (folder / "config").symlink_to(CHECKOUT / "config")
    run = run_snakemake("--cores", "all", "--configfile", "override.yaml", folder=folder)
    assert run.returncode == 0, run.stderr[-4000:]
    return folder / "results"


def test_splits_are_the_reference_s(results):
    found = {name: hashlib.sha256((results / "dataset" / name).read_bytes()).hexdigest() for name in SPLIT_HASHES}
    assert found == SPLIT_HASHES


def test_longest_messages_are_the_reference_s(results):
    tokens = load_tokens(results / "dataset" / "tokens.safetensors")
    longest = {name: int(split.lengths.max()) for name, split in tokens.items()}
    assert longest == {"train": 120, "validation": 90, "test": 97}


@pytest.mark.parametrize("row", ROWS)
def test_row_equals_the_reference(row, results, shared):
    trace = json.loads((shared / "parity" / "real" / f"row-{int(row):02d}.json").read_text())
    assert_equals_trace(results / "rows" / row / "seed-123", trace, tolerance("real", row))


def test_rows_share_the_features_of_their_frozen_layers(results):
    files = list((results / "features").glob("*.safetensors"))
    depths = []
    for file in files:
        with safe_open(file, "pt") as content:
            depths.append(json.loads(content.metadata()["spec"])["model_size"])
    # Rows 1, 18 and 19 share one file and rows 14 and 15 another; 2, 3, 4, 13, 16, 17 and 6, 7, 8 have their own.
    assert len(files) == 11 and sorted(depths)[-3:] == ["gpt2-small (124M)"] * 2 + ["gpt2-xl (1558M)"]


def test_table_has_a_line_for_every_row(results):
    lines = (results / "table.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:21]] == ROWS
    assert "longest train ex. (120)" in lines[2] and "context length (1024)" in lines[14]
    assert len((results / "table.csv").read_text().splitlines()) == 20

"""The files and commands of docs/your-own-table.md work unchanged in a copy of the checkout."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from gpt2_ablations.gpt2.weight_files import check_pretrained_weights
from gpt2_ablations.settings.models import ModelConfig
from tests.conftest import CHECKOUT, environment

PAGE = (CHECKOUT / "docs" / "your-own-table.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"`([\w./-]+)`[^`\n]*:\n\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL))
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", PAGE, flags=re.DOTALL)
    for line in block.splitlines()
]


def run(folder: Path, command: str) -> str:
    path = f"{Path(sys.executable).parent}:{environment()['PATH']}"
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment() | {"PATH": path, "PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert finished.returncode == 0, f"{command}\n{finished.stdout[-1000:]}{finished.stderr[-3000:]}"
    return finished.stdout


def test_the_page_names_its_files_and_commands():
    assert list(FILES) == ["reviews.csv", "reviews/models.yaml", "reviews/experiments.yaml"]
    assert len(COMMANDS) == 8


@pytest.mark.slow
def test_the_example_of_the_page_runs(tmp_path):
    for part in ("src", "workflow", "config"):
        shutil.copytree(CHECKOUT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "Snakefile", tmp_path)
    before = {file: file.read_bytes() for file in (tmp_path / "config").iterdir()}
    (tmp_path / "reviews.csv").write_text(FILES["reviews.csv"], encoding="utf-8")
    printed = {}
    for command in COMMANDS:
        printed[command.split(" --")[0]] = run(tmp_path, command)
        for name in ("reviews/models.yaml", "reviews/experiments.yaml"):  # edited after `init` has written them
            (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    table = printed["cat reviews/results/table.md"]
    assert [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")][2:] == [
        "last",
        "first",
        "lora",
    ]
    assert re.fullmatch(r"(bad|good)\t\d+\.\d\d%\tI loved every minute of it\.\n", printed["gpt2-ablations predict"])
    assert (tmp_path / "my-classifier" / "model.safetensors").is_file()
    assert before == {file: file.read_bytes() for file in (tmp_path / "config").iterdir()}
    # The layout of distilgpt2's file: with the output layer and attention masks, and prefixed names.
    model = ModelConfig(**yaml.safe_load(FILES["reviews/models.yaml"])["mini"])
    tensors = load_file(tmp_path / "mini.safetensors")
    odd = {f"transformer.{name}": tensor for name, tensor in tensors.items()}
    odd |= {f"transformer.h.{i}.attn.masked_bias": tensors["ln_f.bias"][:1].clone() for i in range(model.n_layer)}
    save_file(odd | {"lm_head.weight": tensors["wte.weight"].clone()}, tmp_path / "odd.safetensors")
    check_pretrained_weights(tmp_path / "odd.safetensors", model)


@pytest.mark.parametrize("name", ["distilgpt2"])
def test_the_entry_of_the_published_model_is_valid(name):
    (block,) = re.findall(rf"```yaml\n({name}:.*?)```", PAGE, flags=re.DOTALL)
    model = ModelConfig(**yaml.safe_load(block)[name])
    assert (model.n_layer, model.n_embd // model.n_head) == (6, 64)

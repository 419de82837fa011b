"""A project: a folder with one small file of each kind that a configuration names, on which commands run in-process."""

import os
import shutil
import subprocess
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from gpt2_ablations.cli import main
from gpt2_ablations.gpt2.weight_files import weight_shapes
from gpt2_ablations.settings.models import ModelConfig
from tests.conftest import environment

MODEL = {"n_layer": 2, "n_head": 2, "n_embd": 4, "n_positions": 64}
MODEL |= {"source": "tiny.safetensors", "sha256": None, "label": None}
PUBLISHED = ["row,train_acc,val_acc,test_acc,minutes,device,train_total,val_total,test_total"]
PUBLISHED += ["1,96.63,99.33,95.00,0.28,A100,1040,149,300"]
FILES = {
    "config.yaml": {
        "results": "results",
        "rows": "all",
        "experiments": "rows.yaml",
        "models": "models.yaml",
        "published": "published.csv",
        "comparisons": "comparisons.yaml",
        "seeds": [123],
        "device": "cpu",
        "precision": "float32",
        "micro_batch_size": None,
        "checkpoint_every_epoch": False,
        "keep_models": False,
        "note": None,
        "dataset": {
            "sources": ["messages.tsv"],
            "sha256": None,
            "delimiter": "tab",
            "label_column": None,
            "text_column": None,
            "labels": ["ham", "spam"],
            "encoding": "utf-8",
            "quoting": "standard",
        },
        "tokenizer": {"name": "bytes", "sources": []},
        "features": {"max_memory_mb": 2048},
    },
    "rows.yaml": {"defaults": {"model_size": "tiny"}, "rows": {"1": {}, "2": {"trainable_layers": "all"}}},
    "models.yaml": {"tiny": MODEL},
    "comparisons.yaml": {"layers": {"question": "All?", "pairs": [["1", "2"]], "measures": ["test_accuracy"]}},
}


@dataclass
class Answer:
    """The exit code, standard output and standard error of a command."""

    code: int
    out: str
    err: str


@dataclass
class Project:
    """A folder, the working directory, with a configuration and all files that it names."""

    folder: Path
    capture: pytest.CaptureFixture
    contents: dict = field(default_factory=lambda: deepcopy(FILES))

    def save(self, file: str) -> None:
        """Write a YAML file from `contents`."""
        (self.folder / file).write_text(yaml.safe_dump(self.contents[file], sort_keys=False), encoding="utf-8")

    def write(self, file: str, content: bytes | str) -> None:
        """Write a file, with any content."""
        (self.folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    def restore(self) -> None:
        """Write every file without a mistake."""
        self.contents = deepcopy(FILES)
        for file in self.contents:
            self.save(file)
        self.write("published.csv", "\n".join(PUBLISHED) + "\n")
        self.write("messages.tsv", "".join(f"ham\tsee you at {i}\nspam\twin a prize {i}\n" for i in range(70)))

    def command(self, *arguments: str) -> Answer:
        """Run a command in this process."""
        self.capture.readouterr()
        code = main(list(arguments))
        printed = self.capture.readouterr()
        return Answer(code, printed.out, printed.err)

    def check(self) -> Answer:
        """Run `check` on the configuration."""
        return self.command("check", "--config", "config.yaml")

    def refusal(self, *arguments: str) -> str:
        """Run a command that must fail, `check` by default; returns its one-line error without `error: `."""
        answer = self.command(*arguments) if arguments else self.check()
        assert answer.code == 1, answer
        if arguments[:1] == ("train",):  # a progress bar may be above the error
            return the_line(answer.err.splitlines(keepends=True)[-1])
        return the_line(answer.err)


def the_line(err: str) -> str:
    """Check that standard error is one printable error line; returns it without `error: `."""
    assert err.count("\n") == 1 and err.endswith("\n"), err
    line = err[:-1]
    assert line.startswith("error: ") and line.isprintable(), err
    return line.removeprefix("error: ")


def save_weights(path: Path, model: dict = MODEL, **changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Write random weights of a model's dimensions. `changes` replaces tensors by name; None leaves one out."""
    generator = torch.Generator().manual_seed(1)
    shapes = weight_shapes(ModelConfig(**model))
    tensors = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()} | changes
    save_file({name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}, path)
    return tensors


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory) -> Path:
    """Pretrained weights for the project's one model."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path)
    return path


@pytest.fixture
def project(tmp_path, weights_file, monkeypatch, capfd) -> Project:
    """A project without a mistake."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copy(weights_file, folder / "tiny.safetensors")
    made = Project(folder, capfd)
    made.restore()
    return made


@pytest.fixture
def unprivileged() -> Callable[..., subprocess.CompletedProcess]:
    """A function that runs a command to which file permissions apply, even if the tests run as root."""
    prefix = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root can read every file, and setpriv, which removes that right, is not installed")
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([*prefix, *arguments], env=environment(), capture_output=True, text=True, timeout=120)

    return run

"""Where everything lies below the results folder."""

from dataclasses import dataclass
from pathlib import Path

from .config import model_folder

DEMO_FOLDER = "results/demo/generated"
# In a run's folder: the layers that it trained, if they are kept.
MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class Paths:
    """The names of generated files; `Paths("results").split("train")` is `results/dataset/train.csv`."""

    results: str

    def _path(self, *parts: str) -> Path:
        return Path(self.results, *parts)

    @property
    def config(self) -> Path:
        return self._path("config.yaml")

    @property
    def messages(self) -> Path:
        return self._path("dataset", "SMSSpamCollection")

    def split(self, name: str) -> Path:
        return self._path("dataset", f"{name}.csv")

    @property
    def tokens(self) -> Path:
        return self._path("dataset", "tokens.safetensors")

    @property
    def tokenizer(self) -> Path:
        return self._path("tokenizer")

    def weights(self, model: str) -> Path:
        return self._path("weights", model_folder(model), "model.safetensors")

    def features(self, identity: str) -> Path:
        return self._path("features", f"{identity}.safetensors")

    def row(self, row: str, seed: int | str) -> Path:
        return self._path("rows", row, f"seed-{seed}")

    def checkpoint(self, run: Path) -> Path:
        """Where the training whose results go to the folder `run` keeps its checkpoint."""
        inside = run.is_relative_to(self.results)
        parts = run.relative_to(self.results).parts if inside else run.absolute().parts[1:]
        return self._path("checkpoints", ".".join(parts) + ".safetensors")

    @property
    def table(self) -> Path:
        return self._path("table.md")

    @property
    def table_data(self) -> Path:
        return self._path("table.csv")

    @property
    def comparison(self) -> Path:
        return self._path("comparison.md")

    @property
    def interpretation(self) -> Path:
        return self._path("interpretation.md")

    def train_log(self, row: str, seed: int | str) -> Path:
        return self._path("logs", "train", row, f"seed-{seed}.log")

    def page(self, name: str) -> Path:
        return self._path("pages", f"{name}.html")

    def row_page(self, row: str) -> Path:
        return self._path("pages", "rows", f"{row}.html")

    @property
    def plots(self) -> Path:
        return self._path("plots")

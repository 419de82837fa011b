"""The paths of all files in the results folder."""

from dataclasses import dataclass
from pathlib import Path

from .models import model_folder

DEMO_FOLDER = "results/demo/generated"
# The saved model, in a run's folder.
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
    def snapshot(self) -> Path:
        return self._path("snapshot")

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

    @property
    def weights_folder(self) -> Path:
        return self._path("weights")

    def weights(self, model: str) -> Path:
        return self.weights_folder / model_folder(model) / "model.safetensors"

    def features(self, identity: str) -> Path:
        return self._path("features", f"{identity}.safetensors")

    def row(self, row: str, seed: int | str) -> Path:
        return self._path("rows", row, f"seed-{seed}")

    def checkpoint(self, run: Path) -> Path:
        """The checkpoint of the training whose results are written to the folder `run`."""
        return self._path("checkpoints", f"{self._in_one_word(run)}.safetensors")

    @property
    def all_progress(self) -> Path:
        return self._path("progress")

    def progress(self, made: Path) -> Path:
        """The progress file of the job that makes a file, or a run's folder."""
        return self.all_progress / f"{self._in_one_word(made)}.json"

    def _in_one_word(self, path: Path) -> str:
        inside = path.is_relative_to(self.results)
        return ".".join(path.relative_to(self.results).parts if inside else path.absolute().parts[1:])

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

    @property
    def logs(self) -> Path:
        return self._path("logs")

    @property
    def benchmarks(self) -> Path:
        return self._path("benchmarks")

    def train_log(self, row: str, seed: int | str) -> Path:
        return self._path("logs", "train", row, f"seed-{seed}.log")

    def features_log(self, identity: str) -> Path:
        return self._path("logs", "extract_features", f"{identity}.log")

    def weights_log(self, model: str) -> Path:
        return self._path("logs", "fetch_weights", f"{model_folder(model)}.log")

    def page(self, name: str) -> Path:
        return self._path("pages", f"{name}.html")

    def row_page(self, row: str) -> Path:
        return self._path("pages", "rows", f"{row}.html")

    @property
    def plots(self) -> Path:
        return self._path("plots")

"""What the Snakefile asks: which files each rule of this configuration needs. Nothing here imports torch."""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from .checks import check_reports, check_results_folder
from .config import Config, ModelConfig, load_experiments, load_models, model_folder, parse_config, select_rows
from .errors import InputError
from .experiment import Experiment
from .feature_spec import FeatureSpec, feature_identity, feature_spec
from .files import write_text_whole
from .paths import DEMO_FOLDER, Paths
from .sources.places import SourceError, is_local, local_path, shown
from .yamlfile import load_yaml

PACKAGE = Path(__file__).parent
# More threads than this no longer make one job faster; below this width a model keeps one core busy at best.
MOST_THREADS = 16
SINGLE_THREAD_WIDTH = 256


@dataclass(frozen=True)
class Plan:
    """A checked configuration: all rows of the experiments file, and those selected for the table."""

    config: Config
    models: dict[str, ModelConfig]
    experiments: dict[str, Experiment]
    selected: dict[str, Experiment]
    paths: Paths
    specs: dict[str, FeatureSpec] = field(default_factory=dict)

    def features(self, row: str, seed: int) -> list[str]:
        """The feature file a run needs: one path, or none."""
        experiment = self.experiments[row]
        model = self.models[experiment.model_size]
        spec = feature_spec(experiment, model, seed, self.config.precision)
        if spec is None:
            return []
        identity = feature_identity(spec, model, self.config)
        self.specs.setdefault(identity, spec)
        return [str(self.paths.features(identity))]

    def spec(self, identity: str) -> FeatureSpec:
        """What the feature file of this name holds."""
        if identity not in self.specs:
            for row in self.experiments:
                for seed in self.config.seeds:
                    self.features(row, seed)
        return self.specs[identity]

    def row_weights(self, row: str) -> list[str]:
        """The weight file a row needs: one path, or none for random weights."""
        experiment = self.experiments[row]
        return [str(self.paths.weights(experiment.model_size))] if experiment.weights == "pretrained" else []

    def feature_weights(self, identity: str) -> list[str]:
        """The weight file a feature file is made from: one path, or none for random weights."""
        spec = self.spec(identity)
        return [str(self.paths.weights(spec.model_size))] if spec.seed is None else []

    @staticmethod
    def digests(weights: list[str]) -> list[str]:
        """The small files that hold the sha256 of weight files."""
        return [str(digest_file(Path(file))) for file in weights]

    def run_files(self, row: str) -> list[str]:
        """The metrics of a row with every seed."""
        return [str(self.paths.row(row, seed) / "metrics.json") for seed in self.config.seeds]

    def model_named(self, folder: str) -> str:
        """The model whose files lie in `weights/FOLDER`."""
        return next(name for name in self.models if model_folder(name) == folder)

    def tokenizer_files(self) -> list[str]:
        """The files of the tokenizer; none for bytes."""
        if self.config.tokenizer.name == "bytes":
            return []
        return [str(self.paths.tokenizer / name) for name in ("vocab.bpe", "encoder.json")]

    def threads(self, model_size: str) -> int:
        """Threads for a job on this model: one for a miniature, so that several jobs run side by side."""
        return 1 if self.models[model_size].n_embd < SINGLE_THREAD_WIDTH else MOST_THREADS

    def gpus(self) -> int:
        """How many graphics cards a job takes: one, or none where rows run on the CPU."""
        return int(self.config.device == "cuda" or (self.config.device == "auto" and graphics_cards() > 0))


def digest_file(weights: Path) -> Path:
    """The small file beside a weight file that holds its sha256."""
    return weights.with_name(weights.name + ".sha256")


def make_plan(merged: dict, configfiles: list[str]) -> Plan:
    """Check a configuration as Snakemake merged it, and every file it names.

    Args:
        merged: Snakemake's `config`.
        configfiles: the files it came from; they are read again only to refuse duplicate keys.

    Raises:
        InputError: something in them is wrong.
    """
    if not configfiles and not merged:
        raise InputError("no configuration; run snakemake in the folder that holds config/config.yaml")
    # Snakemake lists the files of `--configfile` before the Snakefile's own, which they override.
    in_order = [str(file) for file in [*configfiles[-1:], *configfiles[:-1]]]
    files = {name: load_yaml(name) for name in map(_from_here, in_order)}
    config = parse_config(merged, files)
    models = load_models(config.models)
    experiments = load_experiments(config.experiments, models, config.models)
    selected = select_rows(config, experiments)
    check_results_folder(config.results)
    check_reports(config, experiments)
    return Plan(config, models, experiments, selected, Paths(config.results))


def _from_here(path: str) -> str:
    """A path as its user would write it: relative to this folder if it lies below it."""
    path = os.path.abspath(path)
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def write_config(merged: dict, path: Path) -> None:
    """Write the merged configuration where the jobs read it.

    Raises:
        InputError: the results folder cannot be written.
    """
    try:
        write_text_whole(path, yaml.safe_dump(merged, sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise InputError(f"results: {path} cannot be written ({error.strerror}); choose another folder") from None


def sources_made_here(sources: list[str]) -> list[str]:
    """Those sources that are files: the demo's, which its rules make, and local ones that exist.

    A job lists them as input, so that it waits for the demo's and runs again when one changes.
    """
    return [file for source in sources if (file := _file_on_disk(source))]


def _file_on_disk(source: str) -> str | None:
    if source.startswith(DEMO_FOLDER):
        return source
    try:
        return str(local_path(source)) if is_local(source) and local_path(source).is_file() else None
    except (OSError, SourceError):
        return None


def without_secrets(sources: list[str]) -> list[str]:
    """Sources as a rule's parameters, which Snakemake prints when they change.

    A digest stands for what is left out, so that a job still runs again when it changes.
    """
    return [
        text if (text := shown(source)) == source else f"{text} {hashlib.sha256(source.encode()).hexdigest()[:8]}"
        for source in sources
    ]


def code(*modules: str) -> list[str]:
    """Source files as rule inputs: a job runs again when their contents change, not when their dates do."""
    return [os.path.relpath(PACKAGE / f"{module}.py") for module in modules]


def graphics_cards() -> int:
    """How many NVIDIA cards this machine shows."""
    if not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listed.stdout.count("UUID") if listed.returncode == 0 else 0

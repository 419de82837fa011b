"""What the Snakefile asks: which files each rule of this configuration needs. Nothing here imports torch."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import yaml

from ..common.errors import InputError
from ..common.files import write_text_whole
from ..common.gpus import visible_gpus
from ..common.hardware import usable_cores
from ..common.hashing import digest_file
from ..data.download.sources import SourceError, is_local, local_path, shown
from ..settings.config import (
    Config,
    ModelConfig,
    load_config,
    load_experiments,
    load_models,
    model_folder,
    parse_config,
    select_rows,
)
from ..settings.experiment import Experiment
from ..settings.feature_spec import FeatureSpec, feature_identity, feature_spec
from ..settings.labels import load_defaults, row_labels
from ..settings.paths import DEMO_FOLDER, MODEL_FILE, Paths
from ..settings.yaml_files import load_yaml
from .checks import check_configuration
from .resources import (
    EXPECTED_SIZE,
    SNAKEMAKE_MB,
    DataSize,
    Resources,
    feature_resources,
    read_data_size,
    threads,
    training_resources,
)


@dataclass(frozen=True)
class Workflow:
    """A checked configuration: all rows of the experiments file, and those selected for the table.

    local: whether jobs run on this machine, and not on a cluster's. cores: what they may use here.
    """

    config: Config
    models: dict[str, ModelConfig]
    experiments: dict[str, Experiment]
    selected: dict[str, Experiment]
    paths: Paths
    local: bool = True
    cores: int | None = None
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

    def saved_models(self, row: str) -> list[str]:
        """The trained layers that a row keeps, with every seed; none unless the configuration says so."""
        seeds = self.config.seeds if self.config.keep_models else []
        return [str(self.paths.row(row, seed) / MODEL_FILE) for seed in seeds]

    def model_named(self, folder: str) -> str:
        """The model whose files lie in `weights/FOLDER`."""
        return next(name for name in self.models if model_folder(name) == folder)

    def tokenizer_files(self) -> list[str]:
        """The files of the tokenizer; none for bytes."""
        if self.config.tokenizer.name == "bytes":
            return []
        return [str(self.paths.tokenizer / name) for name in ("vocab.bpe", "encoder.json")]

    def report_labels(self) -> dict[str, str]:
        """What each selected row is called in the report, which sorts labels as texts: `05: all layers`."""
        width = max((len(row) for row in self.selected if row.isdigit()), default=0)
        labels = row_labels(self.selected, load_defaults(self.config))
        return {row: "0" * (width - len(row)) * row.isdigit() + label for row, label in labels.items()}

    def machine_gpus(self) -> int:
        """How many of this machine's GPUs rows may run on; none where they run on the CPU."""
        return count_visible_gpus() if self.local and self.config.device in ("auto", "cuda") else 0

    def gpus_per_job(self) -> int:
        """How many GPUs a job takes: one, or none where rows run on the CPU.

        On a cluster `auto` asks for one whatever this machine has: `device: cpu` is for those without.
        """
        return int(
            self.config.device == "cuda" or self.machine_gpus() > 0 or (self.config.device == "auto" and not self.local)
        )

    def threads(self, model_size: str) -> int:
        """Threads for a job on this model: one for a miniature, so that several jobs run side by side."""
        return threads(
            self.models[model_size], bool(self.gpus_per_job()), self.cores if self.local else None, self.machine_gpus()
        )

    def training_resources(self, row: str, threads: int) -> Resources:
        """What the training of a row asks for."""
        experiment = self.experiments[row]
        return self._request(training_resources, experiment, self.models[experiment.model_size], threads)

    def feature_resources(self, identity: str, threads: int) -> Resources:
        """What the making of a feature file asks for."""
        return self.resources_of(self.spec(identity), threads)

    def resources_of(self, spec: FeatureSpec, threads: int) -> Resources:
        """What the making of such features asks for."""
        return self._request(feature_resources, spec, self.models[spec.model_size], threads)

    def with_config(self, config: Config) -> "Workflow":
        """The same rows under other general settings."""
        return replace(self, config=config, specs={})

    def _request(
        self, formula: Callable[..., Resources], settings: Experiment | FeatureSpec, model: ModelConfig, threads: int
    ) -> Resources:
        request = formula(settings, model, self.config, self._messages(), bool(self.gpus_per_job()), threads)
        return request if self.local else replace(request, host_mb=request.host_mb + SNAKEMAKE_MB)

    def _messages(self) -> DataSize:
        try:
            changed = self.paths.tokens.stat().st_mtime_ns
        except OSError:
            return EXPECTED_SIZE
        return _messages_of(self.paths.tokens, changed)


@cache
def _messages_of(tokens: Path, changed: int) -> DataSize:
    return read_data_size(tokens)


def make_workflow(
    merged: dict,
    configfiles: list[str],
    local: bool = True,
    cores: int | None = None,
    origins: dict[str, dict] | None = None,
) -> Workflow:
    """Check a configuration as Snakemake merged it, and every file it names.

    Args:
        merged: Snakemake's `config`.
        configfiles: the files it came from; they are read again only to refuse duplicate keys.
        local, cores: whether jobs run on this machine, and how many cores they may use.
        origins: what each source of the configuration holds, in place of the files.

    Raises:
        InputError: something in them is wrong.
    """
    if not configfiles and not merged:
        raise InputError("no configuration; run snakemake in the folder that holds config/config.yaml")
    # Snakemake lists the files of `--configfile` before the Snakefile's own, which they override.
    in_order = [str(file) for file in [*configfiles[-1:], *configfiles[:-1]]]
    files = {name: load_yaml(name) for name in map(_from_here, in_order)}
    config = parse_config(merged, files if origins is None else origins)
    plan = _workflow_of(config, local, cores)
    check_configuration(config, plan.models, plan.experiments)
    return plan


def load_workflow(paths: list[str], rows: list[str] | None = None) -> Workflow:
    """The same from configuration files, for this machine.

    Args:
        rows: these alone, in place of the configuration's.

    Raises:
        InputError: something in them is wrong.
    """
    config = load_config(paths)
    if rows:
        config = config.model_copy(update={"rows": list(dict.fromkeys(rows))})
    return _workflow_of(config, local=True, cores=usable_cores())


def _workflow_of(config: Config, local: bool, cores: int | None) -> Workflow:
    models = load_models(config.models)
    experiments = load_experiments(config.experiments, models, config.models)
    selected = select_rows(config, experiments)
    return Workflow(config, models, experiments, selected, Paths(config.results), local, cores)


def _from_here(path: str) -> str:
    """A path as its user would write it: relative to this folder if it lies below it."""
    path = os.path.abspath(path)
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def write_config(config: Config, path: Path) -> None:
    """Write the merged and checked configuration where the jobs read it, if it is not there already.

    Raises:
        InputError: the results folder cannot be written.
    """
    text = yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text_whole(path, text)


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


def sources_as_parameters(sources: list[str]) -> list[str]:
    """Sources as a rule's parameters, which Snakemake prints when they change.

    A digest stands for what is left out, so that a job still runs again when it changes.
    """
    return [
        text if (text := shown(source)) == source else f"{text} {hashlib.sha256(source.encode()).hexdigest()[:8]}"
        for source in sources
    ]


@cache
def count_visible_gpus() -> int:
    """How many NVIDIA GPUs this machine shows to its jobs."""
    return len(visible_gpus())

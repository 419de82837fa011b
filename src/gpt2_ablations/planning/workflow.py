"""The checked configuration, with the files and resources that each rule needs. Nothing here imports torch."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import yaml

from ..common.errors import without_secrets
from ..common.files import write_text_whole
from ..common.gpus import usable_gpus
from ..common.hardware import usable_cores
from ..common.hashing import digest_file
from ..data.download.sources import SourceError, is_local, local_path, printable_source
from ..settings.config import Config, load_config, merge_files, merge_settings, parse_config
from ..settings.experiment import Experiment
from ..settings.feature_spec import FeatureSpec, feature_identity, feature_spec
from ..settings.labels import load_defaults, row_labels
from ..settings.models import ModelConfig, model_folder
from ..settings.paths import DEMO_FOLDER, MODEL_FILE, Paths
from ..settings.rows import configured_rows
from ..settings.schema.yaml_files import load_yaml
from .checks import check_configuration
from .costs import Cost, Lengths, feature_cost, read_lengths, training_cost
from .resources import Resources, job_resources, job_threads


@dataclass(frozen=True)
class Workflow:
    """A checked configuration, with the files and resources that each rule needs.

    Attributes:
        config: the general settings.
        models: by name.
        experiments: all rows of the experiments file, by id.
        selected: the rows selected for the table.
        paths: the files below the results folder.
        local: whether jobs run on this machine and not on a cluster.
        cores: how many cores jobs may use on this machine.
        texts: the content of the files `experiments` and `models`.
        specs: the contents of the feature files named so far, by identity.

    Snakemake asks several times for each of thousands of jobs: what has been computed is kept.
    """

    config: Config
    models: dict[str, ModelConfig]
    experiments: dict[str, Experiment]
    selected: dict[str, Experiment]
    paths: Paths
    local: bool = True
    cores: int | None = None
    texts: dict[str, str] = field(default_factory=dict)
    specs: dict[str, FeatureSpec] = field(default_factory=dict)
    _feature_files: dict[FeatureSpec, str] = field(default_factory=dict)
    _costs: dict[tuple[str | FeatureSpec, int | None], Cost] = field(default_factory=dict)

    def feature_spec(self, row: str, seed: int) -> FeatureSpec | None:
        """The features that a run needs, if it has frozen layers."""
        experiment = self.experiments[row]
        return feature_spec(experiment, self.models[experiment.model_size], seed, self.config.precision)

    def feature_files(self, row: str, seed: int) -> list[str]:
        """The feature file that a run needs: one path, or none."""
        spec = self.feature_spec(row, seed)
        return [] if spec is None else [self.feature_file(spec)]

    def feature_file(self, spec: FeatureSpec) -> str:
        """The file of the features that a spec describes."""
        if spec not in self._feature_files:
            identity = feature_identity(spec, self.models[spec.model_size], self.config, self.config.device)
            self.specs.setdefault(identity, spec)
            self._feature_files[spec] = str(self.paths.features(identity))
        return self._feature_files[spec]

    def spec(self, identity: str) -> FeatureSpec:
        """The contents of the feature file of this identity."""
        if identity not in self.specs:
            for row in self.experiments:
                for seed in self.config.seeds:
                    self.feature_files(row, seed)
        return self.specs[identity]

    def weight_files(self, row: str) -> list[str]:
        """The weight file that a row needs: one path, or none for random weights."""
        experiment = self.experiments[row]
        return [str(self.paths.weights(experiment.model_size))] if experiment.weights == "pretrained" else []

    def feature_weight_files(self, identity: str) -> list[str]:
        """The weight file that a feature file is computed from: one path, or none for random weights."""
        spec = self.spec(identity)
        return [str(self.paths.weights(spec.model_size))] if spec.seed is None else []

    @staticmethod
    def digest_files(weights: list[str]) -> list[str]:
        """The small files that hold the sha256 of weight files."""
        return [str(digest_file(Path(file))) for file in weights]

    def run_files(self, row: str) -> list[str]:
        """The metrics files of a row, one for each seed."""
        return [str(self.paths.row(row, seed) / "metrics.json") for seed in self.config.seeds]

    def saved_models(self, row: str) -> list[str]:
        """The saved models of a row, one for each seed; none without `keep_models`."""
        seeds = self.config.seeds if self.config.keep_models else []
        return [str(self.paths.row(row, seed) / MODEL_FILE) for seed in seeds]

    def model_of_folder(self, folder: str) -> tuple[str, ModelConfig]:
        """The model whose files are in `weights/FOLDER`, with its name."""
        return next((name, model) for name, model in self.models.items() if model_folder(name) == folder)

    def miniature(self, source: str) -> str:
        """The entry of the demo's model with this source, as JSON; an empty one if there is none."""
        entries = {name: model.model_dump(exclude={"label"}) for name, model in self.models.items()}
        return json.dumps({name: entry for name, entry in entries.items() if entry["source"] == source})

    def tokenizer_files(self) -> list[str]:
        """The files of the tokenizer; none for `bytes`."""
        if self.config.tokenizer.name == "bytes":
            return []
        return [str(self.paths.tokenizer / name) for name in ("vocab.bpe", "encoder.json")]

    def report_labels(self) -> dict[str, str]:
        """The label of each selected row in the report, which sorts them as text: `05: all layers`."""
        width = max((len(row) for row in self.selected if row.isdigit()), default=0)
        labels = row_labels(self.selected, load_defaults(self.config), self.models)
        return {row: "0" * (width - len(row)) * row.isdigit() + label for row, label in labels.items()}

    def machine_gpus(self) -> int:
        """How many of this machine's GPUs jobs may use; 0 where rows run on the CPU."""
        return count_visible_gpus() if self.local and self.config.device in ("auto", "cuda") else 0

    def gpus_per_job(self) -> int:
        """How many GPUs a job takes: 1, or 0 where rows run on the CPU.

        On a cluster `auto` means 1, whatever this machine has. A cluster without GPUs needs `device: cpu`.
        """
        return int(
            self.config.device == "cuda" or self.machine_gpus() > 0 or (self.config.device == "auto" and not self.local)
        )

    def threads(self, model_size: str) -> int:
        """Threads of a job on this model: 1 for a miniature, so that several jobs run at the same time."""
        return job_threads(
            self.models[model_size], bool(self.gpus_per_job()), self.cores if self.local else None, self.machine_gpus()
        )

    def training_resources(self, row: str, threads: int) -> Resources:
        """The resources of a row's training."""
        return self._resources(self.training_cost(row), threads)

    def feature_resources(self, identity: str, threads: int) -> Resources:
        """The resources of extracting a feature file."""
        return self._resources(self.feature_cost(self.spec(identity)), threads)

    def row_resources(self, row: str) -> dict[str, Resources]:
        """The resources of a row's jobs: `training`, and `feature extraction` if it has frozen layers."""
        threads = self.threads(self.experiments[row].model_size)
        found = {"training": self.training_resources(row, threads)}
        if spec := self.feature_spec(row, self.config.seeds[0]):
            found["feature extraction"] = self._resources(self.feature_cost(spec), threads)
        return found

    def training_cost(self, row: str) -> Cost:
        """The cost of a run of a row."""
        experiment = self.experiments[row]
        model = self.models[experiment.model_size]
        return self._cost(row, lambda lengths: training_cost(experiment, model, self.config, lengths))

    def feature_cost(self, spec: FeatureSpec) -> Cost:
        """The cost of extracting the features that a spec describes."""
        model = self.models[spec.model_size]
        return self._cost(spec, lambda lengths: feature_cost(spec, model, self.config, lengths))

    def lengths(self) -> Lengths:
        """The lengths of the texts: expected, until they are tokenized."""
        return _read_lengths(self.paths.tokens, self._tokens_changed())

    def with_config(self, config: Config) -> "Workflow":
        """The same rows under other general settings."""
        return Workflow(config, self.models, self.experiments, self.selected, self.paths, self.local, self.cores)

    def _resources(self, cost: Cost, threads: int) -> Resources:
        return job_resources(cost, bool(self.gpus_per_job()), threads, on_cluster=not self.local)

    def _cost(self, job: str | FeatureSpec, count: Callable[[Lengths], Cost]) -> Cost:
        key = (job, self._tokens_changed())
        if key not in self._costs:
            self._costs[key] = count(self.lengths())
        return self._costs[key]

    def _tokens_changed(self) -> int | None:
        """When the tokenized data was modified; None while it does not exist. It is made while jobs wait."""
        try:
            return os.stat(self._tokens_file).st_mtime_ns
        except OSError:
            return None

    @cached_property
    def _tokens_file(self) -> str:
        return str(self.paths.tokens)


@cache
def _read_lengths(tokens: Path, changed: int | None) -> Lengths:
    """As `read_lengths`, once for each state of the file."""
    return read_lengths(tokens)


def make_workflow(
    overrides: dict,
    configfiles: Sequence[str | Path],
    local: bool = True,
    cores: int | None = None,
    origins: dict[str, dict] | None = None,
) -> Workflow:
    """Check the configuration of an invocation, and the files that it names.

    Args:
        overrides: settings that override the files', such as those of `--config`.
        configfiles: as Snakemake lists them, the Snakefile's own one last. They are read again: Snakemake takes
            `rows: [010]` for row 8, admits duplicate keys and does not tell which file a value is from.
        local: whether jobs run on this machine and not on a cluster.
        cores: how many cores jobs may use on this machine.
        origins: the content of each source of the configuration, instead of the files.

    Raises:
        InputError: the configuration or a file that it names is wrong.
    """
    # Snakemake lists the files of `--configfile` before the Snakefile's own, which they override.
    in_order = [str(file) for file in [*configfiles[-1:], *configfiles[:-1]]]
    files = {name: load_yaml(name) for name in map(_from_here, in_order)} if origins is None else origins
    config = parse_config(merge_settings(merge_files(files), overrides), files)
    # A user may give results/config.yaml; the rows and models are the user's own all the same.
    config = config.model_copy(update={"snapshot": None})
    workflow = _workflow_of(config, local, cores)
    check_configuration(config, workflow.models, workflow.experiments)
    return workflow


def load_workflow(paths: list[str], rows: list[str] | None = None, local: bool = True) -> Workflow:
    """Load configuration files. Later files override earlier ones.

    Args:
        paths: of the configuration files.
        rows: the selected rows, instead of the configuration's.
        local: whether jobs run on this machine and not on a cluster.

    Raises:
        InputError: the configuration or a file that it names is wrong.
    """
    config = load_config(paths)
    if rows:
        config = config.model_copy(update={"rows": list(dict.fromkeys(rows))})
    return _workflow_of(config, local, cores=usable_cores())


def _workflow_of(config: Config, local: bool, cores: int | None) -> Workflow:
    models, experiments, selected = configured_rows(config)
    files = {name: config.copy_of(name) or Path(getattr(config, name)) for name in ("experiments", "models")}
    texts = {name: file.read_text(encoding="utf-8") for name, file in files.items()}
    return Workflow(config, models, experiments, selected, Paths(config.results), local, cores, texts)


def _from_here(path: str) -> str:
    """A path as its user would write it: relative to the working directory if it is inside."""
    path = os.path.abspath(path)
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def write_config(workflow: Workflow) -> None:
    """Write the checked configuration, with the rows and models, to the files that jobs read.

    The user may change the configuration's own files while jobs run.

    Only their owner may read them if a source has a password or a query.

    Raises:
        InputError: the results folder cannot be written.
    """
    folder, models = workflow.paths.snapshot, workflow.models.values()
    config = workflow.config.model_copy(update={"snapshot": str(folder)})
    texts = {folder / f"{name}.yaml": text for name, text in workflow.texts.items()}
    texts[workflow.paths.config] = yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)
    sources = [*config.dataset.sources, *config.tokenizer.sources, *(model.source for model in models)]
    private = any(printable_source(source) != source for source in sources)
    private = private or any(without_secrets(text) != text for text in texts.values())
    for path, text in texts.items():
        if not _holds(path, text, private):
            write_text_whole(path, text, private)


def _holds(path: Path, text: str, private: bool) -> bool:
    """Whether a file exists with this text, and only its owner may read it if it is private."""
    try:
        return path.read_text(encoding="utf-8") == text and not (private and path.stat().st_mode & 0o077)
    except (OSError, UnicodeDecodeError):
        return False


def local_source_files(sources: list[str]) -> list[str]:
    """The sources that are local files: those that exist, and the demo's, which its rules create.

    A job lists them as inputs. So it waits for the demo's files, and runs again when a file changes.
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
    """Sources as a rule's parameters, without secrets, because Snakemake prints parameters that change.

    A digest replaces the secret, so that a job still runs again when it changes.
    """
    return [_source_as_parameter(source) for source in sources]


def _source_as_parameter(source: str) -> str:
    text = printable_source(source)
    return text if text == source else f"{text} {hashlib.sha256(source.encode()).hexdigest()[:8]}"


@cache
def count_visible_gpus() -> int:
    """How many GPUs jobs may use on this machine, with the installed torch."""
    return len(usable_gpus())

"""What the Snakefile asks: which files each rule of this configuration needs. Nothing here imports torch."""

import fcntl
import os
import platform
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from .config import Config, ModelConfig, load_experiments, load_models, model_folder, parse_config, select_rows
from .errors import InputError
from .experiment import Experiment
from .feature_spec import FeatureSpec, feature_identity, feature_spec
from .files import cannot_be_written, write_text_whole
from .paths import Paths
from .yamlfile import load_yaml

PACKAGE = Path(__file__).parent
# More threads than this no longer make one job faster; below this width a model keeps one core busy at best.
MOST_THREADS = 16
SINGLE_THREAD_WIDTH = 256
DEMO_FOLDER = "results/demo/generated"
RUN_LOCK = ".run.lock"


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
    if Path(config.results).exists() and not Path(config.results).is_dir():
        raise InputError(f"results is '{config.results}', which is a file; name a folder")
    models = load_models(config.models)
    experiments = load_experiments(config.experiments, models, config.models)
    selected = select_rows(config, experiments)
    return Plan(config, models, experiments, selected, Paths(config.results))


def _from_here(path: str) -> str:
    """A path as its user would write it: relative to this folder if it lies below it."""
    path = os.path.abspath(path)
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def hold_results(folder: Path) -> int:
    """Keep other runs out of a results folder until this process ends, however it ends.

    Snakemake's own lock is about files that two runs share; a run with other settings would change this one's too.

    Returns: the open lock file (whoever closes it lets others in).

    Raises:
        InputError: another run works there, or the folder cannot be written.
    """
    path = folder / RUN_LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise cannot_be_written(path, error) from None
    for last in (False, True):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if last:
                holder = os.read(lock, 200).decode(errors="replace") or "another process"
                os.close(lock)
                raise InputError(f"{folder}: another run works there ({holder}); wait for it, or stop it") from None
            time.sleep(0.1)  # it may be another one's look, in `who_works_in`
        except OSError:  # a disk without locks
            return lock
    with suppress(OSError):  # a full disk: only the message is poorer
        os.ftruncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {platform.node()}".encode())
    return lock


def who_works_in(folder: Path) -> str | None:
    """The run that holds a results folder, `process 123 on HOST`; None if there is none."""
    with suppress(OSError), open(folder / RUN_LOCK, encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read(200) or "another process"
    return None


def write_config(merged: dict, path: Path) -> None:
    """Write the merged configuration where the jobs read it, if it is not there already.

    Raises:
        InputError: the results folder cannot be written.
    """
    text = yaml.safe_dump(merged, sort_keys=False, allow_unicode=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text_whole(path, text)


def sources_made_here(sources: list[str]) -> list[str]:
    """Those sources that are files: the demo's, which its rules make, and local ones that exist.

    A job lists them as input, so that it waits for the demo's and runs again when one changes.
    """
    return [source for source in sources if source.startswith(DEMO_FOLDER) or Path(source).is_file()]


def code(*modules: str) -> list[str]:
    """Source files as rule inputs: a job runs again when their contents change, not when their dates do."""
    return [os.path.relpath(PACKAGE / f"{module}.py") for module in modules]


def graphics_cards() -> int:
    """How many NVIDIA cards this machine shows."""
    if not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listed.stdout.count("UUID") if listed.returncode == 0 else 0

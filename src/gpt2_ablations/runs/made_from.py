"""What a run and a feature file are made from: code, settings, tokens and weights, by content.

The files state it, and they are up to date while it is what they would be made from now.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

from ..common.files import explained
from ..common.hashing import digest, sha256_of
from ..common.source_code import command_digest
from ..data.provenance import weights_made_from
from ..settings.config import Config
from ..settings.experiment import Experiment
from ..settings.feature_spec import FeatureSpec
from ..settings.models import ModelConfig
from ..settings.paths import Paths

MadeFrom = dict[str, str | None]


def run_made_from(
    config: Config, experiment: Experiment, model: ModelConfig, seed: int, tokens: str | None = None
) -> MadeFrom:
    """What a run is made from. Its feature file, if it has one, is made from the same.

    Args:
        tokens: the sha256 of the token file; None: the file is read.
    """
    settings = [asdict(experiment), model.dimensions, seed, config.precision]
    # A feature file may be made by the one command or the other.
    code = command_digest("extract-features", "train")
    pretrained = experiment.weights == "pretrained"
    return _made_from(config, settings, code, experiment.model_size if pretrained else None, model, tokens)


def features_made_from(config: Config, spec: FeatureSpec, model: ModelConfig, tokens: str | None = None) -> MadeFrom:
    """What a feature file is made from; arguments as for `run_made_from`."""
    # Models of two names may share the file.
    settings, code = [asdict(replace(spec, model_size="")), model.dimensions], command_digest("extract-features")
    return _made_from(config, settings, code, spec.model_size if spec.seed is None else None, model, tokens)


def _tokens_sha256(file: Path) -> str:
    with explained(file, "make it with `snakemake --cores all tokenize`"):
        return sha256_of(file)


def _made_from(
    config: Config, settings: list, code: str, weights: str | None, model: ModelConfig, tokens: str | None
) -> MadeFrom:
    return {
        "code": code,
        "settings": digest(json.dumps(settings)),
        "tokens": tokens or _tokens_sha256(Paths(config.results).tokens),
        "weights": None if weights is None else weights_made_from(config, weights, model),
    }

"""The job that extracts features: it runs the frozen layers of a model over all examples, once for many runs."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..common import progress
from ..common.hardware import peak_host_memory_mb
from ..common.logs import stop_if_superseded
from ..common.torch_setup import release_device, set_up_torch, take_device
from ..data.tokens import TokenizedSplit, load_tokens, report_cut_examples
from ..gpt2.weights import Weights, open_weights
from ..runs.made_from import features_made_from
from ..settings.config import Config
from ..settings.feature_spec import FeatureSpec, feature_identity
from ..settings.models import ModelConfig, configured_models
from ..settings.paths import Paths
from .feature_files import write_features
from .features import FeatureLayout, Features, extract, lay_out_features, split_features


def extract_features(config: Config, spec: FeatureSpec, output: Path) -> None:
    """Run the frozen layers that `spec` describes over the three splits and write their hidden states.

    Raises:
        InputError: the tokens or the weights are missing or do not fit, or the file cannot be written.
    """
    set_up_torch(config.precision)
    model = configured_models(config)[spec.model_size]
    layout = lay_out_features(spec, model, load_tokens(Paths(config.results).tokens))
    # The time of the features starts when the job has its device.
    device = take_device(config.device)
    # The device is released before the last shard is written, so that the next job computes meanwhile.
    shards = _shards(config, spec, model, layout, device, computed=lambda: release_device(device))
    made_from, identity = features_made_from(config, spec, model), feature_identity(spec, model, config)
    write_features(output, spec, model, layout, shards, made_from, identity, device.type)


def compute_features(
    config: Config, spec: FeatureSpec, model: ModelConfig, tokens: dict[str, TokenizedSplit], device: torch.device
) -> Features:
    """Features in memory, for a run that has no feature file."""
    started = time.perf_counter()
    layout = lay_out_features(spec, model, tokens)
    report_cut_examples(tokens, layout.context)
    hidden = torch.cat(list(_shards(config, spec, model, layout, device)))
    seconds = time.perf_counter() - started
    return Features(spec, split_features(layout, hidden), layout.context, seconds, peak_host_memory_mb())


def _shards(
    config: Config,
    spec: FeatureSpec,
    model: ModelConfig,
    layout: FeatureLayout,
    device: torch.device,
    computed: Callable[[], None] = lambda: None,
) -> Iterator[Tensor]:
    """Compute features shard by shard, and report the progress.

    Args:
        computed: called when the device has nothing more to do.
    """
    source = "pretrained" if spec.seed is None else "random"
    weights_file = Paths(config.results).weights(spec.model_size)
    with tqdm(desc="features", unit="block", file=sys.stderr, mininterval=5, total=0) as bar:

        def open_again() -> Weights:
            return open_weights(source, model, weights_file, spec.seed)

        def report(done: int, total: int) -> None:
            stop_if_superseded()
            bar.total = total
            bar.update(done - bar.n)
            progress.report("features", done, total)

        for shard in extract(spec, model, layout, open_again, device, config.features.max_memory_mb, report):
            if bar.n == bar.total:
                computed()
            yield shard
            del shard

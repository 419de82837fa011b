"""The benchmark cases: rows of the table at their real dimensions, with random weights."""

import contextlib
import io
import itertools
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional as F

from gpt2_ablations.common.hardware import peak_host_memory_mb
from gpt2_ablations.common.torch_setup import set_up_torch
from gpt2_ablations.data.tokens import TokenizedSplit, context_positions, load_tokens
from gpt2_ablations.finetuning.batches import ModelInputs, inputs_from_features, inputs_from_tokens
from gpt2_ablations.finetuning.classifier import build_classifier
from gpt2_ablations.finetuning.feature_files import read_features, write_features
from gpt2_ablations.finetuning.features import Features, extract, lay_out_features
from gpt2_ablations.finetuning.loop import Finetuning
from gpt2_ablations.gpt2.weights import RandomWeights
from gpt2_ablations.planning.costs import Cost, Lengths, feature_cost, read_lengths, training_cost
from gpt2_ablations.planning.machine_speed import START_UP_SECONDS, estimated_seconds, measure_speed
from gpt2_ablations.runs.result import Step
from gpt2_ablations.settings.config import Config, load_config
from gpt2_ablations.settings.constants import EVALUATION_BATCHES, PAD_TOKEN
from gpt2_ablations.settings.experiment import Experiment
from gpt2_ablations.settings.feature_spec import feature_spec
from gpt2_ablations.settings.models import ModelConfig, load_models
from tests.benchmarks.inputs import prepare
from tests.conftest import CHECKOUT, environment
from tests.oracle.plain import Dimensions, build_model

SMALL, XL = "gpt2-small (124M)", "gpt2-xl (1558M)"
CPU = torch.device("cpu")
REPEATS = 3
# The first steps evaluate and allocate memory; the hundreds of others of a row do neither.
WARM_UP_STEPS, MEASURED_STEPS = 5, 5
# The reference evaluates batches of two splits at each of 13 steps and after each epoch, and all examples at the end.
STEPS, EVALUATED_EXAMPLES = 650, (13 + 5) * 2 * 8 * EVALUATION_BATCHES + 1040 + 149 + 300


def models() -> dict[str, ModelConfig]:
    return load_models(CHECKOUT / "config" / "models.yaml")


def settings() -> Config:
    return load_config([CHECKOUT / "config" / "config.yaml"])


def reference_lengths() -> Lengths:
    return read_lengths(prepare(FOLDER) / "dataset" / "tokens.safetensors")


def matrix_product_rate() -> float:
    """GFLOP/s: the best of 10 of a 4096 x 4096 float32 product."""
    a, b = torch.randn(4096, 4096), torch.randn(4096, 4096)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * 4096**3 / min(seconds) / 1e9


def median_seconds(function: Callable[[], object], repeats: int = REPEATS) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def estimate(*costs: Cost, start_ups: int = 0) -> float:
    """The seconds that `plan` would estimate for some jobs on this machine now."""
    speed = measure_speed(torch.get_num_threads(), "cpu", "float32")
    return sum(estimated_seconds(cost, speed) for cost in costs) + start_ups * START_UP_SECONDS


def first_examples(tokens: dict[str, TokenizedSplit], n: int) -> dict[str, TokenizedSplit]:
    """The first n - 2 training examples and one of each other split: a sample for the long cases."""
    sample = {}
    for name, split in tokens.items():
        kept = n - 2 if name == "train" else 1
        lengths = split.lengths[:kept]
        sample[name] = TokenizedSplit(split.ids[: int(lengths.sum())], lengths, split.labels[:kept])
    return sample


def features_case(name: str, experiment: Experiment, examples: int | None, n_layer: int | None = None) -> dict:
    """The frozen layers over a sample of examples: seconds and rate. None runs all examples, once."""
    model = models()[experiment.model_size]
    model = model.model_copy(update={"n_layer": n_layer or model.n_layer})
    tokens = load_tokens(prepare(FOLDER) / "dataset" / "tokens.safetensors")
    if examples:
        tokens = first_examples(tokens, examples)
    spec = feature_spec(experiment, model, 123, "float32")
    layout = lay_out_features(spec, model, tokens)
    drawn = DrawnWeights(model)
    rate = matrix_product_rate()
    seconds = median_seconds(
        lambda: [None for _ in extract(spec, model, layout, lambda: drawn, CPU, 2048)], REPEATS if examples else 1
    )
    remark = f"{len(layout.starts)} examples, {len(layout.lengths)} distinct"
    remark += f", {n_layer} of the blocks" if n_layer else ""
    peak = peak_host_memory_mb()
    plain = plain_model_seconds(experiment, model) if model.n_embd < 1000 else None
    lengths = Lengths.of(
        {name: split.ids.numpy() for name, split in tokens.items()},
        {name: split.lengths.numpy() for name, split in tokens.items()},
    )
    cost = replace(feature_cost(spec, model, settings(), lengths), draws=0, bytes_read=0, bytes_written=0)
    return {
        "seconds": seconds,
        "estimated_seconds": estimate(cost),
        "mm_gflops": rate,
        "gflops": cost.flops / seconds / 1e9,
        "remark": remark,
        "peak_mb": peak,
        "plain_seconds": plain and plain * len(layout.starts) / 8,
    }


class DrawnWeights:
    """Random weights that draw one block and return it for every block: drawing takes no time in a benchmark."""

    def __init__(self, model: ModelConfig):
        source = RandomWeights(model, 123)
        self._embeddings, self._block = source.embeddings(), source.block(0)
        self.final_norm = source.final_norm

    def embeddings(self):
        return self._embeddings

    def block(self, index: int):
        return {name.replace("h.0.", f"h.{index}.", 1): tensor for name, tensor in self._block.items()}


def plain_model_seconds(experiment: Experiment, model: ModelConfig) -> float:
    """The plain whole model's forward pass over a batch of 8 examples."""
    plain, ids = plain_model(experiment, model)
    with torch.no_grad():
        return median_seconds(lambda: plain(ids))


def plain_model(experiment: Experiment, model: ModelConfig):
    dimensions = Dimensions(model.n_layer, model.n_head, model.n_embd, model.n_positions)
    length = model.n_positions if experiment.context_length == "model_context_length" else 120
    return build_model(experiment, dimensions, 123, None), torch.randint(0, PAD_TOKEN, (8, length))


def plain_step_seconds(experiment: Experiment, model: ModelConfig) -> float:
    """A step of the plain whole-model loop: forward, backward, AdamW."""
    plain, ids = plain_model(experiment, model)
    trained = [p for p in plain.trained_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-5, weight_decay=0.1, foreach=False)
    labels = torch.tensor([0, 1] * 4)

    def step() -> None:
        F.cross_entropy(plain(ids)[:, -1], labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    return median_seconds(step)


def plain_loop_seconds(experiment: Experiment, model: ModelConfig) -> float:
    """The plain whole-model loop over 5 epochs with its evaluations, from a step's and a batch's time."""
    step = plain_step_seconds(experiment, model)
    return STEPS * step + EVALUATED_EXAMPLES / 8 * plain_model_seconds(experiment, model)


def loop_case(name: str, experiment: Experiment) -> dict:
    """The training loop of a row on its features, all epochs and evaluations."""
    model = models()[experiment.model_size]
    features = random_features(experiment, model)
    rate = matrix_product_rate()

    def loop() -> None:
        inputs = inputs_from_features(experiment, features)
        classifier = build_classifier(experiment, model, DrawnWeights(model), 123)
        with contextlib.redirect_stderr(io.StringIO()):
            Finetuning(experiment, classifier, inputs, 123, CPU).train()

    seconds = median_seconds(loop, REPEATS if model.n_embd < 1000 else 1)
    peak = peak_host_memory_mb()
    plain = plain_loop_seconds(experiment, model) if experiment.model_size == SMALL else None
    cost = replace(training_cost(experiment, model, settings(), reference_lengths()), draws=0)
    return {
        "seconds": seconds,
        "estimated_seconds": estimate(cost),
        "mm_gflops": rate,
        "peak_mb": peak,
        "plain_seconds": plain,
        "remark": "with the final evaluation",
    }


def random_features(experiment: Experiment, model: ModelConfig) -> Features:
    """A feature file of the right shape with random content, mapped into memory as the train command maps it."""
    tokens = load_tokens(prepare(FOLDER) / "dataset" / "tokens.safetensors")
    spec = feature_spec(experiment, model, 123, "float32")
    layout = lay_out_features(spec, model, tokens)
    file = FOLDER / f"random-{model.n_embd}-{layout.n_kept}.safetensors"
    if not file.exists():
        shards = torch.arange(layout.n_kept).split(65536)
        write_features(file, spec, model, layout, (torch.randn(len(shard), model.n_embd) for shard in shards), {})
    return read_features(file)


class Measured(Exception):
    """Ends a training run that has been measured for long enough."""


def step_case(name: str, experiment: Experiment, precision: str = "float32") -> dict:
    """One update of a row without frozen layers."""
    model = models()[experiment.model_size]
    set_up_torch(precision)
    tokens = load_tokens(prepare(FOLDER) / "dataset" / "tokens.safetensors")
    inputs: dict[str, ModelInputs] = inputs_from_tokens(
        experiment, tokens, context_positions(experiment, tokens, model.n_positions)
    )
    classifier = build_classifier(experiment, model, RandomWeights(model, 123), 123)
    finetuning = Finetuning(experiment, classifier, inputs, 123, CPU, precision)
    rate = matrix_product_rate()
    times: list[float] = []

    def note(history: list[Step]) -> None:
        times.append(time.perf_counter())
        if len(times) > WARM_UP_STEPS + MEASURED_STEPS:
            raise Measured

    with contextlib.suppress(Measured):
        finetuning.train(on_step=note)
    steps = [after - before for before, after in itertools.pairwise(times)]
    seconds = statistics.median(steps[WARM_UP_STEPS:])
    peak = peak_host_memory_mb()
    weights = 12 * model.n_embd**2 * model.n_layer
    n_tokens = 8 * int(inputs["train"].lengths[0])
    return {
        "seconds": seconds,
        "mm_gflops": rate,
        "gflops": 6 * weights * n_tokens / seconds / 1e9,
        "peak_mb": peak,
        "plain_seconds": plain_step_seconds(experiment, model) if precision == "float32" else None,
        "remark": "6 FLOPs a weight and token, also for what is skipped",
    }


def whole_row_case(name: str, experiment: Experiment, seeds: int = 1) -> dict:
    """A row through the command line, start-up included: features, then training with each seed."""
    results = prepare(FOLDER)
    model = models()[experiment.model_size]
    spec = feature_spec(experiment, model, 123, "float32")
    file = results / "features" / f"{name}.safetensors"
    rate = matrix_product_rate()
    config = ["--config", "config/config.yaml", str(results / "config.yaml")]
    started = time.perf_counter()
    command("extract_features", *config, "--spec", json.dumps(vars(spec)), "--output", str(file))
    parts = {"features": time.perf_counter() - started}
    for number in range(seeds):
        # The random weights replace pretrained ones: all seeds use the features of one seed.
        flags = [*experiment.flags(), "--seed", "123", "--features", str(file)]
        begun = time.perf_counter()
        command("train", *config, *flags, "--output", str(results / "rows" / f"{name}-{number}"))
        parts[f"training {number + 1}"] = time.perf_counter() - begun
    seconds = time.perf_counter() - started
    plain = plain_loop_seconds(experiment, model) * seeds
    remark = ", ".join(f"{part} {value:.1f} s" for part, value in parts.items())
    # The plain model runs in this process and the row in others, whose metrics hold the row's peak.
    metrics = json.loads((results / "rows" / f"{name}-0" / "metrics.json").read_text())
    peak = max(metrics["features_peak_memory_mb"], metrics["peak_memory_mb"]["host"])
    lengths = reference_lengths()
    costs = [training_cost(experiment, model, settings(), lengths)] * seeds
    costs.append(feature_cost(spec, model, settings(), lengths))
    return {
        "seconds": seconds,
        "estimated_seconds": estimate(*costs, start_ups=len(costs)),
        "mm_gflops": rate,
        "peak_mb": peak,
        "plain_seconds": plain,
        "remark": remark,
    }


def demo_case(name: str) -> dict:
    """The whole demo: one invocation of Snakemake, with everything installed."""
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("src", "workflow", "config"):
        shutil.copytree(CHECKOUT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "Snakefile", folder)
    rate = matrix_product_rate()
    snakemake = [
        sys.executable,
        "-m",
        "snakemake",
        "--cores",
        "all",
        "--configfile",
        "config/demo.yaml",
        "--quiet",
        "all",
    ]
    started = time.perf_counter()
    subprocess.run(snakemake, cwd=folder, check=True)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    return {
        "seconds": seconds,
        "mm_gflops": rate,
        "peak_mb": peak,
        "remark": "19 rows, all reports; peak of one process",
    }


def command(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpt2_ablations", *arguments],
        cwd=CHECKOUT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)


def row(**options) -> Experiment:
    return Experiment(weights="random", **options)


NO_PADDING = {"no_padding": True, "batch_size": 1}
CASES: dict[str, Callable[[str], dict]] = {
    "row-1-features": lambda name: features_case(name, row(), 256),
    "row-1-loop": lambda name: loop_case(name, row()),
    "row-1-total": lambda name: whole_row_case(name, row()),
    "row-1-five-seeds": lambda name: whole_row_case(name, row(), seeds=5),
    "row-2-total": lambda name: whole_row_case(name, row(trainable_token_pos="first")),
    "row-14-total": lambda name: whole_row_case(name, row(**NO_PADDING)),
    "row-15-total": lambda name: whole_row_case(name, row(**NO_PADDING, accumulation_steps=8)),
    "row-16-total": lambda name: whole_row_case(name, row(trainable_token_pos="flexible")),
    "row-8-features": lambda name: features_case(name, row(model_size=XL), 272, n_layer=5),
    "row-8-features-memory": lambda name: features_case(name, row(model_size=XL), None, n_layer=2),
    "row-8-loop": lambda name: loop_case(name, row(model_size=XL)),
    "row-13-features": lambda name: features_case(name, row(context_length="model_context_length"), 24),
    "row-13-features-memory": lambda name: features_case(
        name, row(context_length="model_context_length"), None, n_layer=2
    ),
    "row-13-loop": lambda name: loop_case(name, row(context_length="model_context_length")),
    "row-10-step": lambda name: step_case(name, row(trainable_layers="all")),
    "row-10-step-bfloat16": lambda name: step_case(name, row(trainable_layers="all"), "bfloat16"),
    "row-11-step": lambda name: step_case(name, row(trainable_layers="lora", lora_rank=16, lora_alpha=16)),
    "demo": demo_case,
}
FOLDER = Path()


if __name__ == "__main__":
    case, folder, report = sys.argv[1:]
    FOLDER = Path(folder)
    set_up_torch("float32")
    measured = CASES[case](case)
    Path(report).write_text(json.dumps({"case": case, **measured}))

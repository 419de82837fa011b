"""Computed resources beside measured peaks: `python -m tests.benchmarks.resources [--only NAME ...] [--json FILE]`.

Each case is one command of the workflow in its own process, at real dimensions with random weights. Its peak is the
kernel's (ru_maxrss, mapped pages included). Rows with frozen layers run all 1,494 examples of 120 tokens on a model of
few blocks, because their peaks do not depend on the number of blocks. Rows that train or adapt the whole model run at
full depth on 16 training examples, because the peak no longer grows after the second step. Cases that do not fit into
this machine's memory are computed, not measured.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from gpt2_ablations.planning.costs import feature_cost, read_lengths, training_cost
from gpt2_ablations.planning.resources import Resources, job_resources
from gpt2_ablations.settings.config import Config, load_config
from gpt2_ablations.settings.experiment import Experiment
from gpt2_ablations.settings.feature_spec import feature_spec
from gpt2_ablations.settings.models import ModelConfig, load_models
from tests.benchmarks.inputs import ALL_EXAMPLES, write_tokens
from tests.conftest import CHECKOUT, environment, write_yaml

SMALL, MEDIUM, XL = "gpt2-small (124M)", "gpt2-medium (355M)", "gpt2-xl (1558M)"
SEED, THREADS = 123, 2
FEW_EXAMPLES = {"train": 16, "validation": 8, "test": 8}
COLUMNS = (
    "case",
    "peak MiB",
    "computed MiB",
    "computed / peak",
    "computed for a GPU MiB",
    "seconds",
    "computed minutes",
)


@dataclass(frozen=True)
class Case:
    """One command; with `depth` blocks instead of the model's own number.

    examples: of each split.
    """

    command: str
    experiment: Experiment
    examples: dict[str, int]
    depth: int | None = None
    precision: str = "float32"
    micro_batch_size: int | None = None

    def model(self) -> ModelConfig:
        model = load_models(CHECKOUT / "config" / "models.yaml")[self.experiment.model_size]
        return model.model_copy(update={"n_layer": self.depth or model.n_layer})


def _row(model_size: str, **options) -> Experiment:
    return Experiment(model_size=model_size, weights="random", num_epochs=1, **options)


def _cases() -> dict[str, Case]:
    cases = {}
    for name, size in (("small", SMALL), ("medium", MEDIUM), ("xl", XL)):
        frozen = _row(size)
        cases[f"{name}-last_block-features"] = Case("extract_features", frozen, ALL_EXAMPLES, depth=3)
        cases[f"{name}-last_block-training"] = Case("train", frozen, ALL_EXAMPLES, depth=3)
        cases[f"{name}-all"] = Case("train", _row(size, trainable_layers="all"), FEW_EXAMPLES)
        cases[f"{name}-lora"] = Case(
            "train", _row(size, trainable_layers="lora", lora_rank=16, lora_alpha=16), FEW_EXAMPLES
        )
    two = _row(SMALL, trainable_layers="last_two_blocks")
    cases["small-last_two_blocks-features"] = Case("extract_features", two, ALL_EXAMPLES, depth=3)
    cases["small-last_two_blocks-training"] = Case("train", two, ALL_EXAMPLES, depth=3)
    long = _row(SMALL, context_length="model_context_length")
    cases["small-context-1024-features"] = Case("extract_features", long, ALL_EXAMPLES, depth=2)
    everything = _row(SMALL, trainable_layers="all")
    cases["small-all-bfloat16"] = Case("train", everything, FEW_EXAMPLES, precision="bfloat16")
    cases["small-all-micro-batch-2"] = Case("train", everything, FEW_EXAMPLES, micro_batch_size=2)
    return cases


CASES = _cases()


def resources_of(case: Case, config: Config, tokens: Path, gpu: bool) -> Resources:
    model, lengths = case.model(), read_lengths(tokens)
    if case.command == "train":
        return job_resources(training_cost(case.experiment, model, config, lengths), gpu, THREADS)
    spec = feature_spec(case.experiment, model, SEED, config.precision)
    return job_resources(feature_cost(spec, model, config, lengths), gpu, THREADS)


def run_case(name: str, folder: Path) -> dict:
    """Measure one case, or compute it where memory is short. Features remain in `folder` for the training case."""
    case = CASES[name]
    results = folder / name.removesuffix("-features").removesuffix("-training")
    model = case.model()
    models = write_yaml(results / "models.yaml", {case.experiment.model_size: model.model_dump()})
    override = {"results": str(results), "models": str(models), "device": "cpu", "precision": case.precision}
    override["micro_batch_size"] = case.micro_batch_size
    files = [CHECKOUT / "config" / "config.yaml", write_yaml(results / "config.yaml", override)]
    config = load_config(files)
    tokens = results / "dataset" / "tokens.safetensors"
    write_tokens(tokens, case.examples)
    computed, on_gpu = (resources_of(case, config, tokens, gpu) for gpu in (False, True))
    measured = {
        "case": name,
        "host_mb": computed.host_mb,
        "device_mb": on_gpu.device_mb,
        "minutes": computed.minutes,
        "peak_mb": None,
        "seconds": None,
    }
    if computed.host_mb > 0.9 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20:
        return measured
    features = results / "features.safetensors"
    arguments = [case.command, "--config", *map(str, files)]
    spec = feature_spec(case.experiment, model, SEED, config.precision)
    if case.command == "extract_features":
        arguments += ["--spec", json.dumps(vars(spec)), "--output", str(features)]
    else:
        arguments += [*case.experiment.flags(), "--seed", str(SEED), "--output", str(results / "row")]
        if spec is not None:
            if not features.exists():
                run_case(f"{name.removesuffix('-training')}-features", folder)
            arguments += ["--features", str(features)]
    peak, seconds = run_command(arguments)
    return measured | {"peak_mb": peak, "seconds": seconds}


def run_command(arguments: list[str]) -> tuple[float, float]:
    """Run a command of the package.

    Returns: its peak memory in MiB, and its seconds.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "gpt2_ablations", *arguments],
        cwd=CHECKOUT,
        env=environment() | {"OMP_NUM_THREADS": str(THREADS)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(said)
    return usage.ru_maxrss / 2**10, time.perf_counter() - started


def line(measured: dict) -> str:
    """One line of the table."""
    peak, computed = measured["peak_mb"], measured["host_mb"]
    cells = [
        measured["case"],
        "not measured" if peak is None else f"{peak:,.0f}",
        f"{computed:,}",
        "" if peak is None else f"{computed / peak:.2f}",
        f"{measured['device_mb']:,}",
        "" if peak is None else f"{measured['seconds']:.0f}",
        str(measured["minutes"]),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    print(f"torch {version('torch')}, Python {platform.python_version()}, {THREADS} threads", flush=True)
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS), flush=True)
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only:
            measured.append(run_case(name, Path(folder)))
            print(line(measured[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()

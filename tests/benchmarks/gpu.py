"""The whole table on this machine's GPU, as a user runs it: `make bench-gpu`.

    python -m tests.benchmarks.gpu [--precision float32 tf32 bfloat16] [--rows ID ...] [--folder FOLDER] [--json FILE]

Random weights of the real sizes are written where the workflow keeps downloaded ones (12 GB), so that downloads do not
count. The output has the wall time for each precision, with start-up and the plan that is printed first, and for each
row the seconds of its features, its training and its evaluation.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from gpt2_ablations.common.hashing import digest_file
from gpt2_ablations.common.torch_setup import device_name, select_device
from gpt2_ablations.gpt2.weight_files import weight_shapes
from gpt2_ablations.settings.config import load_config
from gpt2_ablations.settings.models import ModelConfig, load_models
from gpt2_ablations.settings.paths import Paths
from gpt2_ablations.settings.rows import load_experiments
from tests.benchmarks.inputs import prepare
from tests.conftest import CHECKOUT, write_yaml

# The rules to run: nothing is fetched or split.
RULES = ("extract_features", "train", "table")
PRECISIONS = ("float32", "tf32", "bfloat16")


def write_weights(path: Path, model: ModelConfig, device: torch.device) -> None:
    """Random weights in the layout of the Hugging Face files, where `fetch_weights` would put them."""
    if digest_file(path).exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator(device).manual_seed(model.n_layer)
    tensors = {}
    for name, shape in weight_shapes(model).items():
        if len(shape) == 1:
            tensors[name] = torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
        else:
            tensors[name] = 0.02 * torch.randn(shape, generator=generator, device=device).cpu()
    save_file(tensors, path)
    digest_file(path).write_text(f"random weights of {model.n_layer} blocks\n")


def run_table(results: Path, config: Path) -> float:
    """Seconds of `snakemake --cores all table`, without results of an earlier invocation.

    Raises:
        SystemExit: the invocation failed.
    """
    command = [sys.executable, "-m", "snakemake", "--cores", "all", "--configfile", str(config), "--forceall"]
    # The results have their own folder: an interrupted invocation's locks and incomplete files may be ignored.
    command += ["--nolock", "--rerun-incomplete", "--allowed-rules", *RULES, "--", "table"]
    started = time.perf_counter()
    if subprocess.run(command, cwd=CHECKOUT, check=False, stdout=sys.stderr).returncode:
        sys.exit(f"error: the workflow failed, see above; its logs and what it finished are in {results}")
    return time.perf_counter() - started


def line(metrics: dict) -> str:
    seconds, memory = metrics["seconds"], metrics["peak_memory_mb"]
    parts = ", ".join(f"{seconds[part]:.1f}" for part in ("features", "training", "evaluation"))
    accuracies = ", ".join(f"{100 * metrics[f'{split}_acc']:.2f}" for split in ("train", "val", "test"))
    return f"| {metrics['row']} | {parts} | {memory['device'] or memory['host']:,.0f} | {accuracies} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--rows", nargs="+", help="some rows of the table (default: all)")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--folder", type=Path, help="keep weights and results in this folder for the next time")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    device = select_device(arguments.device)
    machine = f"{device_name(device)}, torch {torch.__version__}, Python {platform.python_version()}"
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        results = prepare(arguments.folder or Path(temporary))
        settings = load_config([CHECKOUT / "config" / "config.yaml"])
        models = load_models(CHECKOUT / settings.models)
        experiments = load_experiments(CHECKOUT / settings.experiments, models, settings.models)
        rows = arguments.rows or list(experiments)
        for size in {experiments[row].model_size for row in rows if experiments[row].weights == "pretrained"}:
            write_weights(Paths(str(results)).weights(size), models[size], device)
        # Otherwise the table's own files would wait until the weights are on the disk.
        os.sync()
        for precision in arguments.precision:
            override = {"results": str(results), "device": arguments.device, "precision": precision, "rows": rows}
            seconds = run_table(results, write_yaml(results / "override.yaml", override))
            runs = [json.loads((results / "rows" / row / "seed-123" / "metrics.json").read_text()) for row in rows]
            minutes = sum(run["seconds"]["features"] + run["seconds"]["training"] for run in runs) / 60
            print(f"{machine}, {precision}: {seconds:.0f} s in total, {minutes:.2f} min of training time\n")
            print("| row | features, training, evaluation, s | peak MiB | training, validation, test accuracy, % |")
            print("| --- | --- | --- | --- |", *map(line, runs), "", sep="\n", flush=True)
            found[precision] = {"machine": machine, "seconds": seconds, "training_minutes": minutes, "rows": runs}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Benchmarks: `make bench`. Prints a table and writes JSON.

    python -m tests.benchmarks [--only NAME ...] [--json FILE]

Each case runs in its own process, which gives its peak memory. The matrix-product rate is the best of 10 runs of a
4096 x 4096 float32 torch.mm, measured before each case because it drifts on a shared machine. FLOPs are 2 m n k for
each matrix product, attention over the full square, and nothing else. The estimate is that of `plan`.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from gpt2_ablations.common.torch_setup import device_name
from tests.benchmarks.cases import CASES
from tests.conftest import environment

COLUMNS = ("case", "seconds", "estimate / this", "peak MiB", "GFLOP/s", "of the rate", "plain / this", "remark")


def run_case(name: str, folder: Path) -> dict:
    """Run one case in its own process and read its result."""
    report = folder / f"{name}.json"
    command = [sys.executable, "-m", "tests.benchmarks.cases", name, str(folder), str(report)]
    # torch reads this when it is imported. The command line of the package sets it by itself.
    subprocess.run(command, env=environment() | {"THP_MEM_ALLOC_ENABLE": "1", "PYTHONPATH": "src:."}, check=True)
    return json.loads(report.read_text())


def line(result: dict) -> str:
    """One line of the table."""
    rate = result.get("gflops")
    cells = [
        result["case"],
        f"{result['seconds']:.3g}",
        f"{result['estimated_seconds'] / result['seconds']:.2f}" if "estimated_seconds" in result else "",
        f"{result['peak_mb']:.0f}",
        f"{rate:.0f}" if rate else "",
        f"{rate / result['mm_gflops']:.0%} of {result['mm_gflops']:.0f}" if rate else "",
        f"{result['plain_seconds'] / result['seconds']:.1f}" if result.get("plain_seconds") else "",
        result.get("remark", ""),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--folder", type=Path, help="keep weights and features in this folder for the next time (8 GB)")
    arguments = parser.parse_args()
    machine = {
        "device": device_name(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()), flush=True)
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS), flush=True)
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in arguments.only:
            results.append(run_case(name, folder))
            print(line(results[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "cases": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""The estimates of `plan` beside measured times: `python -m tests.benchmarks.estimates --config FILE ...`.

Run it on the machine on which the rows ran, under the same load: it first measures the speed, as `plan` does. For each
finished run it compares features and training (with all evaluations) as metrics.json has them, and whole jobs with
their start-up where Snakemake's benchmark files exist. The ratio is estimate over measured time.
"""

import argparse
import csv
import json
from pathlib import Path

from gpt2_ablations.common.hardware import usable_cores
from gpt2_ablations.planning.machine_speed import START_UP_SECONDS, Speed, estimated_seconds, measure_speed
from gpt2_ablations.planning.workflow import Workflow, load_workflow
from gpt2_ablations.runs.finished_runs import read_runs

COLUMNS = ("row", "seed", "features s", "estimate", "training s", "estimate", "whole jobs s", "estimate", "ratio")


def job_seconds(workflow: Workflow, row: str, seed: int) -> float | None:
    """Wall time of a run's jobs in Snakemake's benchmark files; None without them."""
    folder = Path(workflow.config.results, "benchmarks")
    files = [folder / "train" / row / f"seed-{seed}.tsv"]
    files += [folder / "extract_features" / f"{Path(file).stem}.tsv" for file in workflow.feature_files(row, seed)]
    if not all(file.is_file() for file in files):
        return None
    return sum(float(next(csv.DictReader(file.open(), delimiter="\t"))["s"]) for file in files)


def compare(workflow: Workflow) -> tuple[dict[int, Speed], list[dict]]:
    """The machine's speed by threads, and the estimated and measured times of each finished run."""
    speeds, lines = {}, []
    for row, runs in read_runs(workflow.config, workflow.selected).items():
        threads = min(workflow.threads(workflow.experiments[row].model_size), usable_cores())
        for run in runs:
            if threads not in speeds:
                speeds[threads] = measure_speed(threads, "cpu", workflow.config.precision)
            speed = speeds[threads]
            spec = workflow.feature_spec(row, run.seed)
            features = estimated_seconds(workflow.feature_cost(spec), speed) if spec else 0.0
            training = estimated_seconds(workflow.training_cost(row), speed)
            measured = json.loads((run.folder / "metrics.json").read_text())["seconds"]
            computed = measured["training"] + measured["evaluation"]
            whole = job_seconds(workflow, row, run.seed)
            estimate = features + training
            if whole is not None:
                estimate += START_UP_SECONDS * (2 if spec else 1)
            lines.append(
                {
                    "row": row,
                    "seed": run.seed,
                    "features": measured["features"],
                    "features_estimate": features,
                    "training": computed,
                    "training_estimate": training,
                    "whole": whole,
                    "whole_estimate": estimate,
                    "ratio": estimate / (whole or measured["features"] + computed),
                }
            )
    return speeds, lines


def markdown(lines: list[dict]) -> str:
    """The comparison as a table."""
    rows = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    for line in lines:
        cells = [line["row"], str(line["seed"])]
        for part in ("features", "training", "whole"):
            cells += ["" if not line[part] else f"{line[part]:.1f}", f"{line[f'{part}_estimate']:.1f}"]
        rows.append("| " + " | ".join([*cells, f"{line['ratio']:.2f}"]) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", nargs="+", default=["config/config.yaml"], metavar="FILE")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    speeds, lines = compare(load_workflow(arguments.config))
    for threads, speed in speeds.items():
        print(f"{threads} thread{'s' * (threads > 1)}: {speed}")
    print(markdown(lines))
    if lines:
        within = sum(0.5 <= line["ratio"] <= 2 for line in lines)
        print(f"\n{within} of {len(lines)} runs within a factor of 2")
    if arguments.json:
        arguments.json.write_text(json.dumps(lines, indent=2) + "\n")


if __name__ == "__main__":
    main()

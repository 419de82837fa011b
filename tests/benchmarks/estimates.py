"""The forecast of `plan` beside the times of rows that ran: `python -m tests.benchmarks.estimates --config FILE ...`.

Run it on the machine on which the rows ran, as busy as it was then: its speed is measured first, as by `plan`. Of each
finished run, features and training (with all evaluations) are compared as metrics.json has them, and whole jobs, with
their start-up, where Snakemake's own benchmarks are there. A ratio of 1 is a forecast that came true.
"""

import argparse
import csv
import json
from pathlib import Path

from gpt2_ablations.common.hardware import usable_cores
from gpt2_ablations.planning.costs import feature_cost, read_lengths, training_cost
from gpt2_ablations.planning.estimates import seconds, start_up_seconds
from gpt2_ablations.planning.machine_speed import Speed, measure_speed
from gpt2_ablations.planning.workflow import Workflow, load_workflow
from gpt2_ablations.runs.finished_runs import read_runs
from gpt2_ablations.settings.feature_spec import feature_spec

COLUMNS = ("row", "seed", "features s", "forecast", "training s", "forecast", "whole jobs s", "forecast", "ratio")


def job_seconds(plan: Workflow, row: str, seed: int) -> float | None:
    """Wall time of a run's jobs as Snakemake measured them; None without its benchmarks."""
    folder = Path(plan.config.results, "benchmarks")
    files = [folder / "train" / row / f"seed-{seed}.tsv"]
    files += [folder / "extract_features" / f"{Path(file).stem}.tsv" for file in plan.features(row, seed)]
    if not all(file.is_file() for file in files):
        return None
    return sum(float(next(csv.DictReader(file.open(), delimiter="\t"))["s"]) for file in files)


def compare(plan: Workflow) -> tuple[dict[int, Speed], list[dict]]:
    """The machine's speed by threads, and what was forecast and measured of each finished run."""
    lengths, speeds, lines = read_lengths(plan.paths.tokens), {}, []
    for row, runs in read_runs(plan.config, plan.selected).items():
        experiment = plan.experiments[row]
        model = plan.models[experiment.model_size]
        threads = min(plan.threads(experiment.model_size), usable_cores())
        for run in runs:
            if threads not in speeds:
                speeds[threads] = measure_speed(threads, "cpu", plan.config.precision)
            speed = speeds[threads]
            spec = feature_spec(experiment, model, run.seed, plan.config.precision)
            features = seconds(feature_cost(spec, model, plan.config, lengths), speed) if spec else 0.0
            training = seconds(training_cost(experiment, model, plan.config, lengths), speed)
            measured = json.loads((run.folder / "metrics.json").read_text())["seconds"]
            computed = measured["training"] + measured["evaluation"]
            whole = job_seconds(plan, row, run.seed)
            forecast = features + training
            if whole is not None:
                forecast += start_up_seconds(speed) * (2 if spec else 1)
            lines.append(
                {
                    "row": row,
                    "seed": run.seed,
                    "features": measured["features"],
                    "features_forecast": features,
                    "training": computed,
                    "training_forecast": training,
                    "whole": whole,
                    "whole_forecast": forecast,
                    "ratio": forecast / (whole or measured["features"] + computed),
                }
            )
    return speeds, lines


def markdown(lines: list[dict]) -> str:
    """The comparison as a table."""
    rows = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    for line in lines:
        cells = [line["row"], str(line["seed"])]
        for part in ("features", "training", "whole"):
            cells += ["" if not line[part] else f"{line[part]:.1f}", f"{line[f'{part}_forecast']:.1f}"]
        rows.append("| " + " | ".join([*cells, f"{line['ratio']:.2f}"]) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", nargs="+", default=["config/config.yaml"], metavar="FILE")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    speeds, lines = compare(load_workflow(arguments.config))
    for threads, speed in speeds.items():
        print(f"{threads} threads: {speed}")
    print(markdown(lines))
    if lines:
        within = sum(0.5 <= line["ratio"] <= 2 for line in lines)
        print(f"\n{within} of {len(lines)} runs within a factor of 2")
    if arguments.json:
        arguments.json.write_text(json.dumps(lines, indent=2) + "\n")


if __name__ == "__main__":
    main()

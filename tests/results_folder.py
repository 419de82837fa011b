"""Results folders of finished workflows, with invented numbers or with the published figures."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import yaml

from gpt2_ablations.settings.config import Config, parse_config
from gpt2_ablations.settings.experiment import Experiment
from gpt2_ablations.settings.models import load_models
from gpt2_ablations.settings.published import load_published
from gpt2_ablations.settings.rows import load_experiments
from gpt2_ablations.settings.schema.yaml_files import load_yaml
from tests.conftest import CHECKOUT

N_TEST = 300
TOTALS = {"train": 1040, "val": 149, "test": N_TEST}
EVALUATE_EVERY = 50
STEPS = 130


class Results:
    """A results folder for the 19 rows, to be filled with runs."""

    def __init__(self, folder: Path, **overrides):
        mapping = load_yaml(CHECKOUT / "config/config.yaml") | {"results": str(folder / "results")}
        for key in ("experiments", "models", "published", "comparisons"):
            mapping[key] = str(CHECKOUT / mapping[key])
        self.config: Config = parse_config(mapping | overrides, "test")
        self.models = load_models(self.config.models)
        self.experiments: dict[str, Experiment] = load_experiments(
            self.config.experiments, self.models, self.config.models
        )
        self.published = load_published(CHECKOUT / "config/published.csv")
        self.labels = np.arange(N_TEST) % 2

    def folder(self, row: str, seed: int) -> Path:
        return Path(self.config.results, "rows", row, f"seed-{seed}")

    def add(self, row: str, correct=285, seed: int = 123, history: bool = False, **metrics) -> Path:
        """Write a finished run.

        Args:
            correct: how many test examples are classified correctly (the first ones), or which, bool [300].
            metrics: values of metrics.json to change.
        """
        which = np.arange(N_TEST) < correct if isinstance(correct, int) else np.asarray(correct)
        folder = self.folder(row, seed)
        folder.mkdir(parents=True, exist_ok=True)
        self._write_predictions(folder, which)
        self._write_history(folder, seed if history else 0)
        content = self._metrics(row, seed, int(which.sum())) | metrics
        (folder / "metrics.json").write_text(json.dumps(content))
        return folder

    def add_published(self, row: str, seed: int = 123, correct=None, **metrics) -> Path:
        """Write the published figures of a row as a run."""
        entry = self.published[row]
        counts: dict = {}
        for split in TOTALS:
            total = entry.total(split)
            right = entry.correct(split, total)
            # If no count gives the percentage, the printed value is kept, with the nearest count.
            exact = entry.percentage(split) / 100 if right is None else right / total
            counts |= {f"{split}_acc": exact, f"{split}_correct": round(exact * total), f"{split}_total": total}
        seconds = {"features": 0.0, "training": entry.minutes * 60, "evaluation": 1.0}
        right = counts["test_correct"] if correct is None else correct
        return self.add(row, right, seed, True, **(counts | {"seconds": seconds, "device_name": "A100"} | metrics))

    def _metrics(self, row: str, seed: int, test_correct: int) -> dict:
        right = {"train": 1000, "val": 140, "test": test_correct}
        metrics: dict = {"row": row, "seed": seed, "model": "gpt2-small (124M)", "context_length": 120}
        for split, total in TOTALS.items():
            metrics |= {f"{split}_acc": right[split] / total, f"{split}_correct": right[split], f"{split}_total": total}
        return metrics | {
            "trainable_parameters": 7_090_946,
            "total_parameters": 124_441_346,
            "seconds": {"features": 9.0, "training": 3.0, "evaluation": 0.5},
            "peak_memory_mb": {"host": 1500.0, "device": None},
            "features_peak_memory_mb": 1200.0,
            "device": "cpu",
            "device_name": "AMD EPYC",
            "precision": "float32",
            "note": None,
        }

    def _write_predictions(self, folder: Path, correct: np.ndarray) -> None:
        with open(folder / "predictions.csv", "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["index", "label", "prediction", "logit_0", "logit_1"])
            for index, (label, right) in enumerate(zip(self.labels.tolist(), correct.tolist())):
                prediction = label if right else 1 - label
                writer.writerow([index, label, prediction, 0.5 - prediction, prediction - 0.5])

    def _write_history(self, folder: Path, seed: int) -> None:
        """Write five epochs of falling losses, evaluated where the reference evaluates."""
        noise = np.random.default_rng(seed).normal(0, 0.1, (5 * STEPS, 2))
        with open(folder / "history.csv", "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["step", "epoch", "batch_loss", "train_loss", "val_loss", "train_acc", "val_acc"])
            for step, (a, b) in enumerate(noise):
                loss = 1.2 * math.exp(-step / 150) + 0.15
                evaluated = step % EVALUATE_EVERY == 0
                losses = (abs(loss + a), abs(loss + 0.1 + b)) if evaluated else ("", "")
                last = (step + 1) % STEPS == 0
                accuracies = (min(1, 1.05 - loss / 3), min(1, 1.02 - loss / 3)) if last else ("", "")
                writer.writerow([step, step // STEPS + 1, abs(loss + 2 * a), *losses, *accuracies])


def comparisons_file(folder: Path, **questions: dict) -> str:
    """Write a comparisons file with these questions; returns its path."""
    path = folder / "comparisons.yaml"
    path.write_text(yaml.safe_dump(questions, sort_keys=False))
    return str(path)


def whole_table(results: Results, noise: float = 0.0) -> Results:
    """Add runs of all rows with every seed, near the published figures. Most rows misclassify the same examples."""
    difficulty = np.random.default_rng(0).random(N_TEST)
    for row, entry in results.published.items():
        for seed in results.config.seeds:
            random = np.random.default_rng([seed, *row.encode()])
            felt = difficulty + random.normal(0, 0.05, N_TEST)
            right = round(entry.test_acc * 3 + random.normal(0, noise))
            correct = np.zeros(N_TEST, dtype=bool)
            correct[np.argsort(felt)[: min(max(right, 0), N_TEST)]] = True
            seconds = {"features": 0.0, "training": entry.minutes * 60 * random.uniform(0.9, 1.1), "evaluation": 1.0}
            measured = {"test_correct": int(correct.sum()), "test_acc": correct.mean(), "seconds": seconds}
            parameters = {"all": 124_000_000, "lora": 2_700_000}.get(
                results.experiments[row].trainable_layers, 7_090_946
            )
            results.add_published(row, seed, correct, **measured, trainable_parameters=parameters)
    return results

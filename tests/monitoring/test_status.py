"""The status of runs, read from files as jobs write them."""

import json
import os
import time

import pytest

from gpt2_ablations.common.files import write_text_whole
from gpt2_ablations.common.progress import STALE_SECONDS
from gpt2_ablations.common.unfinished_files import process_namespace
from gpt2_ablations.monitoring.status import Observer, look
from gpt2_ablations.monitoring.status_report import format_change, format_status, watch
from gpt2_ablations.planning.invocation_lock import lock_results
from gpt2_ablations.planning.workflow import load_workflow
from gpt2_ablations.settings.paths import Paths
from tests.conftest import CHECKOUT, write_yaml

ROWS = {str(i): {"trainable_layers": layers} for i, layers in enumerate(["last_block", "all", "lora", "all"], 1)}
NO_PROCESS = 2**22 + 1  # above Linux's largest
DIMENSIONS = {"n_layer": 2, "n_head": 2, "n_embd": 8, "n_positions": 64, "source": "tiny.safetensors"}


class Folder:
    """A results folder into which a test writes the files of jobs."""

    def __init__(self, folder):
        self.folder, self.paths = folder, Paths(str(folder / "results"))
        (folder / "results").mkdir()
        write_yaml(folder / "models.yaml", {"tiny": DIMENSIONS})
        self.rows(ROWS)

    def rows(self, rows: dict, seeds: tuple[int, ...] = (123,)):
        """The workflow of these rows and seeds."""
        write_yaml(self.folder / "rows.yaml", {"defaults": {"model_size": "tiny"}, "rows": rows})
        override = {
            "results": str(self.folder / "results"),
            "experiments": str(self.folder / "rows.yaml"),
            "models": str(self.folder / "models.yaml"),
            "seeds": list(seeds),
            "device": "cpu",
        }
        file = write_yaml(self.folder / "override.yaml", override)
        self.workflow = load_workflow([str(CHECKOUT / "config" / "config.yaml"), str(file)])
        return self.workflow

    def finish(self, row: str, seed: int = 123, test_acc: float = 0.93, **settings) -> None:
        metrics = {f"{split}_{what}": 1 for split in ("train", "val", "test") for what in ("correct", "total")}
        metrics |= {"train_acc": 1.0, "val_acc": 0.97, "test_acc": test_acc, "device_name": "CPU"}
        experiment = vars(self.workflow.experiments[row]) | settings
        settings = {k: v for k, v in experiment.items() if not k.startswith("_")}
        metrics |= {"seconds": {"features": 1, "training": 2}, "settings": settings}
        write_text_whole(self.paths.row(row, seed) / "metrics.json", json.dumps(metrics))

    def report(self, row: str, seed: int = 123, **said) -> None:
        """Write the progress file of a training run; its process is this one unless given."""
        said = {
            "state": "running",
            "namespace": process_namespace(),
            "process": os.getpid(),
            "phase": "training",
        } | said
        write_text_whole(self.paths.progress(self.paths.row(row, seed)), json.dumps(said))

    def log(self, row: str, text: str, seed: int = 123) -> None:
        write_text_whole(self.paths.train_log(row, seed), text)

    def states(self) -> dict[str, str]:
        return {run.name: run.state for run in look(self.workflow).runs}


@pytest.fixture
def results(tmp_path) -> Folder:
    return Folder(tmp_path)


# Of a line in a log.
TIME = "2026-11-28T12:00:00+0000"
HALF = {"done": 325, "total": 650, "epoch": 3, "epochs": 5, "loss": 0.41234, "seconds_left": 33.0}


def test_each_state_is_told_from_the_files(results):
    results.finish("1")
    results.report("2", **HALF)
    results.log("3", f"starting\n{TIME} ERROR train: the first\nTraceback\n{TIME} ERROR train: the last\nmore\n")
    assert results.states() == {"1": "done", "2": "running", "3": "failed", "4": "waiting"}
    counts, table = format_status(look(results.workflow)).split("\n\n")
    # The path of the folder decides where the lines break.
    assert " ".join(counts.split()) == (
        f"4 runs in {results.paths.results}: 1 waiting, 1 running, 1 done, 1 failed. No invocation is running."
    )
    assert [line.split() for line in table.splitlines()[-4:]] == [
        ["1", "123", "done", "test", "accuracy", "93.00%"],
        ["2", "123", "running", "[######......]", "50%", "epoch", "3/5,", "loss", "0.412,", "33", "s", "left"],
        ["3", "123", "failed", "error:", "train:", "the", "last"],
        ["4", "123", "waiting"],
    ]


def test_a_job_whose_process_is_gone_is_interrupted(results):
    results.report("2", process=NO_PROCESS, **HALF)
    assert results.states()["2"] == "interrupted"
    assert "in epoch 3/5; run it again" in format_status(look(results.workflow))


def test_a_job_on_another_machine_is_running_while_its_file_is_touched(results):
    results.report("2", namespace="another", process=NO_PROCESS, **HALF)
    assert results.states()["2"] == "running"
    file = results.paths.progress(results.paths.row("2", 123))
    old = time.time() - STALE_SECONDS - 60
    os.utime(file, (old, old))
    assert results.states()["2"] == "interrupted"


def test_a_failed_job_shows_the_error_of_its_log_or_of_its_progress_file(results):
    results.report("2", state="failed", error="the reason")
    assert look(results.workflow).runs[1].error == "error: the reason"
    results.log("2", f"{TIME} ERROR train: in full\n")
    assert look(results.workflow).runs[1].error == "error: train: in full"


def test_jobs_that_failed_before_the_running_invocation_began_wait_again(results):
    results.report("2", state="failed", error="the reason")
    results.log("3", f"{TIME} ERROR train: old\n")
    assert results.states()["2"] == results.states()["3"] == "failed"
    time.sleep(0.02)
    lock = lock_results(results.folder / "results")
    try:
        assert results.states()["2"] == results.states()["3"] == "waiting"
        results.log("3", f"{TIME} ERROR train: new\n")
        assert results.states()["3"] == "failed" and look(results.workflow).invocation.startswith("process ")
    finally:
        os.close(lock)


def test_a_run_with_other_options_is_not_done_and_a_damaged_one_has_failed(results):
    results.finish("1", num_epochs=9)
    results.finish("2")
    (results.paths.row("3", 123)).mkdir(parents=True)
    (results.paths.row("3", 123) / "metrics.json").write_text("{")
    assert results.states() == {"1": "waiting", "2": "done", "3": "failed", "4": "waiting"}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"state": 7}', '{"state": "running", "done": "x", "total": []}']
)
def test_a_damaged_progress_file_ends_nothing(results, content):
    write_text_whole(results.paths.progress(results.paths.row("2", 123)), content)
    assert results.states()["2"] in ("waiting", "running", "interrupted")
    format_status(look(results.workflow))


def test_features_and_downloads_that_run_are_named_before_the_rows(results):
    results.rows({"a": {}, "b": {"num_epochs": 1}})
    (file,) = results.workflow.feature_files("a", 123)
    said = {
        "state": "running",
        "namespace": process_namespace(),
        "process": os.getpid(),
        "done": 3,
        "total": 12,
        "seconds_left": 9,
    }
    write_text_whole(results.paths.progress(results.folder / file), json.dumps(said | {"phase": "features"}))
    weights = results.paths.progress(results.paths.weights("tiny"))
    write_text_whole(weights, json.dumps(said | {"phase": "download"}))
    text = format_status(look(results.workflow))
    assert "features of a, b  running  [###.........]  25%" in text and "weights tiny" in text


def test_lines_fit_into_80_columns_whatever_the_names_and_errors(results):
    results.rows({"r" * 64: {"trainable_layers": "all"}, "x": {}})
    results.report("r" * 64, **HALF)
    results.log("x", f"{TIME} ERROR " + "long words " * 40 + "\n")
    for line in [*format_status(look(results.workflow)).splitlines(), *map(format_change, look(results.workflow).runs)]:
        assert len(line) <= 80 or str(results.folder) in line, line


def test_many_seeds_are_a_line_a_row(results):
    workflow = results.rows(ROWS, tuple(range(50)))
    for seed in range(30):
        results.finish("1", seed, test_acc=0.9 + seed % 2 * 0.02)
    results.report("1", 31, **HALF)
    text = format_status(look(workflow))
    assert "30 done, 1 running, 19 waiting" in text and "mean 91.00%" in text and "seed 31 50%" in text
    assert len(text.splitlines()) < 12 and max(map(len, text.splitlines()[3:])) <= 80


def test_thousands_of_runs_are_summed_up(results):
    workflow = results.rows({f"r{i}": {"trainable_layers": "all"} for i in range(1000)}, (1, 2, 3, 4, 5))
    results.report("r7", 3, **HALF)
    results.log("r9", f"{TIME} ERROR train: it broke\n", 2)
    lines = format_status(look(workflow)).splitlines()
    assert len(lines) < 12 and "and 4998 more runs; --row ID shows some, --json shows all" in lines
    assert [line.split()[:3] for line in lines if line.startswith("r") and line[1].isdigit()] == [
        ["r7", "3", "running"],
        ["r9", "2", "failed"],
    ]


def test_json_holds_every_run(results):
    results.finish("1")
    results.report("2", **HALF)
    status = look(results.workflow).as_json()
    assert status["counts"] == {"waiting": 2, "running": 1, "done": 1} and len(status["runs"]) == 4
    assert status["runs"][0]["test_acc"] == 0.93 and status["runs"][1]["fraction"] == 0.5
    json.dumps(status)


def test_an_observer_sees_changes_between_two_looks(results):
    observer = Observer(results.workflow)
    assert observer.look().counts == {"waiting": 4}
    results.finish("1", test_acc=0.5)
    assert observer.look().runs[0].test_acc == 0.5
    results.finish("1", test_acc=0.75)
    assert observer.look().runs[0].test_acc == 0.75


def test_watching_finished_rows_shows_them_and_ends(results, capsys):
    for row in ROWS:
        results.finish(row)
    watch(results.workflow)
    text = " ".join(capsys.readouterr().out.split())
    assert "4 runs in" in text and ": 4 done. " in text

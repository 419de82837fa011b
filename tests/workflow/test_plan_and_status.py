"""What users see before, during and after an invocation."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import environment
from tests.faults.runs import Started, wait_until
from tests.workflow.conftest import DIMENSIONS, Workshop, write_yaml

CONFIG = ["--config", "config/config.yaml", "override.yaml"]
# Enough epochs to run until the test has looked.
LONG = {"num_epochs": 3000, "trainable_layers": "all"}


def plan(workshop: Workshop, *arguments: str) -> str:
    done = workshop.command("plan", *arguments, *CONFIG)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


def status(workshop: Workshop) -> dict[str, dict]:
    """The runs of `status --json`, by row."""
    done = workshop.command("status", "--json", *CONFIG)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return {run["name"]: run for run in json.loads(done.stdout)["runs"]}


def columns(text: str) -> int:
    return max(map(len, text.splitlines()))


@pytest.fixture
def long_run(untrained):
    """An invocation that trains row 2 for long; everything that it started is killed afterwards."""
    untrained.rows({"1": {}, "2": LONG})
    started = Started(untrained.folder, "--configfile", "override.yaml")
    yield started
    if started.process.poll() is None:
        started.signal_group(signal.SIGKILL)
        started.process.wait()


def wait_for(workshop: Workshop, row: str, **expected) -> dict:
    """Wait until a row's status has these values; the row's status."""
    found: dict = {}

    def reached() -> bool:
        found.update(status(workshop)[row])
        return expected.items() <= found.items()

    wait_until(reached, f"row {row}: {expected}")
    return found


def test_the_plan_of_a_first_run_names_files_rows_and_sums_and_changes_nothing(workshop):
    text = plan(workshop)
    assert not workshop.results.exists()
    assert re.search(r"^messages +\S+ kB +on this machine +messages.tsv$", text, flags=re.MULTILINE)
    assert re.search(r"^tiny +\S+ MB +on this machine +tiny.safetensors$", text, flags=re.MULTILINE)
    assert re.search(r"^1 +tiny +last_block +\d+ s +\d+ s .* to do$", text, flags=re.MULTILINE)
    assert re.search(r"^2 +tiny +all +- +\d+ s .* to do$", text, flags=re.MULTILINE)
    assert "Total: 2 rows, 2 of 2 runs to do.\nTime: about " in text and "Downloads: none." in text
    assert "The data is not tokenized yet." in text
    assert columns(text) <= 80


def test_the_plan_of_downloads_says_from_where_and_how_much(workshop):
    workshop.override(dataset={"sources": ["https://example.org/messages.zip", "messages.tsv"], "sha256": None})
    text = plan(workshop)
    assert re.search(
        r"^messages +208 kB +download +https://example.org/messages.zip \(or 1 more\)$", text, re.MULTILINE
    )
    assert "Downloads: 208 kB." in text


def test_the_plan_after_a_run_has_nothing_left_to_do(finished):
    text = plan(finished)
    assert "Total: 2 rows, 0 of 2 runs to do.\n" in text and "Time:" not in text
    assert [line.split()[-1] for line in text.splitlines() if re.match(r"[12] +tiny", line)] == ["done", "done"]


def test_the_plan_of_one_row_more_counts_that_row_alone(finished):
    finished.rows({"1": {}, "2": {"trainable_layers": "all"}, "3": {"num_epochs": 2}})
    described = json.loads(plan(finished, "--json"))
    rows = {row["row"]: row for row in described["rows"]}
    assert [rows[row]["done"] for row in "123"] == [1, 1, 0]
    # Row 3 reads row 1's features, which exist.
    assert rows["3"]["features_seconds"] == 0 and rows["3"]["training_seconds"] > 0
    assert described["download_bytes"] == 0 and described["lengths_known"]


def test_the_plan_names_a_row_that_does_not_fit(workshop):
    giant = DIMENSIONS | {"n_layer": 200, "n_embd": 16384, "source": "none: random weights"}
    models = {"tiny": DIMENSIONS | {"source": "tiny.safetensors"}, "giant": giant}
    write_yaml(workshop.folder / "models.yaml", models)
    workshop.rows({"1": {}, "2": {"model_size": "giant", "weights": "random", "trainable_layers": "all"}})
    text = plan(workshop)
    assert "Does not fit: row 2: training needs " in text and "use a machine with more memory" in " ".join(text.split())
    assert re.search(r"^2 +giant .* too big$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("command", ["plan", "status"])
def test_a_row_that_is_not_there_is_named(workshop, command):
    done = workshop.command(command, "--row", "7", *CONFIG)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "'7'" in line


def test_an_invocation_begins_with_what_it_will_do_and_how_to_follow_it(workshop):
    said = first_screen(workshop, "1", "2")
    assert "2 rows, 2 runs (0 done). To compute now: 2 training runs and 1 feature file.\n" in said
    assert "To follow the progress:\n  python -m gpt2_ablations status --watch --config results/config.yaml\n" in said
    assert "Downloads: none." in said and " plan " not in said


def first_screen(workshop: Workshop, *rows: str) -> str:
    """What an invocation prints first; then it is killed."""
    started = Started(workshop.folder, *(f"row_{row}" for row in rows), "--configfile", "override.yaml")
    try:
        wait_until(lambda: "status --watch" in started.printed.read_text(), "the first screen is shown")
    finally:
        started.signal_group(signal.SIGKILL)
        started.process.wait()
    return started.printed.read_text()


@pytest.fixture
def small_model(workshop):
    """Adds a model of GPT-2's dimensions with random weights."""
    small = DIMENSIONS | {"n_layer": 12, "n_embd": 768, "n_head": 12, "source": "none: random weights"}
    write_yaml(workshop.folder / "models.yaml", {"tiny": DIMENSIONS | {"source": "tiny.safetensors"}, "small": small})
    return {"model_size": "small", "weights": "random"}


PLAN = "To estimate time, memory and disk space:\n  python -m gpt2_ablations plan --config results/config.yaml\n"


@pytest.mark.parametrize(("device", "is_long"), [("cpu", True), ("auto", False)])
def test_a_run_that_is_long_on_this_device_begins_with_the_command_of_its_plan(
    workshop, small_model, two_gpus, device, is_long
):
    workshop.rows({"1": small_model | {"trainable_layers": "all", "num_epochs": 5}, "2": LONG | small_model})
    workshop.override(device=device)
    assert (PLAN in first_screen(workshop, "1")) == is_long


def test_the_status_of_a_run_that_is_killed_and_resumed(untrained, long_run):
    assert set(run["state"] for run in status(untrained).values()) <= {"waiting", "running"}
    long_run.job("train")
    wait_until(lambda: status(untrained)["2"].get("details", {}).get("epoch", 0) > 1, "an epoch is over")
    running = status(untrained)["2"]
    assert running["phase"] == "training" and 0 < running["fraction"] < 1 and running["seconds_left"] > 0
    assert {"epochs": 3000}.items() <= running["details"].items() and running["details"]["loss"] > 0
    text = untrained.command("status", "--config", "results/config.yaml").stdout
    assert re.search(
        r"^2 +123 +running +\[[#.]{12}\] +\d+% +epoch \d+/3000, loss \d\.\d+, .* left$", text, re.MULTILINE
    )
    assert "An invocation is running (process " in text and columns(text) <= 80

    long_run.signal_group(signal.SIGKILL)
    long_run.process.wait()
    killed = wait_for(untrained, "2", state="interrupted")
    assert killed["fraction"] > 0
    assert "run it again" in untrained.command("status", *CONFIG).stdout

    untrained.rows({"1": {}, "2": LONG | {"num_epochs": 1}})
    untrained.run("--unlock")
    untrained.run("--rerun-incomplete", "row_1", "row_2")
    assert [run["state"] for run in status(untrained).values()] == ["done", "done"]
    assert list((untrained.results / "progress").iterdir()) == []


def test_a_failed_row_shows_the_last_line_of_its_log(untrained):
    untrained.rows({"1": {}, "2": {"batch_size": 1, "ignore_index": 1}})
    assert untrained.snakemake("--keep-going").returncode == 1
    failed = status(untrained)["2"]
    log = (untrained.results / "logs" / "train" / "2" / "seed-123.log").read_text()
    assert failed["state"] == "failed" and log.splitlines()[-1].endswith(failed["error"].removeprefix("error:"))
    assert failed["error"].startswith("error: ") and status(untrained)["1"]["state"] == "done"
    text = untrained.command("status", *CONFIG).stdout
    assert "1 done, 1 failed" in text and columns(text) <= 80
    # It remains failed until the workflow runs again.
    untrained.rows({"1": {}, "2": {}})
    untrained.run("row_2")
    assert status(untrained)["2"]["state"] == "done"


def test_watching_in_a_pipe_prints_changes_until_the_workflow_ends(untrained):
    untrained.rows({"1": {}, "2": LONG | {"num_epochs": 40}})
    command = [sys.executable, "-m", "gpt2_ablations", "status", "--watch", *CONFIG]
    variables = environment() | {"PYTHONPATH": str(untrained.folder / "src")}
    printed = untrained.folder / "printed"
    with open(printed, "w") as file:
        watching = subprocess.Popen(
            command, cwd=untrained.folder, env=variables, stdout=file, stderr=subprocess.PIPE, text=True
        )
    wait_until(printed.read_text, "the first status is shown")
    untrained.run("row_1", "row_2")
    assert (watching.communicate(timeout=60)[1], watching.returncode) == ("", 0)
    said = printed.read_text()
    assert "\x1b" not in said and columns(said) <= 80
    for row in "12":
        done = rf"^[\d:]+  row {row}, seed 123: done  test accuracy \d+\.\d+%$"
        assert re.search(done, said, flags=re.MULTILINE), said
    assert said.splitlines()[-1].endswith("2 done. No invocation is running.") or "2 done. " in said


def test_watching_in_a_terminal_updates_the_table(untrained, long_run):
    wait_for(untrained, "2", state="running")
    terminal, its_end = pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, "-m", "gpt2_ablations", "status", "--watch", *CONFIG],
        cwd=untrained.folder,
        env=environment() | {"PYTHONPATH": str(untrained.folder / "src"), "COLUMNS": "80", "LINES": "24"},
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
    )
    os.close(its_end)
    screens = _read_screens(terminal, 3)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(timeout=30) == -signal.SIGINT
    os.close(terminal)
    assert all(re.search(r"^2 +123 +running ", screen, flags=re.MULTILINE) for screen in screens[1:])
    assert max(map(columns, screens)) <= 80 and max(len(screen.splitlines()) for screen in screens) < 24


def _read_screens(terminal: int, number: int, seconds: float = 60) -> list[str]:
    """What a program has printed between two clearings of the screen."""
    text, until = "", time.monotonic() + seconds
    while text.count("\x1b[H\x1b[J") <= number:
        assert select.select([terminal], [], [], until - time.monotonic())[0], f"only {text!r}"
        text += os.read(terminal, 65536).decode()
    return [screen.replace("\r", "") for screen in text.split("\x1b[H\x1b[J")[1:-1]]

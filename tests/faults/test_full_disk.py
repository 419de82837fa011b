"""A full or read-only disk: one line, no finished file is lost, and the same command succeeds once there is room."""

import subprocess
import sys

import pytest

from tests.conftest import environment
from tests.faults.runs import contents, numbers, run

# Every rule of an invocation, in order, and the files that it writes.
OUTPUTS = {
    "fetch_messages": "dataset/SMSSpamCollection",
    "split_messages": "dataset/*.csv",
    "tokenize": "dataset/tokens.safetensors",
    "fetch_weights": "weights/tiny/model.safetensors",
    "extract_features": "features/*.safetensors",
    "train": "rows/1/seed-123/*",
    "table": "table.*",
    "compare": "comparison.md",
    "interpret": "interpretation.md",
    "draw": "plots/*.*",
    "draw_rows": "plots/rows/*",
    "pages": "pages/table.html",
}
NOT_RESULTS = ("ballast", "logs", "progress", "benchmarks", ".run.lock")


@pytest.mark.parametrize(
    ("rules", "target"),
    [(["extract_features"], "table"), pytest.param(list(OUTPUTS), "all", marks=pytest.mark.faults)],
    ids=["features", "each"],
)
def test_a_disk_that_fills_during_a_rule_stops_with_one_line(
    rules, target, workshop, finished_workshop, disk, expected
):
    small_disk = disk(workshop.results)
    for rule in rules:
        small_disk.make_room()
        for earlier in reversed(list(OUTPUTS)[: list(OUTPUTS).index(rule)]):
            if not list(workshop.results.glob(OUTPUTS[earlier])):
                done = run(workshop, "--until", earlier)
                assert done.code == 0, done.output
        before = contents(workshop.results, NOT_RESULTS)
        # Half of what the rule writes fits.
        sizes = [file.stat().st_size for file in finished_workshop.results.glob(OUTPUTS[rule]) if file.is_file()]
        small_disk.leave(sum(sizes) // 2 // 4096 * 4096)
        failed = run(workshop, "--cores", "1", "--until", rule)
        assert failed.code == 1 and "Traceback" not in failed.output, failed.output
        (error,) = failed.errors
        assert error.startswith("error: results/"), error
        assert error.endswith(": cannot be written: the disk is full; free space, then run the same command again")
        assert contents(workshop.results, NOT_RESULTS) == before
    small_disk.make_room()
    done = run(workshop, target)
    assert done.code == 0, done.output
    assert numbers(workshop.results) == expected


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_start_stops_with_one_line(finished, disk):
    small_disk = disk(finished.folder / "disk")
    finished.override(results="disk/results")
    small_disk.leave(0)
    failed = run(finished)
    assert failed.code == 1 and "Traceback" not in failed.output, failed.output
    (error,) = failed.errors
    assert error.startswith("error: disk/results/config.yaml: cannot be written: the disk is full; free space"), error
    small_disk.make_room()
    assert run(finished, "--until", "split_messages").code == 0


@pytest.mark.slow
def test_a_results_folder_that_is_read_only_stops_the_invocation_at_once(workshop, disk, expected):
    results = disk(workshop.results)
    assert run(workshop, "row_1").code == 0
    before = contents(workshop.results)
    results.read_only()
    failed = run(workshop)
    assert failed.code == 1 and "Traceback" not in failed.output, failed.output
    (error,) = failed.errors
    assert error.startswith("error: results is 'results', which cannot be written to; make it writable, or"), error
    assert contents(workshop.results) == before
    results.read_only(False)
    done = run(workshop)
    assert done.code == 0, done.output
    assert numbers(workshop.results) == expected


def test_a_log_on_a_full_disk_loses_its_lines_and_the_job_continues(disk, tmp_path):
    disk(tmp_path / "disk").leave(0)
    job = (
        "import sys; from gpt2_ablations.common.logs import log_to; log_to(sys.argv[1]); print('line', file=sys.stderr)"
    )
    command = [sys.executable, "-c", job, str(tmp_path / "disk" / "log")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "disk" / "log").read_text() == ""

"""The progress of a job, in its progress file and in its log."""

import json
import os
import time

import pytest

from gpt2_ablations.common import logs, progress
from gpt2_ablations.common.errors import InputError, Superseded
from gpt2_ablations.common.logs import log_to
from gpt2_ablations.finetuning.training_log import TrainingLog
from gpt2_ablations.runs.result import Step
from tests.finetuning.test_checkpoints import checkpoint, finetuning, interrupted


@pytest.fixture
def file(tmp_path):
    return tmp_path / "progress" / "rows.1.seed-123.json"


def read(file) -> dict:
    return json.loads(file.read_text())


def test_the_file_identifies_the_job_and_is_removed_when_the_job_is_done(file):
    with progress.job_progress(file, job="train", row="1", seed=123):
        content = read(file)
        assert content["state"] == "running" and content["row"] == "1"
        assert content["seed"] == 123 and content["process"] > 0
    assert list(file.parent.iterdir()) == []


def test_reports_are_written_once_a_second_but_never_miss_the_end(file, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with progress.job_progress(file, job="features"):
        progress.report("features", 1, 10)
        clock[0] += 0.5
        progress.report("features", 2, 10)
        assert read(file)["done"] == 1
        clock[0] += 0.5
        progress.report("features", 3, 10, lambda: {"loss": 0.5})
        # Two parts took a second, so the remaining seven take 3.5 seconds.
        assert read(file)["done"] == 3 and read(file)["seconds_left"] == 3.5 and read(file)["loss"] == 0.5
        progress.report("features", 10, 10)
        assert read(file)["done"] == 10 and read(file)["seconds_left"] == 0


def test_remaining_time_is_estimated_from_what_this_process_has_done():
    assert progress.seconds_left(10, 5, 20) == 40
    assert progress.seconds_left(10, 0, 20) is None and progress.seconds_left(10, 0, 0) == 0
    assert progress.seconds_left(10, 5, None) is None


def test_a_failed_job_reports_the_reason(file):
    with pytest.raises(InputError), progress.job_progress(file, job="train"):
        raise InputError("the reason")
    assert read(file)["state"] == "failed" and read(file)["error"] == "the reason"


def test_a_job_continues_if_its_file_cannot_be_written(tmp_path):
    (tmp_path / "progress").write_text("a file, not a folder")
    with progress.job_progress(tmp_path / "progress" / "x.json", job="train"):
        progress.report("training", 1, 2)


def test_a_superseded_job_leaves_the_file_of_the_newer_job_unchanged(file, tmp_path):
    stderr = os.dup(2)
    try:
        log_to(tmp_path / "job.log")
        with pytest.raises(Superseded), progress.job_progress(file, job="train", row="old"):
            (tmp_path / "new").write_text("")
            os.replace(tmp_path / "new", tmp_path / "job.log")
            file.write_text('{"state": "running", "row": "new"}')
            progress.report("training", 1, 2)
            raise Superseded("a newer job")
        assert read(file) == {"state": "running", "row": "new"}
    finally:
        os.dup2(stderr, 2)
        logs._own_log = None
        logs._handler.setFormatter(logs._Console())


def test_a_process_without_a_progress_file_reports_nothing(tmp_path):
    progress.report("training", 1, 2)
    assert list(tmp_path.iterdir()) == []


def test_a_training_run_gives_the_same_numbers_with_and_without_reports(file, capfd):
    silent = finetuning().train()
    assert capfd.readouterr().err == ""
    with progress.job_progress(file, job="train"):
        reported = finetuning().train(on_step=TrainingLog(4, 28))
        content = read(file)
    assert repr(reported.history) == repr(silent.history) and reported.logits.equal(silent.logits)
    assert content["done"] == content["total"] == 28 and content["epoch"] == content["epochs"] == 4
    assert "val_acc" in content


def test_the_log_shows_epoch_step_losses_accuracies_and_remaining_time(capfd):
    finetuning().train(on_step=TrainingLog(4, 28))
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("epoch 1, step 0: training loss ") and ", validation loss " in lines[0]
    assert lines[1].startswith("epoch 1: training accuracy ") and "(of 5 batches)" in lines[1]
    assert [line.split(":")[0] for line in lines[1:]] == [f"epoch {n}" for n in (1, 2, 3, 4)]
    assert lines[0].endswith(" left") and not lines[-1].endswith(" left")


def test_a_resumed_training_run_reports_its_current_epoch(tmp_path, file, capfd):
    interrupted(tmp_path, 3)
    capfd.readouterr()
    first = []

    class Watched(TrainingLog):
        def __call__(self, history):
            super().__call__(history)
            first.append(read(file))

    with progress.job_progress(file, job="train"):
        finetuning().train(checkpoint(tmp_path), Watched(4, 28))
    assert first[0]["done"] == 14 and first[0]["epoch"] == 3
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("epoch")]
    assert [line.split(":")[0] for line in lines] == ["epoch 3", "epoch 4"]


def test_the_last_known_loss_is_reported_while_newer_losses_are_on_the_device():
    history = [Step(0, 1, batch_loss=0.7), Step(1, 1, batch_loss=0.6), Step(2, 1)]
    assert TrainingLog(2, 6)._figures(history) == {"epoch": 1, "epochs": 2, "step": 3, "loss": 0.6}

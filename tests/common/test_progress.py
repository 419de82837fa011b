"""What a job says of its progress, in its file and in its log."""

import json
import time

import pytest

from gpt2_ablations.common import progress
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


def test_a_job_says_what_it_is_and_its_file_goes_when_it_is_done(file):
    with progress.job_progress(file, job="train", row="1", seed=123):
        said = read(file)
        assert said["state"] == "running" and said["row"] == "1" and said["seed"] == 123 and said["process"] > 0
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
        # Two parts in a second: the seven others take three and a half.
        assert read(file)["done"] == 3 and read(file)["seconds_left"] == 3.5 and read(file)["loss"] == 0.5
        progress.report("features", 10, 10)
        assert read(file)["done"] == 10 and read(file)["seconds_left"] == 0


def test_time_left_counts_from_where_this_process_began():
    assert progress.seconds_left(10, 5, 20) == 40
    assert progress.seconds_left(10, 0, 20) is None and progress.seconds_left(10, 0, 0) == 0
    assert progress.seconds_left(10, 5, None) is None


def test_a_failure_leaves_word_of_it(file):
    with pytest.raises(InputError), progress.job_progress(file, job="train"):
        raise InputError("the reason")
    assert read(file)["state"] == "failed" and read(file)["error"] == "the reason"


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "progress").write_text("a file in the folder's place")
    with progress.job_progress(tmp_path / "progress" / "x.json", job="train"):
        progress.report("training", 1, 2)


def test_a_job_whose_place_another_has_taken_leaves_the_other_s_file_alone(file, tmp_path):
    import os

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
        from gpt2_ablations.common import logs

        logs._own_log = None


def test_a_process_without_a_progress_file_reports_nothing(tmp_path):
    progress.report("training", 1, 2)
    assert list(tmp_path.iterdir()) == []


def test_a_training_gives_the_same_numbers_whether_it_reports_or_not(file, capfd):
    silent = finetuning().run()
    assert capfd.readouterr().err == ""
    with progress.job_progress(file, job="train"):
        told = finetuning().run(on_step=TrainingLog(4, 28))
        said = read(file)
    assert repr(told.history) == repr(silent.history) and told.logits.equal(silent.logits)
    assert said["done"] == said["total"] == 28 and said["epoch"] == said["epochs"] == 4 and "val_acc" in said


def test_the_log_tells_epoch_step_losses_accuracies_and_time_left(capfd):
    finetuning().run(on_step=TrainingLog(4, 28))
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("epoch 1, step 0: training loss ") and ", validation loss " in lines[0]
    assert lines[1].startswith("epoch 1: training accuracy ") and "(of 5 batches)" in lines[1]
    assert [line.split(":")[0] for line in lines[1:]] == [f"epoch {n}" for n in (1, 2, 3, 4)]
    assert lines[0].endswith(" left") and not lines[-1].endswith(" left")


def test_a_resumed_training_says_the_epoch_that_it_is_in(tmp_path, file, capfd):
    interrupted(tmp_path, 3)
    capfd.readouterr()
    first = []

    class Watched(TrainingLog):
        def __call__(self, history):
            super().__call__(history)
            first.append(read(file))

    with progress.job_progress(file, job="train"):
        finetuning().run(checkpoint(tmp_path), Watched(4, 28))
    assert first[0]["done"] == 14 and first[0]["epoch"] == 3
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("epoch")]
    assert [line.split(":")[0] for line in lines] == ["epoch 3", "epoch 4"]


def test_the_last_known_loss_is_shown_while_a_device_holds_the_newer_ones():
    history = [Step(0, 1, batch_loss=0.7), Step(1, 1, batch_loss=0.6), Step(2, 1)]
    assert TrainingLog(2, 6)._figures(history) == {"epoch": 1, "epochs": 2, "step": 3, "loss": 0.6}

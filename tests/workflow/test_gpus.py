"""Jobs on GPUs, as far as they can be tested without one: a stand-in for nvidia-smi lists two."""

import re
import signal

from gpt2_ablations.finetuning import feature_job, features, training_job
from gpt2_ablations.finetuning.loop import Finetuning
from gpt2_ablations.settings.config import load_config
from gpt2_ablations.settings.experiment import Experiment
from gpt2_ablations.settings.feature_spec import feature_spec
from gpt2_ablations.settings.models import load_models
from tests.faults.runs import start, wait_until


def admitted(finished, *arguments: str) -> dict[str, str]:
    """The limits of resources that an invocation starts with."""
    said = finished.run("--forcerun", "pages", *arguments).stderr
    return dict(re.findall(r'(\w+)=(?:Resource\("\w+", )?(\d+)', re.search(r"Provided resources: (.*)", said)[1]))


def test_as_many_jobs_as_gpus_and_one_that_starts_up_are_admitted(finished, two_gpus):
    finished.override(device="auto")
    assert admitted(finished)["gpu"] == "3"
    assert admitted(finished, "--resources", "gpu=1")["gpu"] == "1"


def test_a_row_without_features_starts_beside_features_that_would_fill_all_places(finished, two_gpus):
    """Otherwise the GPUs would be idle while features are written to a slow disk."""
    rows = {
        "no-mask": {"disable_causal_mask": True},
        "flexible": {"trainable_token_pos": "flexible"},
        "two-blocks": {"trainable_layers": "last_two_blocks"},
        "whole": {"trainable_layers": "all"},
    }
    finished.rows(rows)
    finished.override(device="auto")
    started = start(finished, "--cores", "4", *(f"row_{row}" for row in rows))
    wait_until(lambda: "Finished jobid" in started.printed.read_text(), "a job has ended")
    started.signal_group(signal.SIGKILL)
    started.process.wait()
    log = started.printed.read_text().split("Finished jobid")[0]
    assert sorted(re.findall(r"^(?:local)?rule (\w+):", log, flags=re.MULTILINE)) == [
        "extract_features",
        "extract_features",
        "train",
    ]


def test_rows_on_the_cpu_need_no_gpu_and_share_the_machine_s_memory(finished, two_gpus):
    limits = admitted(finished)
    assert "gpu" not in limits and int(limits["mem_mb"]) > 0


def test_a_job_for_a_gpu_takes_one_and_leaves_cores_to_the_others(finished, two_gpus):
    finished.override(device="cuda", seeds=[5])
    planned = finished.run("--dry-run", "row_2").stdout
    assert re.search(r"rule train:.*resources: .*gpu=1\b", planned, flags=re.DOTALL)


def test_training_takes_its_device_when_all_is_loaded_and_gives_it_back_before_it_writes(finished, monkeypatch):
    happened = []

    def noted(name, function):
        def call(*arguments, **options):
            result = function(*arguments, **options) if name != "clock starts" else None
            happened.append(name)
            return function(*arguments, **options) if name == "clock starts" else result

        return call

    monkeypatch.chdir(finished.folder)
    monkeypatch.setattr(training_job, "build_classifier", noted("loaded", training_job.build_classifier))
    monkeypatch.setattr(training_job, "take_device", noted("device taken", training_job.take_device))
    monkeypatch.setattr(Finetuning, "train", noted("clock starts", Finetuning.train))
    monkeypatch.setattr(training_job, "release_device", noted("device given back", training_job.release_device))
    monkeypatch.setattr(training_job, "write_run", noted("written", training_job.write_run))
    config = load_config(["config/config.yaml", "override.yaml"])
    (features,) = (finished.results / "features").glob("*.safetensors")
    row = Experiment(model_size="tiny", num_epochs=1)
    training_job.train(config, row, 123, "1", features, finished.folder / "out")
    assert happened == ["loaded", "device taken", "clock starts", "device given back", "written"]


def test_features_give_their_device_back_when_all_are_computed_and_before_all_are_written(finished, monkeypatch):
    monkeypatch.chdir(finished.folder)
    config = load_config(["config/config.yaml", "override.yaml"])
    spec = feature_spec(Experiment(model_size="tiny"), load_models(config.models)["tiny"], 123, config.precision)
    output, shards = finished.folder / "out.safetensors", []
    monkeypatch.setattr(features, "tokens_per_shard", lambda model, size: 100)
    cut = features._run_shard
    monkeypatch.setattr(features, "_run_shard", lambda *arguments: shards.append(1) or cut(*arguments))
    given_back = []

    def note(device):
        assert not output.exists()
        given_back.append(len(shards))

    monkeypatch.setattr(feature_job, "release_device", note)
    feature_job.extract_features(config, spec, output)
    assert len(shards) > 2 and given_back == [len(shards)]

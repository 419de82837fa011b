"""The resources of jobs: compared with measured peaks, and how they grow."""

import itertools
import json

import numpy as np
import pytest

from gpt2_ablations.planning.costs import (
    Lengths,
    expected_lengths,
    feature_cost,
    read_lengths,
    trained_parameters,
    training_cost,
)
from gpt2_ablations.planning.resources import job_resources, job_threads, jobs_at_once
from gpt2_ablations.planning.workflow import make_workflow
from gpt2_ablations.settings.config import load_config
from gpt2_ablations.settings.experiment import Experiment
from gpt2_ablations.settings.feature_spec import feature_spec
from gpt2_ablations.settings.models import load_models
from gpt2_ablations.settings.schema.yaml_files import load_yaml
from tests.benchmarks.inputs import write_tokens
from tests.benchmarks.resources import CASES, resources_of
from tests.conftest import CHECKOUT

MEASURED = json.loads((CHECKOUT / "tests/benchmarks/resources.json").read_text())
CONFIG = load_config([CHECKOUT / "config/config.yaml"])
MODELS = load_models(CHECKOUT / "config/models.yaml")
SIZES = list(MODELS)


ROW_1 = Experiment()
EXPECTED = expected_lengths()


def training(experiment: Experiment = ROW_1, gpu: bool = False, **config):
    model, changed = MODELS[experiment.model_size], CONFIG.model_copy(update=config)
    return job_resources(training_cost(experiment, model, changed, EXPECTED), gpu, 4)


def extraction(experiment: Experiment = ROW_1, lengths: Lengths = EXPECTED, **config):
    model, changed = MODELS[experiment.model_size], CONFIG.model_copy(update=config)
    spec = feature_spec(experiment, model, 1, "float32")
    return job_resources(feature_cost(spec, model, changed, lengths), False, 4)


@pytest.mark.parametrize("measured", [m for m in MEASURED if m["peak_mb"]], ids=lambda measured: measured["case"])
def test_memory_is_between_the_measured_peak_and_one_and_a_half_times_it(measured, tmp_path):
    case = CASES[measured["case"]]
    write_tokens(tmp_path / "tokens.safetensors", case.examples)
    config = CONFIG.model_copy(update={"precision": case.precision, "micro_batch_size": case.micro_batch_size})
    ratio = resources_of(case, config, tmp_path / "tokens.safetensors", gpu=False).host_mb / measured["peak_mb"]
    assert 1.0 <= ratio <= 1.5


def test_frozen_full_and_lora_rows_of_three_sizes_are_recorded():
    wanted = {f"{size}-{kind}" for size in ("small", "medium", "xl") for kind in ("all", "lora", "last_block-training")}
    assert wanted <= {measured["case"] for measured in MEASURED}


@pytest.mark.parametrize("layers", ["last_layer", "last_block", "last_two_blocks", "all", "lora"])
@pytest.mark.parametrize("gpu", [False, True])
def test_a_larger_model_needs_more(layers, gpu):
    for smaller, larger_size in itertools.pairwise(SIZES):
        less = training(Experiment(model_size=smaller, trainable_layers=layers), gpu=gpu)
        more = training(Experiment(model_size=larger_size, trainable_layers=layers), gpu=gpu)
        assert less.host_mb < more.host_mb and less.device_mb < more.device_mb
        assert less.minutes <= more.minutes and less.disk_mb <= more.disk_mb


def test_more_trained_layers_need_more():
    layers = ["last_layer", "last_block", "last_two_blocks", "all"]
    resources = [training(Experiment(trainable_layers=trained)) for trained in layers]
    for name in ("host_mb", "device_mb", "minutes", "disk_mb"):
        values = [getattr(job, name) for job in resources]
        assert values == sorted(values)


@pytest.mark.parametrize(
    "less, more",
    [
        ({"lora_rank": 8}, {"lora_rank": 64}),
        ({"batch_size": 8}, {"batch_size": 16}),
        ({"context_length": 100}, {"context_length": 200}),
        ({"trainable_token_pos": "first"}, {"trainable_token_pos": "last"}),
    ],
)
def test_rank_batch_context_and_positions_cost_memory(less, more):
    base = {"trainable_layers": "lora"}
    assert training(Experiment(**base, **less)).host_mb < training(Experiment(**base, **more)).host_mb


def test_smaller_micro_batches_need_less():
    row = Experiment(trainable_layers="lora", batch_size=64)
    assert training(row, micro_batch_size=4).host_mb < training(row).host_mb


def test_a_smaller_limit_for_hidden_states_needs_less():
    long = Experiment(context_length="model_context_length")
    assert extraction(long, **{"features": CONFIG.features.model_copy(update={"max_memory_mb": 512})}).host_mb < (
        extraction(long).host_mb
    )


def test_each_retry_doubles_memory_and_time():
    job = training()
    assert [job.mem_mb(attempt) for attempt in (1, 2, 3)] == [job.host_mb * n for n in (1, 2, 4)]
    assert [job.runtime(attempt) for attempt in (1, 2)] == [job.minutes, job.minutes * 2]


def test_features_on_disk_are_as_large_as_the_file():
    # 1,494 texts of 120 positions of 768 numbers.
    texts = np.full(1494, 120)
    assert extraction(lengths=Lengths(texts, texts, texts, texts)).disk_mb == -(-1494 * 120 * 768 * 4 // 2**20) + 1


def test_the_trained_parameters_are_the_reference_s():
    counts = {
        layers: trained_parameters(Experiment(trainable_layers=layers, lora_rank=16), MODELS[SIZES[0]])
        for layers in ("last_layer", "last_block", "all", "lora")
    }
    assert counts == {
        "last_layer": 1_538,
        "last_block": 7_090_946,
        "all": 124_441_346,
        "lora": 12 * 18 * 768 * 16 + 770 * 16 + 1_538,
    }


def test_the_lengths_are_expected_until_the_data_is_tokenized(tmp_path):
    assert not read_lengths(tmp_path / "none").known
    (tmp_path / "empty").touch()
    assert not read_lengths(tmp_path / "empty").known
    write_tokens(tmp_path / "tokens", {"train": 20, "validation": 3, "test": 4})
    found = read_lengths(tmp_path / "tokens")
    assert found.known and (len(found.distinct), len(found.train), found.train.max()) == (27, 20, 120)


def test_threads_leave_every_gpu_its_job_and_one_that_starts_up():
    small = MODELS[SIZES[0]]
    assert job_threads(small, gpu=False) == 16
    assert job_threads(small, gpu=True, cores=8, gpus=4) == 1
    assert job_threads(small, gpu=True, cores=64, gpus=4) == 4
    assert job_threads(small, gpu=True) == 4
    assert job_threads(small.model_copy(update={"n_embd": 32}), gpu=False) == 1


@pytest.mark.parametrize("gpus, cores, jobs", [(1, 2, 2), (1, 8, 4), (1, 16, 8), (1, 64, 8), (4, 8, 5), (8, 64, 15)])
def test_more_jobs_than_gpus_start_up_the_more_cores_there_are(gpus, cores, jobs):
    assert jobs_at_once(gpus, cores) == jobs
    assert job_threads(MODELS[SIZES[0]], gpu=True, cores=cores, gpus=gpus) * jobs <= max(cores, jobs)


@pytest.mark.parametrize(
    "device, local, gpus",
    [("cuda", True, 1), ("cuda", False, 1), ("auto", False, 1), ("cpu", False, 0), ("cpu", True, 0)],
)
def test_jobs_take_a_gpu_where_the_configuration_says_so(device, local, gpus, monkeypatch):
    monkeypatch.chdir(CHECKOUT)
    merged = load_yaml("config/config.yaml") | {"device": device}
    workflow = make_workflow(merged, [], local)
    assert workflow.gpus_per_job() == gpus
    # On a GPU, training holds its state in GPU memory.
    job = workflow.training_resources("9", 4)
    assert job.device_mb > 25_000 and (job.host_mb > 25_000) == (gpus == 0)

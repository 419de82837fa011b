"""Which rows do not fit into a machine's memory, and which options reduce what they need."""

from dataclasses import replace

import pytest

from gpt2_ablations.planning.memory_fit import Machine, memory_shortage
from gpt2_ablations.planning.workflow import Workflow, load_workflow
from gpt2_ablations.settings.experiment import Experiment
from tests.conftest import CHECKOUT, write_yaml

LARGE = Machine(host_mb=64 * 1024, gpu_mb=None, cores=2)
LEAST = {"micro_batch_size": 1, "features": {"max_memory_mb": 64}}


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    """The 19 rows of the reference and one with many positions in the frozen layers alone, on the CPU."""
    override = write_yaml(tmp_path_factory.mktemp("fitting") / "cpu.yaml", {"device": "cpu"})
    loaded = load_workflow([str(CHECKOUT / "config" / "config.yaml"), str(override)])
    loaded.experiments["long"] = Experiment(trainable_layers="last_layer", context_length="model_context_length")
    return loaded


def with_options(workflow: Workflow, **options) -> Workflow:
    return workflow.with_config(type(workflow.config).model_validate(workflow.config.model_dump() | options))


def test_every_row_fits_a_large_machine(workflow):
    assert [row for row in workflow.selected if memory_shortage(workflow, row, LARGE)] == []


def test_the_last_block_of_the_largest_model_fits_a_laptop(workflow):
    assert memory_shortage(workflow, "8", replace(LARGE, host_mb=4 * 1024)) is None


def test_a_row_that_no_option_makes_fit_says_so(workflow):
    said = memory_shortage(workflow, "9", replace(LARGE, host_mb=8 * 1024))
    assert said.startswith("training needs 2") and "this machine has 8.0 GiB" in said
    assert said.endswith("; use a machine with more memory, or a smaller model")


@pytest.mark.parametrize(
    "row, job, option",
    [
        ("10", "training", "micro_batch_size"),
        ("12", "training", "micro_batch_size"),
        ("long", "feature extraction", "features.max_memory_mb"),
    ],
)
def test_the_option_that_is_named_makes_a_row_fit(workflow, row, job, option):
    needed, least = (some.row_resources(row)[job].host_mb for some in (workflow, with_options(workflow, **LEAST)))
    assert least < needed
    said = memory_shortage(workflow, row, replace(LARGE, host_mb=needed - 1))
    assert said.startswith(f"{job} needs ") and said.endswith(f"; set a smaller {option}")
    assert memory_shortage(workflow, row, replace(LARGE, host_mb=least - 1)).endswith("or a smaller model")


def test_a_gpu_that_is_too_small_is_named_and_the_cpu_offered(workflow):
    said = memory_shortage(with_options(workflow, device="cuda"), "9", replace(LARGE, gpu_mb=16 * 1024))
    assert "of GPU memory, the GPU has 16.0 GiB; use a GPU with more memory, device: cpu" in said

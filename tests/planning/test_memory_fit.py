"""Which rows do not fit into a machine's memory, and which options make them fit."""

from dataclasses import replace

import pytest

from gpt2_ablations.planning.memory_fit import Machine, memory_shortage, row_resources, with_options
from gpt2_ablations.planning.workflow import load_workflow
from tests.conftest import CHECKOUT, write_yaml

LARGE = Machine(host_mb=64 * 1024, gpu_mb=None, cores=2)


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    """The 19 rows of the reference, on the CPU."""
    override = write_yaml(tmp_path_factory.mktemp("fitting") / "cpu.yaml", {"device": "cpu"})
    return load_workflow([str(CHECKOUT / "config" / "config.yaml"), str(override)])


def host_mb(workflow, row: str, **options) -> int:
    return max(job.host_mb for job in row_resources(workflow, row, with_options(workflow.config, options)).values())


def test_every_row_fits_a_large_machine(workflow):
    assert [row for row in workflow.selected if memory_shortage(workflow, row, LARGE)] == []


def test_the_last_block_of_the_largest_model_fits_a_laptop(workflow):
    assert memory_shortage(workflow, "8", replace(LARGE, host_mb=4 * 1024)) is None


def test_a_row_that_no_option_makes_fit_says_so(workflow):
    found = memory_shortage(workflow, "9", replace(LARGE, host_mb=8 * 1024))
    assert found.options == {} and str(found).startswith("row 9: training needs ")
    assert "this machine has 8.0 GiB" in str(found) and "no option makes it fit" in str(found)


@pytest.mark.parametrize("row", ["10", "12", "13"])
def test_the_options_that_are_named_make_a_row_fit(workflow, row):
    needed, least = (
        host_mb(workflow, row),
        host_mb(workflow, row, **{"micro_batch_size": 1, "features.max_memory_mb": 64}),
    )
    assert least < needed
    machine = replace(LARGE, host_mb=(needed + least) // 2)
    found = memory_shortage(workflow, row, machine)
    assert found.options and host_mb(workflow, row, **found.options) <= machine.host_mb
    assert all(f"{key}: {value}" in str(found) for key, value in found.options.items())


def test_options_that_keep_the_numbers_are_tried_first(workflow):
    """A smaller micro-batch gives the same numbers; bfloat16 does not."""
    found = memory_shortage(workflow, "10", replace(LARGE, host_mb=host_mb(workflow, "10") - 1))
    assert found.options.keys() == {"micro_batch_size"}


def test_a_gpu_that_is_too_small_is_named_and_the_cpu_offered(workflow):
    on_gpu = workflow.with_config(workflow.config.model_copy(update={"device": "cuda"}))
    found = memory_shortage(on_gpu, "9", replace(LARGE, gpu_mb=16 * 1024))
    assert "of GPU memory, the GPU has 16.0 GiB" in found.reason and found.options["device"] == "cpu"

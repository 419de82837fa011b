"""Which rows a machine has no room for, and what would make them fit."""

from dataclasses import replace

import pytest

from gpt2_ablations.planning.fitting import Machine, _changed, misfit, row_resources
from gpt2_ablations.planning.workflow import load_workflow
from tests.conftest import CHECKOUT, write_yaml

LARGE = Machine(host_mb=64 * 1024, gpu_mb=None, cores=2)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """The 19 rows of the reference, on the CPU."""
    override = write_yaml(tmp_path_factory.mktemp("fitting") / "cpu.yaml", {"device": "cpu"})
    return load_workflow([str(CHECKOUT / "config" / "config.yaml"), str(override)])


def host_mb(plan, row: str, **options) -> int:
    return max(request.host_mb for request in row_resources(plan, row, _changed(plan.config, options)).values())


def test_every_row_fits_a_large_machine(plan):
    assert [row for row in plan.selected if misfit(plan, row, LARGE)] == []


def test_the_last_block_of_the_largest_model_fits_a_laptop(plan):
    assert misfit(plan, "8", replace(LARGE, host_mb=4 * 1024)) is None


def test_a_row_that_no_option_makes_fit_says_so(plan):
    found = misfit(plan, "9", replace(LARGE, host_mb=8 * 1024))
    assert found.options == {} and str(found).startswith("row 9: its training asks for ")
    assert "8.0 GiB are here" in str(found) and "no option makes it fit" in str(found)


@pytest.mark.parametrize("row", ["10", "12", "13"])
def test_the_options_that_are_named_make_a_row_fit(plan, row):
    asked, least = host_mb(plan, row), host_mb(plan, row, **{"micro_batch_size": 1, "features.max_memory_mb": 64})
    assert least < asked
    machine = replace(LARGE, host_mb=(asked + least) // 2)
    found = misfit(plan, row, machine)
    assert found.options and host_mb(plan, row, **found.options) <= machine.host_mb
    assert all(f"{key}: {value}" in str(found) for key, value in found.options.items())


def test_an_option_that_costs_nothing_is_named_before_one_that_changes_numbers(plan):
    """A smaller micro-batch gives the same numbers; bfloat16 does not."""
    found = misfit(plan, "10", replace(LARGE, host_mb=host_mb(plan, "10") - 1))
    assert found.options.keys() == {"micro_batch_size"}


def test_a_gpu_that_is_too_small_is_named_and_the_cpu_offered(plan):
    on_gpu = plan.with_config(plan.config.model_copy(update={"device": "cuda"}))
    found = misfit(on_gpu, "9", replace(LARGE, gpu_mb=16 * 1024))
    assert "of a GPU, which has 16.0 GiB" in found.reason and found.options["device"] == "cpu"

"""The time of a whole invocation, whose jobs share this machine's cores or GPUs."""

import pytest

from gpt2_ablations.planning import plan as plan_module
from gpt2_ablations.planning.machine_speed import START_UP_SECONDS, Overhead, Speed
from gpt2_ablations.planning.plan import Plan, plan_invocation
from gpt2_ablations.planning.resources import jobs_at_once
from gpt2_ablations.planning.workflow import Workflow, make_workflow
from gpt2_ablations.settings.schema.yaml_files import load_yaml
from tests.conftest import CHECKOUT

# Start-ups take more than everything else.
FAST = Speed(flops_per_second=1e16, bytes_per_second=1e14, overhead=Overhead(0.0, 0.0, 0.0))
JOBS = 19 + 11  # training runs and feature files


@pytest.fixture
def planned(monkeypatch, tmp_path):
    """The plan of the whole table on a machine of 16 cores and some GPUs, where nothing has run."""

    def make(gpus: int) -> Plan:
        monkeypatch.setattr(plan_module, "measure_speed", lambda threads, device, precision: FAST)
        monkeypatch.setattr(Workflow, "machine_gpus", lambda self: gpus)
        merged = load_yaml(CHECKOUT / "config" / "config.yaml") | {"results": str(tmp_path), "device": "cpu"}
        monkeypatch.chdir(CHECKOUT)
        return plan_invocation(make_workflow(merged, [], local=True, cores=16))

    return make


@pytest.mark.parametrize("gpus", [1, 2])
def test_on_gpus_start_ups_count_beside_the_computing(planned, gpus):
    plan = planned(gpus)
    all_jobs = sum(row.training_seconds for row in plan.rows) + sum(file.seconds for file in plan.features)
    start_ups = JOBS * START_UP_SECONDS
    assert all_jobs > start_ups > all_jobs / 2
    assert plan.seconds == pytest.approx((all_jobs - start_ups) / gpus + start_ups / jobs_at_once(gpus, 16))


def test_on_the_cpu_jobs_take_all_cores_in_turn(planned):
    plan = planned(0)
    all_jobs = sum(row.training_seconds for row in plan.rows) + sum(file.seconds for file in plan.features)
    assert all(row.threads == 16 for row in plan.rows)
    assert plan.seconds == pytest.approx(all_jobs)

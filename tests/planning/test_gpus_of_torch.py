"""The plan counts the GPUs that the installed torch can use, not those that the driver lists."""

import pytest

from gpt2_ablations.common import gpus
from gpt2_ablations.planning.workflow import count_visible_gpus, load_workflow
from tests.conftest import CHECKOUT


@pytest.mark.parametrize(("backend", "expected"), [("cuda", (1, 1)), (None, (0, 0))])
def test_a_machine_with_a_driver_and_a_torch_for_the_cpu_plans_for_the_cpu(backend, expected, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA L4 (UUID: GPU-0aaaaaaa)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "torch_backend", lambda: backend)
    monkeypatch.chdir(CHECKOUT)
    count_visible_gpus.cache_clear()
    workflow = load_workflow(["config/config.yaml"])
    assert (workflow.machine_gpus(), workflow.gpus_per_job()) == expected
    count_visible_gpus.cache_clear()

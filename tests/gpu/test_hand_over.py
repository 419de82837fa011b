"""Jobs on one GPU: while one computes, the next one starts CUDA, and takes the GPU when it is released."""

import subprocess
import sys

import pytest

from gpt2_ablations.common.gpus import _nvidia_smi, other_processes, visible_gpus
from tests.device import DEVICE
from tests.gpu_jobs import job_environment, send_line

pytestmark = pytest.mark.skipif(
    DEVICE.type != "cuda" or len(visible_gpus()) != 1, reason="needs one GPU: make test-gpu"
)

# Takes the GPU and computes; releases the GPU after a line of input, and ends after another.
JOB = """
import sys, torch
from gpt2_ablations.common.torch_setup import release_device, take_device
device = take_device("auto")
print("took", torch.ones(3, device=device).sum().item(), flush=True)
sys.stdin.readline()
release_device(device)
print("released", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def job(tmp_path):
    """Starts jobs that share a lock folder of their own."""
    started = []

    def start() -> subprocess.Popen:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, "-c", JOB], env=job_environment(tmp_path / "locks"), text=True, **pipes
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_next_job_starts_cuda_while_it_waits_and_takes_the_gpu_before_the_first_job_ends(job):
    if other_processes():
        pytest.skip("another program computes on the GPU")
    first = job()
    assert first.stdout.readline() == "took 3.0\n"
    second = job()
    assert second.stderr.readline() == "waiting for a GPU: GPU 0 is held by another job\n"
    seen = _nvidia_smi("--query-compute-apps=pid", "--format=csv,noheader").split()
    send_line(first)
    assert first.stdout.readline() == "released\n"
    assert second.stdout.readline() == "took 3.0\n"
    assert first.poll() is None
    third = job()
    assert third.stderr.readline() == "waiting for a GPU: GPU 0 is held by another job\n"
    second.kill()
    assert third.stdout.readline() == "took 3.0\n"
    # In a container, nvidia-smi may list no process.
    assert seen == [] or str(first.pid) in seen

"""Jobs on one graphics card: one computes, the next one starts CUDA meanwhile, and gets the card when it is free."""

import subprocess
import sys

import pytest

from gpt2_ablations.cards import LOCK_FOLDER, SHARE_CARDS, users, visible_cards
from tests.conftest import environment
from tests.device import DEVICE

pytestmark = pytest.mark.skipif(
    DEVICE.type != "cuda" or len(visible_cards()) != 1, reason="needs one graphics card: make test-gpu"
)

# Takes the card, computes, and gives it back when told; ends when told again.
JOB = """
import sys, torch
from gpt2_ablations.machine import give_back_device, take_device
device = take_device("auto")
print("took", torch.ones(3, device=device).sum().item(), flush=True)
sys.stdin.readline()
give_back_device(device)
print("gave back", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def job(tmp_path):
    """Starts a job with a lock folder of this test's own."""
    started = []

    def start() -> subprocess.Popen:
        mine = {key: value for key, value in environment().items() if key not in ("CUDA_VISIBLE_DEVICES", SHARE_CARDS)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, "-c", JOB], env=mine | {LOCK_FOLDER: str(tmp_path / "locks")}, text=True, **pipes
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


def test_the_next_job_waits_with_cuda_started_and_gets_the_card_before_the_first_one_ends(job):
    if any(users().values()):
        pytest.skip("someone else computes on the card, or nvidia-smi shows this process's parents")
    first = job()
    assert first.stdout.readline() == "took 3.0\n"
    second = job()
    assert second.stderr.readline() == "waiting for a graphics card: card 0 is held by another job\n"
    seen = [user for of_card in users().values() for user in of_card]
    tell(first)
    assert first.stdout.readline() == "gave back\n"
    assert second.stdout.readline() == "took 3.0\n"
    assert first.poll() is None
    third = job()
    assert third.stderr.readline() == "waiting for a graphics card: card 0 is held by another job\n"
    second.kill()
    assert third.stdout.readline() == "took 3.0\n"
    assert seen == [] or any(str(first.pid) in user for user in seen)

"""AdamW: the numbers of PyTorch's own class, without its imports."""

import subprocess
import sys

import pytest
import torch
from transformers import get_scheduler

from gpt2_ablations.finetuning.adamw import AdamW, learning_rate_factor
from gpt2_ablations.settings.experiment import Experiment
from tests.conftest import environment

TRAINS = """
import sys
from tests.finetuning.test_checkpoints import finetuning
finetuning().train()
print("torch._dynamo" in sys.modules)
"""


def test_it_computes_what_pytorch_s_class_computes_a_parameter_without_gradient_decaying():
    generator = torch.Generator().manual_seed(0)
    start = {name: torch.randn(5, 3, generator=generator) for name in ("used", "unused")}
    ours, theirs = ({name: p.clone().requires_grad_() for name, p in start.items()} for _ in range(2))
    optimizer = AdamW(ours, Experiment())
    reference = torch.optim.AdamW(theirs.values(), lr=5e-5, weight_decay=0.1, foreach=False, fused=False)
    for _ in range(20):
        ours["used"].grad = torch.randn(5, 3, generator=generator)
        theirs["used"].grad = ours["used"].grad.clone()
        theirs["unused"].grad = torch.zeros(5, 3)
        optimizer.step()
        reference.step()
        assert all(p.grad is None for p in ours.values())
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter, theirs[name], rtol=0, atol=1e-7)
        assert not torch.equal(parameter, start[name])
        for key, tensor in optimizer.state[name].items():
            torch.testing.assert_close(tensor, reference.state[theirs[name]][key])


@pytest.mark.parametrize(
    ("schedule", "theirs"), [("constant", "constant_with_warmup"), ("linear",) * 2, ("cosine",) * 2]
)
@pytest.mark.parametrize("warm_up", [0, 1, 7, 30, 50])
def test_schedules_are_those_of_transformers(schedule, theirs, warm_up):
    n_updates, rate = 30, 3e-4
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = get_scheduler(theirs, optimizer, num_warmup_steps=warm_up, num_training_steps=n_updates)
    experiment = Experiment(lr_schedule=schedule, warmup_steps=warm_up, learning_rate=rate)
    for update in range(n_updates):
        expected = optimizer.param_groups[0]["lr"]
        assert rate * learning_rate_factor(experiment, update, n_updates) == pytest.approx(expected, rel=1e-12, abs=0)
        optimizer.step()
        scheduler.step()


def test_training_does_not_import_torch_compile():
    # The import would take a second in each job, as long as that of torch.
    done = subprocess.run([sys.executable, "-c", TRAINS], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"

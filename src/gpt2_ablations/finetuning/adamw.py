"""AdamW and the schedule of its learning rate.

AdamW: Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, 2019.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from ..settings.experiment import Experiment

# PyTorch's defaults.
BETAS, EPSILON = (0.9, 0.999), 1e-8


class AdamW:
    """AdamW over some parameters, fused where PyTorch supports that.

    It calls the function that PyTorch's own class calls. The class imports all of torch.compile when it is first used,
    which takes as long as importing torch.

    Args:
        parameters: by name.
        experiment: states the learning rate, the weight decay and the largest norm of the gradients.

    Attributes:
        state: by parameter name, the moments `exp_avg` and `exp_avg_sq`, of the parameter's shape, and `step`, the
            updates so far, float32 [].
    """

    def __init__(self, parameters: Mapping[str, Tensor], experiment: Experiment):
        self.parameters, self.experiment = parameters, experiment
        self._learning_rate: float | Tensor = experiment.learning_rate
        device = next(iter(parameters.values())).device
        if has_schedule(experiment) and device.type == "cuda":
            # A CUDA graph that has recorded the update reads the rate from the device.
            self._learning_rate = torch.tensor(experiment.learning_rate, device=device, dtype=torch.float32)
        self.state = {name: self._initial_state(parameter) for name, parameter in parameters.items()}

    @staticmethod
    def _initial_state(parameter: Tensor) -> dict[str, Tensor]:
        step = torch.zeros((), dtype=torch.float32, device=parameter.device if _fused(parameter) else "cpu")
        return {"step": step, "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}

    def scale_learning_rate(self, factor: float) -> None:
        """Use the learning rate times `factor` in the updates that follow."""
        learning_rate = self.experiment.learning_rate * factor
        if isinstance(self._learning_rate, Tensor):
            self._learning_rate.fill_(learning_rate)
        else:
            self._learning_rate = learning_rate

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter by its gradient, zero if it has none, and free the gradients."""
        parameters, states = list(self.parameters.values()), list(self.state.values())
        if self.experiment.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.experiment.max_grad_norm)
        # PyTorch skips a parameter without a gradient; the reference decays it.
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        adamw(
            parameters,
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=_fused(parameters[0]),
            foreach=False,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self._learning_rate,
            weight_decay=self.experiment.weight_decay,
            eps=EPSILON,
            maximize=False,
        )
        self.zero_grad()

    def zero_grad(self) -> None:
        """Free the gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None


def has_schedule(experiment: Experiment) -> bool:
    """Whether the learning rate changes from update to update."""
    return experiment.lr_schedule != "constant" or experiment.warmup_steps > 0


def learning_rate_factor(experiment: Experiment, update: int, n_updates: int) -> float:
    """The factor on the learning rate of one update: a linear warm-up from 0, then the schedule.

    As `get_scheduler` of transformers, with the schedules `constant_with_warmup`, `linear` and `cosine`.

    Args:
        update: from 0.
        n_updates: of the whole run.
    """
    warm_up = experiment.warmup_steps
    if update < warm_up:
        return update / warm_up
    n_scheduled = max(1, n_updates - warm_up)
    if experiment.lr_schedule == "linear":
        return max(0.0, (n_updates - update) / n_scheduled)
    if experiment.lr_schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (update - warm_up) / n_scheduled))
    return 1.0


def _fused(parameter: Tensor) -> bool:
    return parameter.device.type in ("cpu", "cuda")

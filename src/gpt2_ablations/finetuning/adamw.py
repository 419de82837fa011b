"""AdamW with the reference's settings."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adamw import adamw

LEARNING_RATE = 5e-5
WEIGHT_DECAY = 0.1
# PyTorch's defaults.
BETAS, EPSILON = (0.9, 0.999), 1e-8


class AdamW:
    """AdamW over some parameters, by name, fused where PyTorch has that.

    PyTorch's own class does the same with the same function, but imports all of torch.compile when it is first used,
    which takes as long as importing torch.

    Attributes:
        state: by parameter, its moments exp_avg and exp_avg_sq, of its shape, and step, the updates so far, float32 [].
    """

    def __init__(self, parameters: Mapping[str, Tensor]):
        self.parameters = parameters
        self.state = {name: self._initial_state(parameter) for name, parameter in parameters.items()}

    @staticmethod
    def _initial_state(parameter: Tensor) -> dict[str, Tensor]:
        step = torch.zeros((), dtype=torch.float32, device=parameter.device if _fused(parameter) else "cpu")
        return {"step": step, "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter by its gradient, zero if it has none, and let the gradients go."""
        parameters, states = list(self.parameters.values()), list(self.state.values())
        # A parameter without a gradient would be passed over; the reference decays it.
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
            lr=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            eps=EPSILON,
            maximize=False,
        )
        self.zero_grad()

    def zero_grad(self) -> None:
        """Let the gradients go."""
        for parameter in self.parameters.values():
            parameter.grad = None


def _fused(parameter: Tensor) -> bool:
    return parameter.device.type in ("cpu", "cuda")

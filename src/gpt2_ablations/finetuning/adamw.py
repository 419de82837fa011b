"""AdamW with the reference's settings (Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, 2019)."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adamw import adamw

LEARNING_RATE = 5e-5
WEIGHT_DECAY = 0.1
# PyTorch's defaults.
BETAS, EPSILON = (0.9, 0.999), 1e-8


class AdamW:
    """AdamW over some parameters, fused where PyTorch supports that.

    It calls the function that PyTorch's own class calls. The class imports all of torch.compile when it is first used,
    which takes as long as importing torch.

    Attributes:
        state: by parameter name, the moments `exp_avg` and `exp_avg_sq`, of the parameter's shape, and `step`, the
            updates so far, float32 [].
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
        """Update every parameter by its gradient, zero if it has none, and free the gradients."""
        parameters, states = list(self.parameters.values()), list(self.state.values())
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
            lr=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            eps=EPSILON,
            maximize=False,
        )
        self.zero_grad()

    def zero_grad(self) -> None:
        """Free the gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None


def _fused(parameter: Tensor) -> bool:
    return parameter.device.type in ("cpu", "cuda")

"""Adam and AdamW for parameters of which a part is younger than the rest.

Adam divides its moments by 1 - beta^t, t being the steps since they were zero. Where a tensor has grown, its new
entries begin with zero moments and t = 0, while the others go on: their first moves are then the learning rate, as
in a tensor of their own, and not up to three times as large.
"""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

__all__ = ["Adam"]


@final
class Adam(torch.optim.Adam):
    """torch's Adam, except where the state "step" of a parameter has the parameter's shape: a count for each entry."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient."""
        grown = [
            (parameter, parameter.grad, group)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and _ages(self.state.get(parameter, {})) is not None
        ]
        for parameter, _, _ in grown:
            parameter.grad = None  # torch passes over it
        loss = super().step(closure)
        for parameter, gradient, group in grown:
            parameter.grad = gradient
            _move(parameter, gradient, self.state[parameter], group)
        return loss


def _ages(state: dict[str, Any]) -> Tensor | None:
    """The steps of each entry; None where all have the same."""
    step = state.get("step")
    return step if isinstance(step, Tensor) and step.ndim else None


def _move(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """One step of Adam with the count of each entry."""
    rate, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
    if decay and group["decoupled_weight_decay"]:
        parameter.mul_(1 - rate * decay)
    elif decay:
        gradient = gradient.add(parameter, alpha=decay)
    state["step"] = state["step"].to(parameter.device) + 1
    steps = state["step"].double()
    first = state["exp_avg"].lerp_(gradient, 1 - beta1)
    second = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    bias1, bias2 = (1 - beta1**steps).to(parameter), (1 - beta2**steps).sqrt().to(parameter)
    parameter.addcdiv_(first / bias1, second.sqrt().div_(bias2).add_(group["eps"]), value=-rate)

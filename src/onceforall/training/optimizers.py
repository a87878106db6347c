"""The optimiser of a phase: parameter groups, learning rate, clipping and the scaling that fp16 needs."""

import math
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from onceforall.layers.elastic import ElasticBatchNorm
from onceforall.layers.kernels import TransformMatrices
from onceforall.supernets.supernet import Supernet
from onceforall.training.adam import Adam
from onceforall.training.growing import placed_by_growth
from onceforall.training.phases import Phase

__all__ = ["PhaseOptimizer", "learning_rate_factor"]


def learning_rate_factor(phase: Phase, epochs_done: float) -> float:
    """Factor of `phase.learning_rate` when this many epochs (a fraction counts) of the phase are done.

    1. In the warm-up it rises linearly from `warmup_start` to 1. 2. After it, "cosine" falls as
    (1 + cos(pi * t)) / 2 with t from 0 to 1; "constant" stays 1.
    """
    if epochs_done < phase.warmup_epochs:
        return phase.warmup_start + (1 - phase.warmup_start) * epochs_done / phase.warmup_epochs
    if phase.decay == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (epochs_done - phase.warmup_epochs) / max(1, phase.epochs))) / 2


@final
class PhaseOptimizer:
    """Moves the parameters of a network as a phase says.

    Weights decay; biases and normalisation do not (by type, not by name). `parameters` lists all that may move.
    """

    def __init__(self, supernet: Supernet, phase: Phase, scaled: bool) -> None:
        self.phase, self.supernet = phase, supernet
        matrices = [p for m in supernet.modules() if isinstance(m, TransformMatrices) for p in m.parameters()]
        for matrix in matrices:
            matrix.requires_grad_(phase.kernel_matrices != "frozen")
        exempt = {id(matrix) for matrix in matrices} if phase.kernel_matrices != "decay" else set()
        norms = {id(p) for m in supernet.modules() if isinstance(m, ElasticBatchNorm) for p in m.parameters()}
        self.parameters = [p for p in supernet.parameters() if p.requires_grad]
        plain = {id(p) for p in self.parameters if p.ndim < 2} | norms | exempt
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters if id(p) not in plain], "weight_decay": phase.weight_decay},
            {"params": [p for p in self.parameters if id(p) in plain], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        self.optimizer = _build(phase, groups)
        names = {id(p): name for name, p in supernet.named_parameters()}
        self.names = [names[id(p)] for group in groups for p in group["params"]]  # in the optimiser's own order
        to_identity = phase.kernel_matrices == "decay_to_identity"
        self.identities = [(m, torch.eye(len(m)).to(m)) for m in matrices] if to_identity else []
        device = self.parameters[0].device.type
        self.scaler = torch.amp.GradScaler(device, enabled=scaled)

    def begin_step(self, epochs_done: float) -> None:
        """Forget the gradients and set the learning rate."""
        self.optimizer.zero_grad(set_to_none=True)
        rate = self.phase.learning_rate * learning_rate_factor(self.phase, epochs_done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss from which gradients are taken."""
        return self.scaler.scale(loss)

    def step(self) -> bool:
        """Move the parameters that have a gradient; all others stay as they are, their momentum too.

        Returns False, and nothing moves, where the gradient is not finite; fp16 leaves out such a step as a matter of
        course and scales less from then on.
        """
        self.scaler.unscale_(self.optimizer)
        for matrix, identity in self.identities:
            if matrix.grad is not None:
                matrix.grad.add_(matrix.detach() - identity, alpha=self.phase.weight_decay)
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if not self.scaler.is_enabled() and not norm.isfinite():
            return False
        if self.phase.clip_gradient is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, self.phase.clip_gradient, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return True

    def state(self) -> dict[str, Any]:
        """All that `load` needs; moments go by the names of their parameters."""
        moments = self.optimizer.state_dict()["state"]
        return {
            "moments": {name: moments[i] for i, name in enumerate(self.names) if i in moments},
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state, also one of another phase: hyper-parameters stay those of this one."""
        moments = {i: state["moments"][name] for i, name in enumerate(self.names) if name in state["moments"]}
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        self.scaler.load_state_dict(state["scaler"])

    def moments_of(self, parameter: Tensor) -> list[Tensor]:
        """What it keeps for each entry of a parameter; to be reordered where the parameter's channels are."""
        values = self.optimizer.state.get(parameter, {}).values()
        return [value for value in values if isinstance(value, Tensor) and value.shape == parameter.shape]

    def state_bytes(self) -> int:
        """Bytes of what the optimiser has kept so far: nothing for parameters that never had a gradient."""
        values = [value for state in self.optimizer.state.values() for value in state.values()]
        return sum(value.nbytes for value in values if isinstance(value, Tensor))

    def carry_on(self, previous: "PhaseOptimizer") -> None:
        """Go on with the state of the previous phase's optimiser, whose network may have been smaller.

        What was there keeps its moments and its number of steps; what is new begins with zero moments and steps.
        """
        state = previous.state()
        if previous.supernet is not self.supernet:
            state["moments"] = _grown(state["moments"], previous.supernet, self.supernet)
        self.load(state)


def _grown(
    moments: Mapping[str, Mapping[str, Tensor]], before: Supernet, after: Supernet
) -> dict[str, dict[str, Tensor]]:
    """The state of the parameters of `before`, placed in those of `after`; what is all new has none."""
    kinds = sorted({kind for state in moments.values() for kind in state})
    placed = {
        kind: placed_by_growth({name: state[kind] for name, state in moments.items() if kind in state}, before, after)
        for kind in kinds
    }
    out = {}
    for name, parameter in after.named_parameters():
        state = {kind: values[name].to(parameter.device) for kind, values in placed.items()}
        if "step" in state:
            steps = state["step"].float().cpu()
            same = bool((steps == steps.flatten()[0]).all())
            state["step"] = steps.flatten()[0].clone() if same else steps
        if any(bool(values.any()) for values in state.values()):
            out[name] = state
    return out


def _build(phase: Phase, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    if phase.optimizer == "sgd":
        nesterov = phase.nesterov and phase.momentum > 0
        return torch.optim.SGD(groups, phase.learning_rate, phase.momentum, nesterov=nesterov)
    betas = (phase.momentum, phase.beta2)
    return Adam(groups, phase.learning_rate, betas, decoupled_weight_decay=phase.optimizer == "adamw")

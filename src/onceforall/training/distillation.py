"""The loss of one sub-network: against labels, and against soft targets where a teacher gives them."""

from torch import Tensor

from onceforall.evaluation.exits import combine_exits
from onceforall.evaluation.tasks import Task
from onceforall.supernets.supernet import Outputs
from onceforall.training.phases import Phase

__all__ = ["objective"]


def objective(outputs: Outputs, labels: Tensor, soft_targets: Tensor | None, task: Task, phase: Phase) -> Tensor:
    """The loss of a sub-network on one micro-batch.

    Without soft targets it is the task's loss; with them
    `task_weight * loss + distillation_weight * distance(outputs, soft targets)`. Several exits are weighted by
    `phase.exit_loss_weights` and share one soft target.
    """
    exits = (outputs,) if isinstance(outputs, Tensor) else outputs

    def loss(output: Tensor) -> Tensor:
        if soft_targets is None:
            return task.loss(output, labels)
        distance = phase.distillation_weight * task.distance(output, soft_targets)
        return distance if phase.task_weight == 0 else phase.task_weight * task.loss(output, labels) + distance

    return combine_exits(tuple(loss(output) for output in exits), phase.exit_loss_weights if len(exits) > 1 else None)

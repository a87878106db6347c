"""A task is a value: how outputs are compared with labels and with a teacher, and how they are judged."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onceforall.architecture import Resolution
from onceforall.errors import UserError, check_choice
from onceforall.evaluation.metrics import classification_metrics
from onceforall.supernets.supernet import Outputs

__all__ = ["DISTANCES", "Batches", "Task", "classification"]

Batches = Iterable[tuple[np.ndarray, np.ndarray]]
"""Of each batch the probabilities (n, outputs, ...) and the targets (n, ...)."""


def call_network(network: nn.Module, images: Tensor, resolution: Resolution) -> Outputs:
    """What `network` answers to `images`, in one pass."""
    return network(images)


def window_of(resolution: Resolution, axes: int) -> tuple[int, ...]:
    """The size of `resolution` along each of so many axes."""
    return (resolution,) * axes if isinstance(resolution, int) else tuple(resolution)


@final
@dataclass(frozen=True)
class Task:
    """What the loop, the evaluation and the export need to know of a task.

    Args:
        name: for reports.
        loss: (outputs, targets) to a mean over the batch.
        distance: (student's outputs, teacher's outputs), both before `to_probabilities`, to a mean over the batch.
        to_probabilities: outputs to probabilities.
        measure: batches of (probabilities, targets) to numbers by name.
        metric: the name of the number by which networks are chosen.
        higher_is_better: whether a larger metric is the better one.
        per_image: (probabilities, targets) of a batch to one score for each image, for comparisons image by image; NaN
            for an image that it does not judge. The mean of the others is the metric.
        infer: (sub-network, images, its resolution) to its outputs in evaluation; by default one pass.
        shown: numbers of `measure` that a short table shows, `metric` first.
        keeps_probabilities: whether an evaluation may keep the probabilities of a whole split; maps are too large.
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    distance: Callable[[Tensor, Tensor], Tensor]
    to_probabilities: Callable[[Tensor], Tensor]
    measure: Callable[[Batches], dict[str, float]]
    metric: str
    shown: tuple[str, ...]
    higher_is_better: bool = True
    per_image: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    infer: Callable[[nn.Module, Tensor, Resolution], Outputs] = call_network
    keeps_probabilities: bool = True


def soft_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over the batch of -sum softmax(teacher) * log softmax(student) (Once-for-All's distillation)."""
    return F.cross_entropy(student, teacher.softmax(1))


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"soft_targets": soft_cross_entropy, "mse": F.mse_loss}
"""Distances between a student's and a teacher's outputs: cross-entropy with soft targets, or squared difference."""


def classification(
    *,
    label_smoothing: float = 0.1,
    class_weights: Sequence[float] | None = None,
    distance: str = "soft_targets",
    temperature: float = 1.0,
) -> Task:
    """Classification by cross-entropy.

    Args:
        label_smoothing: part of the target that is spread evenly over all classes; only in training.
        class_weights: a factor for each class, or None for equal ones.
        distance: a name of `DISTANCES`.
        temperature: both outputs are divided by it before the distance, which is multiplied by its square.
    """
    check_choice("distance", distance, DISTANCES)
    if not 0 <= label_smoothing < 1:
        raise UserError(f"label_smoothing {label_smoothing!r}: must be at least 0 and below 1.")
    if temperature <= 0:
        raise UserError(f"temperature {temperature!r}: must be positive.")
    weights = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float64)
    if weights is not None and not (len(weights) and bool(((weights >= 0) & weights.isfinite()).all())):
        raise UserError(f"class_weights {class_weights!r}: must be numbers of 0 or more, one for each class.")

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if weights is not None and len(weights) != outputs.shape[1]:
            raise UserError(f"class_weights: got {len(weights)} for {outputs.shape[1]} classes.")
        own = None if weights is None else weights.to(outputs)
        return F.cross_entropy(outputs, targets, own, label_smoothing=label_smoothing)

    def compare(student: Tensor, teacher: Tensor) -> Tensor:
        return temperature**2 * DISTANCES[distance](student / temperature, teacher / temperature)

    def probabilities(outputs: Tensor) -> Tensor:
        return outputs.softmax(1)

    shown = ("accuracy", "log_loss")
    return Task(
        "classification", loss, compare, probabilities, _measure_classification, "accuracy", shown, per_image=_is_right
    )


def _measure_classification(batches: Batches) -> dict[str, float]:
    probabilities, labels = zip(*batches, strict=True)
    return classification_metrics(np.concatenate(probabilities), np.concatenate(labels))


def _is_right(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return probabilities.argmax(1) == labels

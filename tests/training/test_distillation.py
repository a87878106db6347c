"""The objective of a sub-network, against the same formulas in numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from onceforall.errors import UserError
from onceforall.evaluation.tasks import classification
from onceforall.training.distillation import objective
from tiny_runs import one_phase, small_supernet

PHASE = one_phase(small_supernet().space)
GENERATOR = torch.Generator().manual_seed(0)
OUTPUTS, TARGETS = (2 * torch.randn(5, 3, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
LABELS = torch.tensor([0, 2, 1, 1, 0])


def log_softmax(x):
    x = np.asarray(x)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def smoothed_cross_entropy(outputs, labels, smoothing=0.1):
    wanted = (1 - smoothing) * np.eye(3)[labels] + smoothing / 3
    return -(wanted * log_softmax(outputs)).sum(1).mean()


def soft_cross_entropy(outputs, teacher):
    return -(np.exp(log_softmax(teacher)) * log_softmax(outputs)).sum(1).mean()


HARD = smoothed_cross_entropy(OUTPUTS, LABELS)
SOFT = soft_cross_entropy(OUTPUTS, TARGETS)


@pytest.mark.parametrize(
    ("soft", "fields", "expected"),
    [
        (False, {}, HARD),
        (False, {"task_weight": 0.0, "distillation_weight": 3.0}, HARD),  # weights are for what a teacher teaches
        (True, {}, HARD + SOFT),
        (True, {"task_weight": 0.3, "distillation_weight": 2.0}, 0.3 * HARD + 2 * SOFT),
        (True, {"task_weight": 0.0}, SOFT),
        (True, {"distillation_weight": 0.0}, HARD),
    ],
)
def test_objective(soft, fields, expected):
    phase = replace(PHASE, **fields)
    loss = objective(OUTPUTS, LABELS, TARGETS if soft else None, classification(label_smoothing=0.1), phase)
    assert float(loss) == pytest.approx(expected, rel=1e-12)


def test_distances_and_temperature():
    squared = objective(OUTPUTS, LABELS, TARGETS, classification(distance="mse"), replace(PHASE, task_weight=0))
    assert float(squared) == pytest.approx(float(((OUTPUTS - TARGETS) ** 2).mean()), rel=1e-12)
    warm = objective(OUTPUTS, LABELS, TARGETS, classification(temperature=4), replace(PHASE, task_weight=0))
    assert float(warm) == pytest.approx(16 * soft_cross_entropy(OUTPUTS / 4, TARGETS / 4), rel=1e-12)


def test_no_gradient_reaches_the_labels_when_they_have_no_weight():
    """A task loss that is not defined does no harm where it does not count."""

    def undefined(*_):
        raise AssertionError("was asked")

    task = replace(classification(), loss=undefined)
    objective(OUTPUTS, LABELS, TARGETS, task, replace(PHASE, task_weight=0))


def test_several_exits_share_one_target():
    exits = (OUTPUTS, 0.5 * OUTPUTS, -OUTPUTS)
    single = [HARD, smoothed_cross_entropy(exits[1], LABELS), smoothed_cross_entropy(exits[2], LABELS)]
    soft = [soft_cross_entropy(output, TARGETS) for output in exits]
    task = classification()
    assert float(objective(exits, LABELS, None, task, PHASE)) == pytest.approx(np.mean(single))
    weighted = replace(PHASE, exit_loss_weights=(1.0, 0.5, 2.0), task_weight=0.1)
    expected = sum(w * (0.1 * h + s) for w, h, s in zip((1, 0.5, 2), single, soft, strict=True))
    assert float(objective(exits, LABELS, TARGETS, task, weighted)) == pytest.approx(expected)
    assert float(objective(OUTPUTS, LABELS, None, task, weighted)) == pytest.approx(HARD)  # one exit needs no weights
    with pytest.raises(UserError, match="3 exits"):
        objective(exits, LABELS, None, task, replace(PHASE, exit_loss_weights=(1.0, 1.0)))

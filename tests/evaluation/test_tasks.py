"""Losses, distances and metrics of tasks against numpy."""

import numpy as np
import pytest
import torch

from onceforall.errors import UserError
from onceforall.evaluation.tasks import DISTANCES, classification, soft_cross_entropy, window_of

RNG = np.random.default_rng(0)
LOGITS, TEACHER = RNG.normal(size=(6, 4)) * 2, RNG.normal(size=(6, 4)) * 2
LABELS = np.array([0, 3, 1, 1, 2, 0])


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def t(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_with_label_smoothing(smoothing):
    """-sum_c q_c log p_c with q = (1 - s) one-hot + s / classes, mean over the batch (ofa_spec: uniform over all)."""
    targets = (1 - smoothing) * np.eye(4)[LABELS] + smoothing / 4
    expected = -(targets * log_softmax(LOGITS)).sum(1).mean()
    loss = classification(label_smoothing=smoothing).loss(t(LOGITS), t(LABELS))
    assert float(loss) == pytest.approx(expected, abs=1e-12)


def test_class_weights():
    """The mean over the batch, each image weighted by its class."""
    weights = np.array([0.5, 2.0, 1.0, 0.25])
    own = weights[LABELS]
    expected = -(own * log_softmax(LOGITS)[range(6), LABELS]).sum() / own.sum()
    task = classification(label_smoothing=0, class_weights=weights)
    assert float(task.loss(t(LOGITS), t(LABELS))) == pytest.approx(expected, abs=1e-12)
    assert task.loss(t(LOGITS).float(), t(LABELS)).dtype == torch.float32
    even = classification(label_smoothing=0, class_weights=[3] * 4).loss(t(LOGITS), t(LABELS))
    assert float(even) == pytest.approx(float(classification(label_smoothing=0).loss(t(LOGITS), t(LABELS))), abs=1e-12)
    with pytest.raises(UserError, match="class_weights: got 3 for 4 classes"):
        classification(class_weights=(1, 2, 3)).loss(t(LOGITS), t(LABELS))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_targets(temperature):
    """T^2 times the mean over the batch of -sum softmax(teacher / T) log softmax(student / T)."""
    soft = np.exp(log_softmax(TEACHER / temperature))
    expected = -(soft * log_softmax(LOGITS / temperature)).sum(1).mean() * temperature**2
    task = classification(temperature=temperature)
    assert float(task.distance(t(LOGITS), t(TEACHER))) == pytest.approx(expected, abs=1e-12)
    if temperature == 1:
        assert float(soft_cross_entropy(t(LOGITS), t(TEACHER))) == pytest.approx(expected, abs=1e-12)


def test_soft_targets_are_smallest_at_the_teacher_and_pull_to_it():
    student = t(LOGITS).requires_grad_()
    soft_cross_entropy(student, t(TEACHER)).backward()
    difference = np.exp(log_softmax(LOGITS)) - np.exp(log_softmax(TEACHER))
    np.testing.assert_allclose(student.grad.numpy(), difference / 6, atol=1e-12)
    entropy = soft_cross_entropy(t(TEACHER), t(TEACHER))
    assert float(entropy) < float(soft_cross_entropy(t(LOGITS), t(TEACHER)))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_squared_difference(temperature):
    task = classification(distance="mse", temperature=temperature)
    expected = ((LOGITS - TEACHER) ** 2).mean()
    assert float(task.distance(t(LOGITS), t(TEACHER))) == pytest.approx(expected, abs=1e-12)
    assert set(DISTANCES) == {"soft_targets", "mse"}


def test_images_are_answered_in_one_pass_and_probabilities_kept():
    task, images = classification(), torch.zeros(2, 1, 4, 4)
    assert task.infer(torch.nn.Identity(), images, 4) is images and task.keeps_probabilities


def test_a_resolution_along_each_axis():
    assert (window_of(16, 2), window_of(16, 3), window_of((4, 6, 5), 3)) == ((16, 16), (16, 16, 16), (4, 6, 5))


def test_probabilities_and_metric():
    task = classification()
    probabilities = task.to_probabilities(t(LOGITS)).numpy()
    np.testing.assert_allclose(probabilities, np.exp(log_softmax(LOGITS)), atol=1e-12)
    assert (task.name, task.metric, task.higher_is_better) == ("classification", "accuracy", True)
    whole = task.measure([(probabilities, LABELS)])
    parts = task.measure((probabilities[i : i + 2], LABELS[i : i + 2]) for i in range(0, 6, 2))
    assert whole == parts
    assert whole["accuracy"] == (LOGITS.argmax(1) == LABELS).mean()
    assert whole["log_loss"] == pytest.approx(-log_softmax(LOGITS)[range(6), LABELS].mean())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label_smoothing": -0.1}, "label_smoothing -0.1"),
        ({"temperature": -1}, "temperature -1"),
        ({"distance": "MSE"}, "Did you mean 'mse'"),
        ({"class_weights": ()}, "class_weights"),
        ({"class_weights": (1, float("nan"))}, "class_weights"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(UserError, match=words):
        classification(**options)

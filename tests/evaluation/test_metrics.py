"""Oracles: a table worked out by hand, scikit-learn, published Wilson values, scipy, brute force."""

import itertools
import math
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from onceforall.errors import UserError
from onceforall.evaluation.metrics import (
    classification_metrics,
    confusion_matrix,
    mean_interval,
    paired_bootstrap,
    per_class_auc,
    per_class_sensitivity,
    per_class_specificity,
    wilson_interval,
)

# truth 0: 3 right, 1 taken for 1; truth 1: 2 right, 2 taken for 0; truth 2: 1 right, 1 taken for 0
LABELS = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
PREDICTIONS = [0, 0, 0, 1, 1, 1, 0, 0, 2, 0]


def one_hot(predictions: list[int], classes: int, sure: float = 0.7) -> np.ndarray:
    return np.where(np.eye(classes)[predictions] == 1, sure, (1 - sure) / (classes - 1))


def random_case(seed: int, classes: int, samples: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(samples) % classes)
    logits = rng.normal(size=(samples, classes)) + 1.2 * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities, labels


def test_hand_made_table() -> None:
    matrix = confusion_matrix(LABELS, PREDICTIONS, 3)
    assert matrix.tolist() == [[3, 1, 0], [2, 2, 0], [1, 0, 1]]  # row = truth
    assert per_class_sensitivity(matrix).tolist() == [3 / 4, 2 / 4, 1 / 2]
    assert per_class_specificity(matrix).tolist() == [3 / 6, 5 / 6, 8 / 8]
    got = classification_metrics(one_hot(PREDICTIONS, 3), LABELS)
    assert got["accuracy"] == pytest.approx(6 / 10)
    assert got["macro_f1"] == pytest.approx((6 / 10 + 4 / 7 + 2 / 3) / 3)
    assert got["sensitivity"] == pytest.approx((3 / 4 + 1 / 2 + 1 / 2) / 3)
    assert got["specificity"] == pytest.approx((1 / 2 + 5 / 6 + 1) / 3)
    assert got["log_loss"] == pytest.approx(-(6 * math.log(0.7) + 4 * math.log(0.15)) / 10)


@pytest.mark.parametrize(("seed", "classes"), [(0, 2), (1, 3), (2, 7)])
def test_agrees_with_scikit_learn(seed: int, classes: int) -> None:
    probabilities, labels = random_case(seed, classes)
    predictions = probabilities.argmax(axis=1)
    got = classification_metrics(probabilities, labels)
    scores = probabilities[:, 1] if classes == 2 else probabilities
    assert 0.3 < got["accuracy"] < 0.97  # else the comparison below shows little
    assert got["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predictions))
    assert got["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(labels, predictions, average="macro"))
    assert got["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores, multi_class="ovr"))
    assert got["sensitivity"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(labels, predictions))
    negatives_right = [
        sklearn_metrics.recall_score(labels == c, predictions == c, pos_label=False) for c in range(classes)
    ]
    assert got["specificity"] == pytest.approx(np.mean(negatives_right))
    assert got["log_loss"] == pytest.approx(sklearn_metrics.log_loss(labels, probabilities))
    np.testing.assert_array_equal(
        confusion_matrix(labels, predictions, classes), sklearn_metrics.confusion_matrix(labels, predictions)
    )


def test_auc_is_the_chance_to_rank_a_pair_right_and_ties_count_half() -> None:
    probabilities, labels = random_case(5, 3, samples=30)
    probabilities = np.round(probabilities, 1)
    probabilities[:, 2] = 1 - probabilities[:, 0] - probabilities[:, 1]
    probabilities = np.clip(probabilities, 0, 1)
    ties = 0
    for label in range(3):
        pairs = list(itertools.product(probabilities[labels == label, label], probabilities[labels != label, label]))
        ties += sum(a == b for a, b in pairs)
        chance = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
        assert per_class_auc(probabilities, labels)[label] == pytest.approx(chance)
    assert ties > 10


def test_two_classes_have_one_macro_number_and_a_clinical_pair() -> None:
    labels, predictions = [1] * 10 + [0] * 90, [1] * 8 + [0] * 2 + [1] * 9 + [0] * 81
    matrix = confusion_matrix(labels, predictions, 2)
    assert (per_class_sensitivity(matrix)[1], per_class_specificity(matrix)[1]) == (0.8, 0.9)
    got = classification_metrics(one_hot(predictions, 2), labels)
    assert got["sensitivity"] == got["specificity"] == pytest.approx(0.85)


def test_absent_class_changes_nothing() -> None:
    """A class without a sample, given no probability, leaves every number what it is without that class."""
    probabilities, labels = random_case(3, 3)
    wider = np.insert(probabilities, 1, 0.0, axis=1)
    moved = np.where(labels >= 1, labels + 1, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = classification_metrics(wider, moved)
    assert got == pytest.approx(classification_metrics(probabilities, labels))
    matrix = confusion_matrix(moved, wider.argmax(axis=1), 4)
    assert np.isnan(per_class_sensitivity(matrix)).tolist() == [False, True, False, False]
    assert np.isnan(per_class_auc(wider, moved)).tolist() == [False, True, False, False]


def test_absent_class_that_is_predicted_lowers_the_others_but_is_no_mean_of_its_own() -> None:
    got = classification_metrics(one_hot([0, 2, 1, 1], 3), [0, 0, 1, 1])  # class 2 is absent, once predicted
    assert got["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert got["sensitivity"] == pytest.approx((1 / 2 + 1) / 2)
    assert got["specificity"] == 1.0


def test_one_class_alone_leaves_auc_and_specificity_unknown() -> None:
    got = classification_metrics(one_hot([0, 1, 0], 2), [0, 0, 0])
    assert math.isnan(got["auc"])
    assert math.isnan(got["specificity"])
    assert got["accuracy"] == got["sensitivity"] == pytest.approx(2 / 3)


def test_log_loss_of_a_sure_and_wrong_answer_is_finite() -> None:
    got = classification_metrics(np.array([[1.0, 0.0], [1.0, 0.0]], dtype=np.float32), [0, 1])
    assert got["log_loss"] == pytest.approx(7 * math.log(10) / 2)


@pytest.mark.parametrize(
    ("probabilities", "labels", "words"),
    [
        ([[2.0, -1.0]], [0], "row 0 is no probabilities"),
        ([[0.5, 0.5], [0.9, 0.3]], [0, 1], "row 1 .* sum 1.2"),
        ([[0.5, 0.5], [math.nan, 0.3]], [0, 1], "row 1"),
        ([[0.5, 0.5]], [2], r"labels\[0\] is 2; .* 0 to 1"),
        ([[0.5, 0.5]], [-1], r"labels\[0\] is -1"),
        ([[0.5, 0.5]], [0.0], "integers"),
        ([[0.5, 0.5]], [0, 1], "1 rows of probabilities and 2 labels"),
        (np.zeros((0, 2)), np.zeros(0, int), r"shape \(0, 2\)"),
        ([[1.0]], [0], r"shape \(1, 1\)"),
        ([0.5, 0.5], [0], r"shape \(2,\)"),
    ],
)
def test_bad_input_is_named(probabilities: object, labels: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        classification_metrics(probabilities, labels)  # pyright: ignore[reportArgumentType]


def test_confusion_matrix_of_unequal_lengths_or_nothing() -> None:
    with pytest.raises(UserError, match="2 labels and 1 predictions"):
        confusion_matrix([0, 1], [0], 2)
    assert confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_is_the_published_one(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_agrees_with_scipy_and_keeps_its_ends() -> None:
    for successes, n, confidence in [(3, 10, 0.9), (995, 1000, 0.99), (1, 2, 0.5)]:
        expected = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
        assert wilson_interval(successes, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert wilson_interval(0, 7)[0] == 0.0
    assert wilson_interval(7, 7)[1] == 1.0


@pytest.mark.parametrize(("successes", "n", "confidence"), [(1, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 95)])
def test_wilson_interval_refuses(successes: int, n: int, confidence: float) -> None:
    with pytest.raises(UserError):
        wilson_interval(successes, n, confidence)


def test_mean_interval_t_agrees_with_scipy() -> None:
    values = [0.951, 0.957, 0.949, 0.962, 0.955]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert mean_interval(values, 0.9) == pytest.approx((expected.low, expected.high))


def test_mean_interval_t_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(3.0, 2.0, size=5), 0.8) for _ in range(1000)]
    covered = sum(low <= 3.0 <= high for low, high in intervals)
    assert abs(covered - 800) < 4 * math.sqrt(1000 * 0.8 * 0.2)  # four standard errors of a binomial


def test_mean_interval_bootstrap_is_keyed_and_near_scipys() -> None:
    values = np.random.default_rng(1).exponential(size=40)
    np.random.seed(5)
    expected_next = np.random.random()
    np.random.seed(5)
    got = mean_interval(values, method="bootstrap", seed=3)
    assert np.random.random() == expected_next  # the global generator has not moved
    assert got == mean_interval(values, method="bootstrap", seed=3)
    assert got != mean_interval(values, method="bootstrap", seed=4)
    other = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(9)).confidence_interval
    width = other.high - other.low
    assert got == pytest.approx((other.low, other.high), abs=0.05 * width)


def test_mean_interval_of_one_value_is_unknown_and_of_none_refused() -> None:
    assert all(math.isnan(end) for end in mean_interval([0.9]))
    for bad in ([], [0.9, math.nan]):
        with pytest.raises(UserError, match="finite"):
            mean_interval(bad)
    with pytest.raises(UserError, match="Did you mean 'bootstrap'"):
        mean_interval([1.0, 2.0], method="bootstrapp")  # pyright: ignore[reportArgumentType]


def drawn_one_by_one(first: np.ndarray, second: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """The bootstrap as a textbook says it: draw trainings, draw images, average."""
    rng = np.random.default_rng(seed)
    trainings, images = first.shape
    means = []
    for _ in range(resamples):
        rows, columns = rng.integers(trainings, size=trainings), rng.integers(images, size=images)
        means.append((first - second)[np.ix_(rows, columns)].mean())
    return tuple(np.quantile(means, [0.025, 0.975]))


@pytest.mark.parametrize("trainings", [1, 2, 5])
def test_paired_bootstrap_is_the_textbooks(trainings: int) -> None:
    rng = np.random.default_rng(trainings)
    easy = rng.random(300)  # the same images are hard for both: pairing must use it
    first = easy < rng.normal(0.60, 0.05, (trainings, 1))
    second = easy < rng.normal(0.50, 0.05, (trainings, 1))
    low, high = paired_bootstrap(first, second)
    assert (low, high) == paired_bootstrap(first, second)
    expected = drawn_one_by_one(first.astype(float), second.astype(float), 4000, 9)
    assert (low, high) == pytest.approx(expected, abs=0.006)
    assert low < first.mean() - second.mean() < high


def test_paired_bootstrap_of_one_training_is_normal_for_many_images() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(4000) < 0.7, rng.random(4000) < 0.6
    difference = first.astype(float) - second
    half = 1.96 * difference.std() / math.sqrt(4000)
    assert paired_bootstrap(first, second) == pytest.approx(
        (difference.mean() - half, difference.mean() + half), abs=1e-3
    )
    narrow = paired_bootstrap(first, second, 0.5)
    assert np.diff(narrow) < np.diff(paired_bootstrap(first, second))
    assert paired_bootstrap(first, first) == (0.0, 0.0)


def test_paired_bootstrap_leaves_out_images_that_are_not_judged() -> None:
    first, second = np.random.default_rng(0).random((2, 3, 50))
    with_gaps = [np.insert(scores, (7, 20), 0.5, axis=1) for scores in (first, second)]
    with_gaps[0][1, 7] = with_gaps[1][:, 21] = math.nan
    assert paired_bootstrap(*with_gaps) == paired_bootstrap(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [([math.inf], [1]), ([], []), ([1, 0], [1]), ([[1], [0]], [1, 0]), ([math.nan], [1]), ([[[1]]], [[[1]]])],
)
def test_paired_bootstrap_refuses(first: list, second: list) -> None:
    with pytest.raises(UserError, match="scores must be"):
        paired_bootstrap(first, second)

"""How good a classifier is, from its probabilities and the true labels, and how sure one may be of it.

Conventions, the same in every function:

- The prediction is the class of the largest probability; among equal ones the lowest class wins.
- In a confusion matrix **the row is the truth** and the column the prediction.
- A class is *present* when at least one label says so. "Macro" is the plain mean over the present classes: a class
  that the data do not hold adds nothing, neither a zero nor a one (scikit-learn's `f1_score` adds a zero for an absent
  class as soon as it is predicted once; then the two differ).
- A number that the data do not determine is NaN, never 0 or 1.
- With two classes macro sensitivity and macro specificity are the same number, the balanced accuracy. The clinical
  pair of a test for class 1 is `per_class_sensitivity(matrix)[1]` and `per_class_specificity(matrix)[1]`.
- Logarithms are natural. An interval is `(low, high)`, two-sided.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onceforall.errors import UserError, check_choice

__all__ = [
    "classification_metrics",
    "confusion_matrix",
    "mean_interval",
    "paired_bootstrap",
    "per_class_auc",
    "per_class_sensitivity",
    "per_class_specificity",
    "wilson_interval",
]

SMALLEST_PROBABILITY = 1e-7  # about the resolution of float32 at 1: a sure and wrong answer costs at most 16.1 nats
ROW_SUM_TOLERANCE = 1e-2  # wide enough for a softmax that was computed in bfloat16 (8 significant bits)


def classification_metrics(probabilities: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Six numbers about one classifier on one set of data.

    `probabilities` is (N, classes), each row summing to 1 (checked to 0.01, not rescaled); `labels` is (N,), integers
    from 0 to classes - 1. All are computed in float64.

    - `accuracy`: share of right predictions.
    - `macro_f1`: macro mean of 2 TP / (2 TP + FP + FN).
    - `auc`: macro mean of the one-against-rest areas under the ROC curve (`per_class_auc`), over the present classes
      that do not hold every sample; NaN when all labels are the same.
    - `sensitivity`, `specificity`: macro means of the per-class values; `specificity` is NaN when all labels are the
      same, for then nothing is negative.
    - `log_loss`: mean of -log(probability of the true class), that probability clipped to [1e-7, 1].

    Raises `UserError` for no samples, wrong shapes, labels out of range, and rows that are no probabilities.
    """
    scores, truth = checked_inputs(probabilities, labels)  # (N, classes), (N,)
    samples, classes = scores.shape
    matrix = confusion_matrix(truth, scores.argmax(axis=1), classes)
    present = matrix.sum(axis=1) > 0  # (classes,)
    right = np.diagonal(matrix)
    f1 = 2 * right[present] / (matrix.sum(axis=1) + matrix.sum(axis=0))[present]
    of_truth = np.clip(scores[np.arange(samples), truth], SMALLEST_PROBABILITY, 1.0)  # (N,)
    return {
        "accuracy": float(right.sum() / samples),
        "macro_f1": float(f1.mean()),
        "auc": mean_of_known(per_class_auc(scores, truth)[present]),
        "sensitivity": mean_of_known(per_class_sensitivity(matrix)[present]),
        "specificity": mean_of_known(per_class_specificity(matrix)[present]),
        "log_loss": float(-np.log(of_truth).mean()),
    }


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """How often each class (row: the truth) was taken for each class (column: the prediction): (classes, classes).

    `labels` and `predictions` are (N,), integers from 0 to `num_classes` - 1; N may be 0. Raises `UserError` otherwise.
    """
    truth, predicted = (
        class_indices("labels", labels, num_classes),
        class_indices("predictions", predictions, num_classes),
    )
    if truth.shape != predicted.shape:
        raise UserError(f"got {truth.size} labels and {predicted.size} predictions: each sample needs one of each.")
    cells = np.bincount(truth * num_classes + predicted, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.int64)  # (truth, prediction)


def per_class_sensitivity(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """TP / (TP + FN) of each class (its recall), from a confusion matrix: (classes,). NaN for an absent class."""
    return ratio(np.diagonal(matrix), matrix.sum(axis=1))


def per_class_specificity(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """TN / (TN + FP) of each class, from a confusion matrix: (classes,). NaN for a class that holds every sample."""
    negatives = matrix.sum() - matrix.sum(axis=1)  # (classes,) samples of any other class
    false_positives = matrix.sum(axis=0) - np.diagonal(matrix)
    return ratio(negatives - false_positives, negatives)


def per_class_auc(probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Area under the ROC curve of each class against all others: (classes,).

    It is the chance that a random sample of the class has a higher probability for it than a random other sample;
    equal probabilities count one half. NaN for a class that no sample or every sample has. `probabilities` is
    (N, classes), `labels` is (N,).
    """
    scores, truth = checked_inputs(probabilities, labels)
    areas = np.full(scores.shape[1], np.nan)
    for label in range(scores.shape[1]):
        positive = truth == label
        positives, negatives = int(positive.sum()), int((~positive).sum())
        if positives and negatives:
            _, which, counts = np.unique(scores[:, label], return_inverse=True, return_counts=True)
            ranks = np.cumsum(counts) - (counts - 1) / 2  # mean rank, from 1, of each distinct score
            wins = ranks[which][positive].sum() - positives * (positives + 1) / 2
            areas[label] = wins / (positives * negatives)
    return areas


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a proportion: in [0, 1], sensible for few samples and near 0 and 1.

    It is for independent samples; several images of one patient are not, and then it is too narrow.

    >>> low, high = wilson_interval(81, 263)
    >>> f"{low:.4f} {high:.4f}"
    '0.2553 0.3662'
    """
    check_confidence(confidence)
    if n < 1 or not 0 <= successes <= n:
        raise UserError(f"got {successes} successes of {n}: n must be 1 or more, and successes from 0 to n.")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # at 0 and n the ends are exactly 0 and 1; rounding must not say otherwise
    return (0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half)


def mean_interval(
    values: Sequence[float] | NDArray[np.floating],
    confidence: float = 0.95,
    *,
    method: Literal["t", "bootstrap"] = "t",
    seed: int = 0,
    resamples: int = 10_000,
) -> tuple[float, float]:
    """An interval for the mean of independent `values`, (N,): `(low, high)` in their unit.

    - `"t"`: mean +- t(N - 1) * s / sqrt(N), s with N - 1 in the denominator. Exact for normal values; for paired
      comparisons pass the differences.
    - `"bootstrap"`: the percentiles of the means of `resamples` draws with replacement. No normality assumed, but too
      narrow below about 20 values. The same values and `seed` give the same interval; no global generator is touched.

    One value says nothing about its spread: the interval is `(nan, nan)`. Raises `UserError` for no values or values
    that are not finite.
    """
    check_confidence(confidence)
    check_choice("method", method, ("t", "bootstrap"))
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise UserError(f"the values must be one row of finite numbers, at least one; got shape {sample.shape}.")
    if sample.size == 1:
        return (math.nan, math.nan)
    tail = (1 - confidence) / 2
    if method == "bootstrap":
        rng = np.random.default_rng(seed)
        means = [sample[rng.integers(sample.size, size=sample.size)].mean() for _ in range(resamples)]
        low, high = np.quantile(means, [tail, 1 - tail])
        return (float(low), float(high))
    from scipy.stats import t  # scipy.stats takes 0.5 s to import

    half = float(t.ppf(1 - tail, sample.size - 1)) * float(sample.std(ddof=1)) / math.sqrt(sample.size)
    return (float(sample.mean()) - half, float(sample.mean()) + half)


def paired_bootstrap(
    first: ArrayLike, second: ArrayLike, confidence: float = 0.95, *, seed: int = 0, resamples: int = 10_000
) -> tuple[float, float]:
    """An interval for the mean of `first - second`, two networks on the same images: `(low, high)`, percentiles.

    Both are (images,), or (trainings, images) where row i of both comes from the same training seed: a score for each
    image, such as whether the answer is right. Images are drawn with replacement, the same for both networks, and so
    are the trainings where there are several; with one, the interval says nothing of another training. An image that
    one of them does not judge, its score is NaN, is left out for both. The same input and `seed` give the same
    interval. Raises `UserError` for no values, unlike shapes, and values that are infinite.
    """
    check_confidence(confidence)
    one, other = (np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in (first, second))
    if one.shape != other.shape or one.ndim != 2 or one.size == 0:
        raise UserError(f"the scores must be (trainings, images), of both the same; got {one.shape} and {other.shape}.")
    difference = one - other  # (trainings, images)
    difference = difference[:, ~(np.isnan(one) | np.isnan(other)).any(axis=0)]
    if difference.size == 0 or not np.isfinite(difference).all():
        raise UserError("the scores must be finite numbers, and of one image or more not NaN.")
    trainings, images = difference.shape
    rng = np.random.default_rng(seed)
    # images that all trainings answer alike are one kind: how often a kind is drawn is multinomial
    kinds, counts = np.unique(difference, axis=1, return_counts=True)  # (trainings, kinds), (kinds,)
    drawn = rng.multinomial(images, counts / images, size=resamples)  # (resamples, kinds)
    means = drawn @ kinds.T / images  # (resamples, trainings)
    chosen = rng.integers(trainings, size=(resamples, trainings))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.take_along_axis(means, chosen, axis=1).mean(axis=1), [tail, 1 - tail])
    return (float(low), float(high))


def checked_inputs(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The two inputs as arrays, (N, classes) and (N,), or a `UserError` that names the first bad row."""
    scores = np.asarray(probabilities, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] == 0 or scores.shape[1] < 2:
        raise UserError(f"probabilities must be (samples, classes), 1 and 2 or more; got shape {scores.shape}.")
    truth = class_indices("labels", labels, scores.shape[1])
    if truth.size != scores.shape[0]:
        raise UserError(f"got {scores.shape[0]} rows of probabilities and {truth.size} labels: they must be as many.")
    # written so that a NaN fails it
    sound = ((scores >= 0) & (scores <= 1 + ROW_SUM_TOLERANCE)).all(axis=1)
    sound &= np.abs(scores.sum(axis=1) - 1) <= ROW_SUM_TOLERANCE
    if not sound.all():
        row = int(np.argmin(sound))
        raise UserError(
            f"row {row} is no probabilities (minimum {scores[row].min():g}, sum {scores[row].sum():g}): each must be 0 "
            "or more and a row must sum to 1. Were logits passed, or did the network diverge?"
        )
    return scores, truth


def class_indices(name: str, values: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """`values` as (N,) integers, or a `UserError` unless each is one of 0 ... `num_classes` - 1."""
    indices = np.asarray(values)
    if indices.ndim != 1 or not (np.issubdtype(indices.dtype, np.integer) or indices.size == 0):
        raise UserError(f"{name} must be one row of integers; got shape {indices.shape}, type {indices.dtype}.")
    outside = (indices < 0) | (indices >= num_classes)
    if outside.any():
        row = int(np.argmax(outside))
        raise UserError(
            f"{name}[{row}] is {indices[row]}; with {num_classes} classes it must be 0 to {num_classes - 1}."
        )
    return indices.astype(np.int64)


def check_confidence(confidence: float) -> None:
    """Raise `UserError` unless 0 < `confidence` < 1."""
    if not 0 < confidence < 1:
        raise UserError(f"confidence {confidence!r} must lie between 0 and 1, for example 0.95.")


def ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    """`numerator / denominator` in float64, NaN where the denominator is 0, without a warning."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def mean_of_known(values: NDArray[np.float64]) -> float:
    """The mean of what is not NaN; NaN when nothing is left, without a warning."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan

"""How sure an exit must be for an image to leave there, chosen on validation images.

A network with several exits answers at the first one whose confidence, its largest softmax probability, reaches the
exit's threshold; the last exit answers for all others. What that costs depends on the images: an image that leaves at
an exit pays for the trunk up to there and for every exit that it passed. An exit at which too few images leave costs
more than it saves, so thresholds and the choice of exits are one search: an exit is left out where its threshold is
infinite, and what is behind one with threshold 0 is never run.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from onceforall.errors import UserError
from onceforall.evaluation.pareto import pareto_front
from onceforall.evaluation.results import format_count

__all__ = [
    "ExitAnswers",
    "ExitCosts",
    "ExitPolicy",
    "Outcome",
    "common_policies",
    "exit_front",
    "leaving",
    "outcome_of",
    "tune_exits",
]

COMMON = 40  # thresholds that are tried for all exits alike
PRICES = np.logspace(-2.5, 1.5, 25)  # of the largest network's cost, in accuracy
TIE = 1e-6  # the price where accuracy alone counts: of equally accurate policies the cheaper one
STARTS = 3  # points from which a climb begins


@final
@dataclass(frozen=True)
class ExitAnswers:
    """What all exits of a network answer to the same images.

    Args:
        exits: their numbers, the first one first.
        confidence: (exits, images) largest probability.
        correct: (exits, images) whether the class with that probability is right.
    """

    exits: tuple[int, ...]
    confidence: np.ndarray
    correct: np.ndarray

    def __post_init__(self) -> None:
        shape = self.confidence.shape
        if shape != self.correct.shape or len(shape) != 2 or shape[0] != len(self.exits) or not shape[1]:
            raise UserError(f"confidence {shape} and correct {self.correct.shape} of {len(self.exits)} exits.")
        if not np.isfinite(self.confidence).all():
            raise UserError("the network answers with numbers that are not finite: did it diverge?")

    @property
    def images(self) -> int:
        """How many images."""
        return self.confidence.shape[1]


@final
@dataclass(frozen=True)
class ExitCosts:
    """Multiply-adds: `trunk[k]` from the image to the maps that exit k reads, `heads[k]` of exit k itself.

    That of the last exit, which answers for all images that reach it, may stand in its trunk, with 0 as its head.
    """

    trunk: tuple[int, ...]
    heads: tuple[int, ...]

    def whole(self) -> int:
        """Of all exits together."""
        return self.trunk[-1] + sum(self.heads)


@final
@dataclass(frozen=True)
class ExitPolicy:
    """The exits that are kept, and the confidence from which on an image leaves at each of them but the last.

    >>> ExitPolicy((1, 3, 5), (0.9, 0.6))
    ExitPolicy(exits=(1, 3, 5), thresholds=(0.9, 0.6))
    """

    exits: tuple[int, ...]
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.exits or list(self.exits) != sorted(set(self.exits)):
            raise UserError(f"exits {self.exits!r}: must be increasing numbers of exits.")
        if len(self.thresholds) != len(self.exits) - 1:
            raise UserError(f"{len(self.thresholds)} thresholds for {len(self.exits)} exits: give one fewer.")
        if not all(0 < threshold <= 1 for threshold in self.thresholds):
            raise UserError(f"thresholds {self.thresholds!r}: must be above 0 and at most 1.")


@final
@dataclass(frozen=True)
class Outcome:
    """What a policy does to images.

    Args:
        accuracy: share of right answers.
        macs: mean multiply-adds of an image.
        shares: of the images that leave at each exit of the policy.
        correct: (images,) whether the answer is right.
    """

    accuracy: float
    macs: float
    shares: tuple[float, ...]
    correct: np.ndarray


def leaving(policy: ExitPolicy, answers: ExitAnswers) -> np.ndarray:
    """(images,) at which exit, as a place in `policy.exits`, each image leaves."""
    rows = [answers.exits.index(number) for number in policy.exits]
    thresholds = np.array([*policy.thresholds, -math.inf])
    return (answers.confidence[rows] >= thresholds[:, None]).argmax(0)


def outcome_of(policy: ExitPolicy, answers: ExitAnswers, costs: ExitCosts) -> Outcome:
    """Accuracy and cost of a policy on images."""
    rows = np.array([answers.exits.index(number) for number in policy.exits])
    places = leaving(policy, answers)
    correct = answers.correct[rows[places], np.arange(answers.images)]
    price = np.array(costs.trunk)[rows] + np.cumsum(np.array(costs.heads)[rows])
    shares = np.bincount(places, minlength=len(rows)) / answers.images
    return Outcome(float(correct.mean()), float(price[places].mean()), tuple(shares.tolist()), correct)


def tune_exits(
    answers: ExitAnswers, costs: ExitCosts, *, min_accuracy: float | None = None, max_macs: float | None = None
) -> ExitPolicy:
    """The policy with the fewest mean multiply-adds that keeps `min_accuracy`, or the most accurate within `max_macs`.

    Both hold on the images of `answers`, which should be of the validation split: on others they hold about.
    Raises `UserError` unless exactly one is given, and where no policy that was found reaches it.
    """
    if (min_accuracy is None) == (max_macs is None):
        raise UserError("give either the least accuracy or the most multiply-adds that are wanted.")
    search = _Search(answers, costs)
    points = search.explore()

    def accuracy_first(accuracy: np.ndarray, macs: np.ndarray) -> np.ndarray:
        return accuracy - TIE * macs / costs.whole()

    if min_accuracy is not None:
        if all(point.accuracy < min_accuracy for point in points):
            points.append(search.climb(accuracy_first, points, starts=len(points)))
        best = max(points, key=lambda point: (point.accuracy, -point.macs))
        if best.accuracy < min_accuracy:
            raise UserError(
                f"an accuracy of {min_accuracy:.4f} is not reached on validation; the best is {best.accuracy:.4f} with "
                f"{format_count(round(best.macs))} multiply-adds on average."
            )

        def key(accuracy: np.ndarray, macs: np.ndarray) -> np.ndarray:
            return np.where(accuracy >= min_accuracy - 1e-12, -macs + accuracy, -np.inf)
    else:
        assert max_macs is not None
        least = min(points, key=lambda point: point.macs)
        if least.macs > max_macs:
            raise UserError(
                f"no image costs less than the first exit's {format_count(round(least.macs))} multiply-adds; "
                f"{format_count(max_macs)} are not enough."
            )

        def key(accuracy: np.ndarray, macs: np.ndarray) -> np.ndarray:
            return np.where(macs <= max_macs * (1 + 1e-12), accuracy_first(accuracy, macs), -np.inf)

    return search.policy(search.climb(key, points).thresholds)


def exit_front(answers: ExitAnswers, costs: ExitCosts) -> list[ExitPolicy]:
    """The policies that no other found dominates in accuracy and mean multiply-adds, the cheapest first."""
    search = _Search(answers, costs)
    points = search.explore()
    front = [points[i] for i in pareto_front([(point.macs, point.accuracy) for point in points])]
    best = {(point.macs, point.accuracy): search.policy(point.thresholds) for point in front}  # one of equal ones
    return list(best.values())


def common_policies(answers: ExitAnswers, count: int = 20) -> list[ExitPolicy]:
    """All exits with one threshold for all, so many different ones from low to high: the simple way, for comparison."""
    early = len(answers.exits) - 1
    return [ExitPolicy(answers.exits, (value,) * early) for value in _spread(answers, count)]


def _spread(answers: ExitAnswers, count: int) -> list[float]:
    """Confidences of the early exits, so many quantiles, the lowest left out; none of a network with one exit."""
    early = answers.confidence[:-1]
    values = np.quantile(early, np.linspace(0, 1, count + 1)[1:]) if early.size else np.empty(0)
    return list(dict.fromkeys(values.tolist()))


# -- the search ---------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class _Point:
    """A threshold for each exit but the last, infinite for an exit that is left out, and what they do."""

    thresholds: tuple[float, ...]
    accuracy: float
    macs: float


Key = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(accuracy, macs) of points to numbers of which the largest is wanted."""


@final
class _Search:
    """Climbs one threshold at a time, each time to its best value among all that part the images differently.

    The best value for a price of cost (Lagrange) leads to the points on the hull of what is reachable; with a limit
    as the key a climb from the best of these goes on to what lies between.
    """

    def __init__(self, answers: ExitAnswers, costs: ExitCosts) -> None:
        self.answers = answers
        self.trunk, self.heads = np.array(costs.trunk, np.float64), np.array(costs.heads, np.float64)
        self.whole = costs.whole()

    def explore(self) -> list[_Point]:
        """Points with one threshold for all exits, and the best found for each price."""
        last = len(self.answers.exits) - 1
        starts = {(math.inf,) * last: None} | {(value,) * last: None for value in _spread(self.answers, COMMON)}
        starts |= {(math.inf,) * k + (0.0,) + (math.inf,) * (last - k - 1): None for k in range(last)}  # single exits
        points = {start: self._point(start) for start in starts}
        for price in PRICES / self.whole:
            found = self.climb(lambda accuracy, macs, price=price: accuracy - price * macs, points.values())
            points[found.thresholds] = found
        return list(points.values())

    def climb(self, key: Key, points: Iterable[_Point], starts: int = STARTS) -> _Point:
        """The best point by `key` that is reached from so many of `points`, the best ones."""

        def score(point: _Point) -> float:
            return float(key(np.array(point.accuracy), np.array(point.macs)))

        best = sorted(points, key=score, reverse=True)[:starts]
        return max((self._ascend(key, score, point) for point in best), key=score)

    def _ascend(self, key: Key, score: Callable[[_Point], float], point: _Point) -> _Point:
        best, improved = score(point), True
        while improved:
            improved = False
            for k in range(len(point.thresholds)):
                values, accuracy, macs = self._options(point.thresholds, k)
                scores = key(accuracy, macs)
                i = int(scores.argmax())
                if scores[i] > best + 1e-12 * max(1.0, abs(best)):
                    thresholds = (*point.thresholds[:k], float(values[i]), *point.thresholds[k + 1 :])
                    point, best, improved = _Point(thresholds, float(accuracy[i]), float(macs[i])), scores[i], True
        return point

    def _point(self, thresholds: tuple[float, ...]) -> _Point:
        place, price = self._followed(thresholds)
        correct = self.answers.correct[place, np.arange(self.answers.images)]
        return _Point(thresholds, float(correct.mean()), float(price[place].mean()))

    def _followed(self, thresholds: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """(images,) the exit at which each leaves, and (exits,) what leaving at each costs."""
        limits = np.array([*thresholds, -math.inf])
        present = np.isfinite(limits) | (np.arange(len(limits)) == len(limits) - 1)
        return (self.answers.confidence >= limits[:, None]).argmax(0), self.trunk + np.cumsum(present * self.heads)

    def _options(self, thresholds: tuple[float, ...], k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every value of threshold k that matters, with the accuracy and the cost it leads to.

        The values lie in the middle between two confidences, so that rounding moves no image. Of the images that get
        to exit k, the first m by falling confidence leave there; sums over m give all cuts at once.
        """
        without = (*thresholds[:k], math.inf, *thresholds[k + 1 :])
        place, price = self._followed(without)
        images = np.arange(self.answers.images)
        correct = self.answers.correct[place, images].astype(np.float64)
        paid = price[place]
        here = np.flatnonzero(place > k)
        order = here[np.argsort(-self.answers.confidence[k, here], kind="stable")]
        confidence = self.answers.confidence[k, order]
        cuts = (
            np.flatnonzero(np.append(confidence[1:] < confidence[:-1], True)) + 1 if len(order) else np.array([], int)
        )
        gained = np.cumsum(self.answers.correct[k, order] - correct[order])
        head = self.heads[k]
        saved = np.cumsum(paid[order] - price[k])  # an image that leaves pays for the trunk and the exits so far
        accuracy = np.append(correct.sum(), correct.sum() + gained[cuts - 1]) / len(images)
        macs = np.append(paid.sum(), paid.sum() - saved[cuts - 1] + head * len(order)) / len(images)
        below = np.append(confidence, 0.0)[cuts]
        values = np.where(cuts < len(order), (confidence[cuts - 1] + below) / 2, 0.0)
        return np.append(math.inf, values), accuracy, macs

    def policy(self, thresholds: Sequence[float]) -> ExitPolicy:
        """As a policy: exits that are left out, or behind one that all images leave at, are gone."""
        exits, kept = [], []
        for number, threshold in zip(self.answers.exits, (*thresholds, 0.0), strict=True):
            if math.isfinite(threshold):
                exits.append(number)
                kept.append(threshold)
            if threshold <= 0:
                break
        return ExitPolicy(tuple(exits), tuple(kept[:-1]))

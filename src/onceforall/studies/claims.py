"""Claims of a paper as differences or ratios of two of its numbers, and what our runs say of them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Generic, Literal, TypeVar, final

import numpy as np

from onceforall.evaluation.metrics import paired_bootstrap
from onceforall.studies.results import Results, Side

__all__ = ["CONFIDENCE", "Claim", "Judgement", "Verdict", "counts", "judge", "verdict", "widest_interval"]

CONFIDENCE = 0.95

Verdict = Literal["holds", "fails", "undecided", "not run"]
Interval = Literal["", "bootstrap", "widest", "seeds"]
Number = TypeVar("Number")
"""What says which number is meant; `Side` for those of grids."""


@final
@dataclass(frozen=True)
class Claim(Generic[Number]):
    """`first` is larger than the largest of `others`, by more than `more_than` (shares, not percent).

    With `at_most` it is about a ratio instead: `first` is at most so many times the one other.

    Args:
        name: short, unique.
        text: what is claimed, in words.
        first, others: numbers of the tables; a claim about a leader has several others.
        more_than: by how much at least; below zero where `first` is claimed to be not much worse.
        note: what a reader has to know.
        at_most: see above.
        in_points: whether differences are shown in percentage points, as of accuracies; of Dice they are shown as they
            are.
    """

    name: str
    text: str
    first: Number
    others: tuple[Number, ...]
    more_than: float = 0.0
    note: str = ""
    at_most: float | None = None
    in_points: bool = True


@final
@dataclass(frozen=True)
class Judgement:
    """What the paper and our runs say of a claim. Differences are shares; None where there is nothing.

    Args:
        claim: the claim.
        paper: difference (or ratio) in the paper's tables.
        ours: the same over the seeds that both sides have.
        low, high: its 95 % interval.
        interval: how that was found.
        best_on_test: difference where each network is the best *on test*: inflated, for comparison with the paper.
        seeds: that both sides have.
        verdict: whether the interval lies above, below, or around what is claimed.
    """

    claim: Claim[Any]
    paper: float | None
    ours: float | None = None
    low: float | None = None
    high: float | None = None
    interval: Interval = ""
    best_on_test: float | None = None
    seeds: tuple[int, ...] = ()
    verdict: Verdict = "not run"


def verdict(claim: Claim[Any], low: float, high: float) -> Verdict:
    """Whether an interval lies on the claimed side of the bound, on the other, or holds it."""
    if claim.at_most is not None:
        return "holds" if high <= claim.at_most else "fails" if low > claim.at_most else "undecided"
    return "holds" if low > claim.more_than else "fails" if high < claim.more_than else "undecided"


def judge(claim: Claim[Side], results: Results, paper: Callable[[Side], float | None]) -> Judgement:
    """Compare a claim with our runs; `paper` gives the paper's number for a side, a share."""
    stated = _difference(claim, paper)
    common = set(results.of(claim.first))
    for other in claim.others:
        common &= set(results.of(other))
    seeds = tuple(sorted(common))
    ours = _difference(claim, lambda side: results.mean(side, seeds)) if seeds else None
    if ours is None:
        return Judgement(claim, stated)
    other = max(claim.others, key=lambda side: results.mean(side, seeds) or 0.0)
    grids = [[results.of(side)[seed] for seed in seeds] for side in (claim.first, other)]
    images = {len(grid.correct) for side in grids for grid in side}
    if len(images) > 1:
        return Judgement(claim, stated)  # not the same test images: nothing to compare
    if claim.first.value == other.value == "chosen":
        ones, others = (np.stack([grid.correct for grid in side]) for side in grids)  # (seeds, images) each
        low, high = paired_bootstrap(ones, others, CONFIDENCE)
        interval: Interval = "bootstrap"
    else:
        low, high = widest_interval(ours, images.pop())
        interval = "widest"
    best = None
    if claim.first.value == "chosen":  # of every network whose answers were kept there is a best on test, too
        best = _difference(claim, lambda side: results.mean(replace(side, value="best"), seeds))
    return Judgement(claim, stated, ours, low, high, interval, best, seeds, verdict(claim, low, high))


def _difference(claim: Claim[Side], value: Callable[[Side], float | None]) -> float | None:
    first, others = value(claim.first), [value(side) for side in claim.others]
    known = [other for other in others if other is not None]
    return None if first is None or len(known) < len(others) else first - max(known)


def widest_interval(difference: float, images: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The widest interval that a mean difference of two accuracies on the same images can have.

    Of averages over many networks no image's answers are kept. An image's difference lies between -1 and 1, so its
    variance is at most 1 - difference^2, and the interval this gives is wider than the true one, never narrower.
    """
    half = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(max(0.0, 1 - difference**2) / images)
    return (max(-1.0, difference - half), min(1.0, difference + half))


def counts(judgements: Sequence[Judgement]) -> dict[str, int]:
    """How many claims have each verdict."""
    return {name: sum(j.verdict == name for j in judgements) for name in ("holds", "fails", "undecided", "not run")}

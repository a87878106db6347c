"""Search by models, measure what was found, fit the predictor again with that, and search again."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from onceforall.architecture import Architecture
from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.searching.evolution import Candidates, evolve, non_dominated
from onceforall.searching.problem import (
    Constraint,
    LatencyModel,
    Measures,
    Model,
    read_constraints,
    read_objectives,
)
from onceforall.supernets.supernet import Supernet

__all__ = ["Member", "Round", "SearchResult", "search"]

Measure = Callable[[Sequence[Architecture]], Sequence[float]]
"""The metric of architectures, truly evaluated: calibrated, on validation."""

Fit = Callable[[Mapping[Architecture, float]], Model]
"""A predictor from metrics that were measured."""


@final
@dataclass(frozen=True)
class Member:
    """A network that a search came upon.

    Args:
        architecture: which one.
        values: its measures by name; the metric is the measured one where it was measured, else the predicted one.
        predicted: the metric as it was predicted before the network was measured; None where it was never predicted.
        deviation: standard deviation of that prediction.
        measured: whether the metric is measured.
    """

    architecture: Architecture
    values: Mapping[str, float]
    predicted: float | None
    deviation: float | None
    measured: bool


@final
@dataclass(frozen=True)
class Round:
    """One search and what measuring its front said of the predictor.

    Args:
        candidates: architectures judged by the models.
        front: networks on the front that they saw.
        measured: how many of these were measured, that had not been before.
        bias: mean of measured minus predicted metric.
        error: root of the mean squared difference; both NaN where nothing was measured.
    """

    candidates: int
    front: int
    measured: int
    bias: float
    error: float


@final
@dataclass(frozen=True)
class SearchResult:
    """The answer of a search.

    Args:
        objectives: names of the measures traded off, the metric first.
        constraints: what every member of the front keeps.
        metric: name of the metric; None in a search of costs alone.
        higher_is_better: its direction.
        front: networks that keep the constraints and that no other dominates, by the last objective. Where there was
            something to measure with, all of them are measured; empty where nothing keeps the constraints.
        nearest: the network that breaks the constraints least, among these the best in the first objective. Where
            there was something to measure with, one of the archive, unless only costs are limited and another one
            breaks them less: what is predicted of a metric is no measure of it.
        archive: every measured network where it searched, those that were given too; without measuring the front.
        rounds: what each round did.
        seconds: wall time, measuring and fitting included.
    """

    objectives: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    metric: str | None
    higher_is_better: bool
    front: tuple[Member, ...]
    nearest: Member
    archive: tuple[Member, ...]
    rounds: tuple[Round, ...]
    seconds: float

    def sign(self, name: str) -> int:
        """1 where less of a measure is better, -1 where more is."""
        return -1 if name == self.metric and self.higher_is_better else 1

    def keeps_limits(self, member: Member) -> bool:
        """Whether a network keeps the constraints."""
        return _keeps(self.constraints, member)


def _keeps(limits: Sequence[Constraint], member: Member) -> bool:
    return all(limit.excess(np.array(member.values[limit.measure])) <= 0 for limit in limits)


def search(
    supernet: Supernet,
    predictor: Model | None,
    *,
    space: SearchSpace | None = None,
    objectives: Sequence[str] | None = None,
    constraints: Mapping[str, float] | None = None,
    latency_table: LatencyModel | None = None,
    measure: Measure | None = None,
    fit: Fit | None = None,
    measured: Mapping[Architecture, float] | None = None,
    rounds: int = 1,
    members: int = 20,
    candidates: int = 10_000,
    population: int = 100,
    seed: int = 0,
) -> SearchResult:
    """Find the sub-networks that are worth having.

    Args:
        supernet: the network.
        space: where to search, a part of the network's space; all of it by default.
        predictor: of the metric; None to trade off costs alone.
        objectives: measures to trade off; by default the metric and latency or, without a table, multiply-adds.
        constraints: limits, as {"max_macs": 5e6, "min_accuracy": 0.9}.
        latency_table: for the measure "latency_ms".
        measure: evaluates networks truly; without it the front is the predicted one.
        fit: makes the predictor of the next round from all that was measured; without it the predictor stays.
        measured: metrics that are known already; those in `space` are candidates for the front too.
        rounds: how often to search and measure.
        members: how many networks of each round's front to measure, evenly along it, its ends among them.
        candidates, population, seed: see `evolve`.

    Raises `UserError` for an unknown measure and for limits that make no sense. Where no network keeps the
    constraints the front is empty and `nearest` says what there is; nothing is tried for ever.

    >>> import onceforall
    >>> supernet = onceforall.create_supernet("prox_mobilenet", num_classes=3, width_mult=0.25)
    >>> result = search(supernet, None, objectives=("macs", "params"), candidates=40, population=20)
    >>> result.front[0].architecture == supernet.space.smallest()
    True
    """
    if rounds < 1 or members < 2:
        raise UserError(f"rounds {rounds} with {members} members: give at least 1 with 2.")
    if predictor is None and (measure is not None or measured):
        raise UserError("measured networks need a predictor, which says what the metric is.")
    begun, space = time.perf_counter(), space or supernet.space
    known, predictions = dict(measured or {}), {}
    history: list[Round] = []
    start: Sequence[Architecture] = ()
    while True:
        measures = Measures(supernet, predictor, latency_table)
        goals = read_objectives(measures.directions, objectives)
        limits = read_constraints(measures.directions, constraints or {})
        found = evolve(
            space,
            measures,
            goals,
            limits,
            candidates=candidates,
            population=population,
            start=start,
            seed=seed + len(history),
        )
        start = found.front
        new = [a for a in found.front if a not in known]
        chosen = spread(new, members) if measure is not None else []
        for architecture in [*found.front, found.nearest]:
            if predictor is not None and architecture not in known:
                predictions[architecture] = _prediction(measures, architecture)
        scores = dict(zip(chosen, measure(chosen), strict=True)) if measure is not None and chosen else {}
        known |= scores
        history.append(_round(found, scores, predictions))
        if len(history) >= rounds or not scores:
            break
        predictor = predictor if fit is None else fit(known)
    member = _member_maker(measures, known, predictions)
    there = [architecture for architecture in known if architecture in space]
    archive = tuple(map(member, there if measure is not None else dict.fromkeys([*found.front, *there])))
    front = _front(archive, goals, limits, measures) if measure is not None else tuple(map(member, found.front))
    metric, higher = measures.metric, predictor is not None and predictor.higher_is_better
    nearest, seconds = member(found.nearest), time.perf_counter() - begun
    if measure is not None and archive:
        certain = all(limit.measure != metric for limit in limits)
        nearest = _nearest([*archive, nearest] if certain else archive, goals[0], limits, measures)
    return SearchResult(goals, limits, metric, higher, front, nearest, archive, tuple(history), seconds)


def spread(front: Sequence[Architecture], count: int) -> list[Architecture]:
    """At most `count` of the architectures, evenly along their order, the first and the last among them.

    >>> spread("abcdefg", 3)
    ['a', 'd', 'g']
    """
    places = np.linspace(0, len(front) - 1, min(count, len(front))).round().astype(int)
    return [front[place] for place in places]


def _prediction(measures: Measures, architecture: Architecture) -> tuple[float, float]:
    assert measures.metric is not None
    mean, deviation = (measures.values(name, [architecture])[0] for name in (measures.metric, "deviation"))
    return float(mean), float(deviation)


def _round(
    found: Candidates, scores: Mapping[Architecture, float], predictions: Mapping[Architecture, tuple[float, float]]
) -> Round:
    errors = np.array([score - predictions[architecture][0] for architecture, score in scores.items()])
    bias, error = (errors.mean(), np.sqrt((errors**2).mean())) if len(errors) else (np.nan, np.nan)
    return Round(found.count, len(found.front), len(scores), float(bias), float(error))


def _member_maker(
    measures: Measures,
    known: Mapping[Architecture, float],
    predictions: Mapping[Architecture, tuple[float, float]],
) -> Callable[[Architecture], Member]:
    def member(architecture: Architecture) -> Member:
        values, predicted = measures.row(architecture), predictions.get(architecture, (None, None))
        if architecture in known and measures.metric is not None:
            values[measures.metric] = known[architecture]
        return Member(architecture, values, *predicted, measured=architecture in known)

    return member


def _nearest(members: Sequence[Member], goal: str, limits: Sequence[Constraint], measures: Measures) -> Member:
    """The member that breaks the constraints least; among these a measured one, the best in `goal`."""
    higher = measures.higher_is_better(goal)

    def key(member: Member) -> tuple[float, bool, float]:
        excess = [float(limit.excess(np.array(member.values[limit.measure]))) for limit in limits]
        value = member.values[goal]
        return sum(max(each, 0.0) for each in excess), not member.measured, -value if higher else value

    return min(members, key=key)


def _front(
    archive: Sequence[Member], goals: Sequence[str], limits: Sequence[Constraint], measures: Measures
) -> tuple[Member, ...]:
    """The members that keep the constraints and are dominated by none that does, by the last objective."""
    kept = [member for member in archive if _keeps(limits, member)]
    if not kept:
        return ()
    signs = [-1 if measures.higher_is_better(name) else 1 for name in goals]
    values = np.array([[sign * m.values[name] for name, sign in zip(goals, signs, strict=True)] for m in kept])
    best = non_dominated(values)
    return tuple(kept[i] for i in best[np.lexsort(values[best].T)])

"""What a search looks at: named measures of architectures, what shall be large or small, and what must hold.

Measures are the metric of the run's task (predicted, such as "accuracy"), the analytic costs "macs", "params",
"activations", "weight_bytes" and "peak_bytes", and "latency_ms" from a latency table. The metric is a goal in its own
direction; all others are costs. Limits are written "max_macs" or "min_accuracy".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, final

import numpy as np

from onceforall.architecture import Architecture
from onceforall.errors import UserError, check_choice
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Supernet

__all__ = [
    "COSTS",
    "Constraint",
    "LatencyModel",
    "Measures",
    "Model",
    "known_measures",
    "read_constraints",
    "read_objectives",
]

COSTS = ("macs", "params", "activations", "weight_bytes", "peak_bytes")
"""Measures that need no model."""

LATENCY = "latency_ms"


class Model(Protocol):
    """What predicts the metric; see `searching.predictor.Predictor`."""

    @property
    def metric(self) -> str:
        """Its name."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Its direction."""
        ...

    @property
    def space(self) -> SearchSpace:
        """Where it knows."""
        ...

    def predict(self, architectures: Sequence[Architecture]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, (architectures,) each."""
        ...


class LatencyModel(Protocol):
    """What predicts latencies; see `searching.latency_table.LatencyTable`."""

    def predict_ms(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Milliseconds, (architectures,)."""
        ...


@final
class Measures:
    """Numbers of architectures by name; each architecture is measured once.

    Args:
        supernet: the network, for the costs.
        predictor: of the metric; without one there is no metric.
        latency: of latencies; without one there is no "latency_ms".

    Raises `UserError` where the predictor is of another search space.
    """

    def __init__(self, supernet: Supernet, predictor: Model | None = None, latency: LatencyModel | None = None) -> None:
        if predictor is not None and predictor.space != supernet.space:
            raise UserError("the predictor is of another search space than this network; fit one for this run.")
        self.supernet, self.predictor, self.latency = supernet, predictor, latency
        self._known: dict[str, dict[Architecture, float]] = {name: {} for name in (*self.names, "deviation")}

    @property
    def metric(self) -> str | None:
        """The name of the metric."""
        return None if self.predictor is None else self.predictor.metric

    @property
    def directions(self) -> dict[str, bool]:
        """See `known_measures`."""
        higher = self.predictor is not None and self.predictor.higher_is_better
        return known_measures(self.metric, higher, latency=self.latency is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """Measures that there are, the metric first."""
        return tuple(self.directions)

    def higher_is_better(self, name: str) -> bool:
        """Whether more of a measure is better."""
        return self.directions[name]

    def values(self, name: str, architectures: Sequence[Architecture]) -> np.ndarray:
        """A measure of each architecture, (architectures,) float64; "deviation" is that of the predicted metric."""
        check_choice("measure", name, self._known)
        missing = [a for a in dict.fromkeys(architectures) if a not in self._known[name]]
        if missing:
            self._measure(name, missing)
        known = self._known[name]
        return np.array([known[architecture] for architecture in architectures], np.float64)

    def row(self, architecture: Architecture) -> dict[str, float]:
        """All measures of one architecture."""
        return {name: float(self.values(name, [architecture])[0]) for name in self.names}

    def _measure(self, name: str, architectures: Sequence[Architecture]) -> None:
        if name in COSTS:
            for architecture in architectures:
                cost = self.supernet.measure(architecture)
                for each in COSTS:
                    self._known[each][architecture] = getattr(cost, each)
        elif name == LATENCY:
            assert self.latency is not None
            self._keep(name, architectures, self.latency.predict_ms(architectures))
        else:
            assert self.predictor is not None
            mean, deviation = self.predictor.predict(architectures)
            self._keep(self.predictor.metric, architectures, mean)
            self._keep("deviation", architectures, deviation)

    def _keep(self, name: str, architectures: Sequence[Architecture], values: np.ndarray) -> None:
        self._known[name].update(zip(architectures, np.asarray(values, np.float64).tolist(), strict=True))


@final
@dataclass(frozen=True, slots=True)
class Constraint:
    """A measure must be at most, or at least, a limit."""

    measure: str
    sense: Literal["max", "min"]
    limit: float

    def __str__(self) -> str:
        return f"{self.sense}_{self.measure} {self.limit:.6g}"

    def excess(self, values: np.ndarray) -> np.ndarray:
        """By which part of the limit each value breaks it; 0 or less where it holds."""
        beyond = values - self.limit if self.sense == "max" else self.limit - values
        return beyond / abs(self.limit)


def known_measures(metric: str | None, higher_is_better: bool, *, latency: bool) -> dict[str, bool]:
    """The measures that there are, the metric first, and of each whether more of it is better.

    >>> known_measures("dice", True, latency=False)
    {'dice': True, 'macs': False, 'params': False, 'activations': False, 'weight_bytes': False, 'peak_bytes': False}
    """
    own = {} if metric is None else {metric: higher_is_better}
    return own | dict.fromkeys((*COSTS, *((LATENCY,) if latency else ())), False)


def read_objectives(known: Mapping[str, bool], names: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the measures that a search trades off, the metric first.

    By default the metric, and the latency where it is known, otherwise the multiply-adds. Raises `UserError` for a
    measure that is not among the `known_measures`, one named twice, or fewer than two.
    """
    if names is None:
        names = (next(iter(known)), LATENCY if LATENCY in known else "macs")
    for name in names:
        _check_latency(name, name, known)
        check_choice("objective", name, known)
    if len(set(names)) != len(names) or len(names) < 2:
        raise UserError(f"objectives {', '.join(names)}: give two or more different measures.")
    return tuple(sorted(names, key=lambda name: name in (*COSTS, LATENCY)))


def read_constraints(known: Mapping[str, bool], given: Mapping[str, float]) -> tuple[Constraint, ...]:
    """Limits by name, such as {"max_macs": 5e6, "min_accuracy": 0.9}, as values.

    Raises `UserError` for a measure that is not among the `known_measures`, a limit on the wrong side, one that is no
    positive number, or a metric outside 0 to 1 that lies there.
    """
    allowed = [f"{'min' if higher else 'max'}_{name}" for name, higher in known.items()]
    out = []
    for name, limit in given.items():
        _check_latency(name, name.removeprefix("max_"), known)
        check_choice("constraint", name, allowed)
        if isinstance(limit, bool) or not math.isfinite(limit) or limit <= 0:
            raise UserError(f"constraint {name} {limit!r}: give a number above 0.")
        sense, _, measure = name.partition("_")
        if sense == "min" and limit > 1:
            raise UserError(f"constraint {name} {limit:g}: {measure} is a share, at most 1 (90 % is 0.9).")
        out.append(Constraint(measure, "min" if sense == "min" else "max", float(limit)))
    return tuple(out)


def _check_latency(asked: str, measure: str, known: Mapping[str, bool]) -> None:
    if measure == LATENCY and LATENCY not in known:
        raise UserError(f"{asked} needs a latency table of the device: onceforall latency build RUN.")

"""One network for a budget: which of the front, how far it is from the others, and what to say where nothing fits."""

from collections.abc import Mapping, Sequence

from onceforall.architecture import Architecture
from onceforall.evaluation.results import format_count
from onceforall.search_space import SearchSpace
from onceforall.searching.evolution import evolve
from onceforall.searching.problem import COSTS, Constraint, Measures
from onceforall.searching.rounds import Member, SearchResult

__all__ = ["amount", "choose", "distances", "limit_text", "nearest_in_cost", "nothing_fits"]

QUICK = 2_000  # candidates of the search for anything that keeps limits of cost; a fifth of them where nothing does


def choose(result: SearchResult) -> Member:
    """The one network of the front that answers the constraints.

    Where a cost is limited, the best in the metric, among equals the cheapest in the last objective; where only the
    metric is, the cheapest. The front must not be empty.
    """
    cost = result.objectives[-1]
    limited = any(constraint.measure != result.metric for constraint in result.constraints)
    if result.metric is None or (result.constraints and not limited):
        return min(result.front, key=lambda member: member.values[cost])
    metric, sign = result.metric, result.sign(result.metric)
    return min(result.front, key=lambda member: (sign * member.values[metric], member.values[cost]))


def distances(result: SearchResult, chosen: Member) -> dict[str, float]:
    """How far a network is from the front, for each measure; 0 where it is on it.

    In the metric: by how much the best network that costs no more in any other objective is better. In a cost: by how
    much the cheapest network whose metric is no worse is cheaper. Networks are those of the archive and the front,
    whether they keep the constraints or not.
    """
    networks = [member.values for member in (*result.archive, *result.front, chosen)]
    out = {}
    for name, own in chosen.values.items():
        others = [each for each in result.objectives if each != name] if name == result.metric else [result.metric]
        at_least = [
            values
            for values in networks
            if all(result.sign(each) * (values[each] - chosen.values[each]) <= 0 for each in others if each is not None)
        ]
        out[name] = max(result.sign(name) * (own - values[name]) for values in at_least)
    return out


def nearest_in_cost(
    measures: Measures, constraints: Sequence[Constraint], space: SearchSpace, seed: int = 0
) -> Architecture | None:
    """None where some network of `space` keeps these limits of cost; else the one that is nearest to keeping them.

    It takes about a second: before networks are measured for hours, it shall be known whether there is any use.
    """
    smallest = [space.smallest()]
    if all(limit.excess(measures.values(limit.measure, smallest))[0] <= 0 for limit in constraints):
        return None
    goals = [constraints[0].measure]
    found = evolve(space, measures, goals, constraints, candidates=QUICK, population=50, seed=seed)
    return None if found.front else found.nearest


def nothing_fits(
    constraints: Sequence[Constraint], values: Mapping[str, float], network: str, command: str, measured: bool
) -> str:
    """What to tell who asked for the impossible, in one line.

    Args:
        constraints: what was asked.
        values: measures of the nearest network.
        network: which one that is.
        command: exports it.
        measured: whether its metric is measured and not predicted.
    """
    asked = " and ".join(limit_text(limit) for limit in constraints)
    shown = {name: value for name, value in values.items() if name not in COSTS}  # the metric and the latency
    shown |= {name: values[name] for name in COSTS if name in (*[each.measure for each in constraints], "macs")}
    has = ", ".join(f"{name} {amount(name, value)}" for name, value in shown.items())
    known = "" if measured or not set(values) - set(COSTS) else " (predicted)"
    return f"no network that was found has {asked}. The nearest one has {has}{known}: {network}. Take it: {command}"


def amount(name: str, value: float) -> str:
    """A measure for people.

    >>> amount("macs", 5_250_000), amount("latency_ms", 3.14159), amount("accuracy", 0.91234)
    ('5.25M', '3.142 ms', '0.9123')
    """
    if name == "latency_ms":
        return f"{value:.4g} ms"
    return format_count(value) if value >= 1000 else f"{value:.4g}"


def limit_text(limit: Constraint) -> str:
    """A limit for people.

    >>> limit_text(Constraint("macs", "max", 5e6))
    'macs of at most 5M'
    """
    side = "of at most" if limit.sense == "max" else "of at least"
    return f"{limit.measure} {side} {amount(limit.measure, limit.limit)}"

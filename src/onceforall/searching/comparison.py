"""The front of a search beside what random and grid architectures give, all of them truly evaluated."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from onceforall.architecture import Architecture
from onceforall.evaluation.grid import draw_members, grid_members
from onceforall.search_space import SearchSpace
from onceforall.searching import exit_sets
from onceforall.searching.evolution import non_dominated
from onceforall.searching.rounds import Member, SearchResult

__all__ = ["FrontRow", "compare_fronts", "comparison_architectures"]

TRIES = 100  # draws for each network that is wanted, after which the space counts as used up


@final
@dataclass(frozen=True)
class FrontRow:
    """What one way to find networks found.

    Args:
        name: the way.
        networks: how many it measured, those that break limits among them.
        front: how many of these keep the limits and are dominated by none of the others that do.
        hypervolume: the share of the box between the best and the worst of all ways, in every objective, that the
            front dominates.
    """

    name: str
    networks: int
    front: int
    hypervolume: float


def comparison_architectures(space: SearchSpace, count: int, seed: int) -> dict[str, list[Architecture]]:
    """So many "random" architectures, and at most so many of the "grid" of networks with constant factors."""
    rng = random.Random(f"{seed}:comparison")
    drawn: dict[Architecture, None] = {}
    for _ in range(TRIES * count):
        if len(drawn) < count:
            drawn[exit_sets.sample(space, rng)] = None
    grid = draw_members(grid_members(space), count, seed)
    return {"random": list(drawn), "grid": [member.architecture for member in grid]}


def compare_fronts(result: SearchResult, others: Mapping[str, Sequence[Member]]) -> tuple[FrontRow, ...]:
    """The archive of a search, named "search", and other networks, by the objectives and limits of the search."""
    from pymoo.indicators.hv import HV

    groups = {"search": result.archive, **others}
    goals = {name: _goals(result, members) for name, members in groups.items()}
    every = np.concatenate(list(goals.values()))
    low, high = every.min(0), every.max(0)
    width = np.where(high > low, high - low, 1)
    volume = HV(ref_point=np.ones(len(low)))
    rows = []
    for name, members in groups.items():
        shares = (goals[name] - low) / width
        front = non_dominated(shares)
        rows.append(FrontRow(name, len(members), len(front), float(volume(shares[front]) or 0) if len(front) else 0.0))
    return tuple(rows)


def _goals(result: SearchResult, members: Sequence[Member]) -> np.ndarray:
    """(members that keep the limits, objectives), all to be small."""
    kept = [member for member in members if result.keeps_limits(member)]
    rows = [[result.sign(name) * member.values[name] for name in result.objectives] for member in kept]
    return np.array(rows, np.float64).reshape(-1, len(result.objectives))

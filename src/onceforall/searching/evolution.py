"""Many candidates judged by models, and what nothing among them dominates: NSGA-II, from three objectives NSGA-III."""

import importlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from onceforall.architecture import Architecture
from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.searching import exit_sets
from onceforall.searching.problem import Constraint, Measures

__all__ = ["Candidates", "evolve", "load_operators", "non_dominated"]

HOPELESS = 0.2  # of the candidates; if none of so many keeps the constraints, the search ends
CODES = 20  # tried for each architecture, as some codes stand for the same one
PARTITIONS = {
    3: 12,
    4: 7,
    5: 5,
    6: 4,
}  # of each axis of NSGA-III's reference directions, by objectives: 91 to 126 of them


@final
@dataclass(frozen=True)
class Candidates:
    """What a search judged.

    Args:
        front: architectures that keep the constraints and that none of these dominates, by the last objective; empty
            where none keeps the constraints.
        nearest: the one that breaks the constraints least, among these the best in the first objective; one of `front`
            where there is a front.
        count: how many different architectures were judged.
    """

    front: tuple[Architecture, ...]
    nearest: Architecture
    count: int


def evolve(
    space: SearchSpace,
    measures: Measures,
    objectives: Sequence[str],
    constraints: Sequence[Constraint] = (),
    *,
    candidates: int = 10_000,
    population: int = 100,
    start: Sequence[Architecture] = (),
    seed: int = 0,
) -> Candidates:
    """Search for the front of `objectives` under `constraints`.

    Equal seeds give equal answers. It ends with the generation that reaches `candidates` different architectures, and
    after a fifth of them where none of these keeps the constraints. A space of no more is judged whole.

    Args:
        space: where to search; heights, paths, widths and sets of exits are searched as it offers them.
        measures: numbers of architectures.
        objectives: names of measures, from `read_objectives`.
        constraints: from `read_constraints`.
        candidates: how many to judge; at least `population`.
        population: how many live at a time.
        start: architectures to begin with, beside the smallest and the largest.
        seed: of everything that is drawn.

    Raises `UserError` without pymoo (extra `search`) and for impossible numbers.
    """
    if not 4 <= population <= candidates:
        raise UserError(f"population {population} of {candidates} candidates: give 4 <= population <= candidates.")
    signs = np.array([-1.0 if measures.higher_is_better(name) else 1.0 for name in objectives])
    judged: dict[Architecture, tuple[np.ndarray, np.ndarray]] = {}

    def judge(architectures: list[Architecture]) -> tuple[np.ndarray, np.ndarray]:
        goals = np.stack([measures.values(name, architectures) for name in objectives], 1) * signs
        limits = [each.excess(measures.values(each.measure, architectures)) for each in constraints]
        broken = np.stack(limits, 1) if limits else np.zeros((len(architectures), 0))
        judged.update(zip(architectures, zip(goals, broken, strict=True), strict=True))
        return goals, broken

    if whole := _whole(space, candidates):
        judge(whole)
    else:
        operators = load_operators()
        algorithm = _algorithm(operators, space, len(objectives), population, start, judged)
        problem = operators.ArchitectureProblem(judge, len(objectives), len(constraints))
        algorithm.setup(problem, termination=("n_gen", 10 * candidates), seed=seed)
        while algorithm.has_next() and len(judged) < candidates:
            algorithm.next()
            if len(judged) >= HOPELESS * candidates and not any((broken <= 0).all() for _, broken in judged.values()):
                break

    architectures = list(judged)
    goals, broken = (np.stack(rows) for rows in zip(*judged.values(), strict=True))
    excess = np.maximum(broken, 0).sum(1)
    feasible = np.flatnonzero(excess == 0)
    front = feasible[non_dominated(goals[feasible])]
    front = front[np.lexsort(goals[front].T)]
    nearest = np.lexsort((goals[:, 0], excess))[0]
    return Candidates(tuple(architectures[i] for i in front), architectures[nearest], len(judged))


def _whole(space: SearchSpace, at_most: int) -> list[Architecture]:
    """All architectures of a space that has at most so many; none of a larger one.

    In a small space evolution finds the last new ones by luck only, a few in thousands of children.
    """
    if space.size() > at_most:  # with one exit each; sets of exits only add more
        return []
    choices = [range(len(values)) for _, values in exit_sets.variables(space)]
    if math.prod(map(len, choices)) > CODES * at_most:
        return []
    found = list(dict.fromkeys(exit_sets.decode(space, codes) for codes in itertools.product(*choices)))
    return found if len(found) <= at_most else []


def non_dominated(goals: np.ndarray) -> np.ndarray:
    """Positions of the rows of (n, objectives), all to be small, that no other row dominates; of equal ones the first.

    >>> non_dominated(np.array([[1, 5], [2, 2], [3, 3], [2, 2]])).tolist()
    [0, 1]
    """
    left = np.lexsort(goals.T[::-1])  # what dominates a row comes before it
    out = []
    while len(left):
        out.append(left[0])
        left = left[(goals[left] < goals[left[0]]).any(1)]
    return np.sort(np.array(out, int))


def load_operators() -> Any:
    """The module `searching.operators`; raises `UserError` without pymoo (extra `search`)."""
    try:
        return importlib.import_module("onceforall.searching.operators")
    except ModuleNotFoundError as error:
        raise UserError(f"a search needs {error.name}: pip install 'onceforall[search]'.") from error


def _algorithm(
    operators: Any,
    space: SearchSpace,
    objectives: int,
    population: int,
    start: Sequence[Architecture],
    judged: dict[Architecture, Any],
) -> Any:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.algorithms.moo.nsga3 import NSGA3
    from pymoo.util.ref_dirs import get_reference_directions

    given = dict.fromkeys([space.smallest(), space.largest(), *start])
    common = {
        "sampling": operators.Start(space, list(given)),
        "crossover": operators.Cross(space),
        "mutation": operators.Mutate(space),
        "eliminate_duplicates": operators.Distinct(judged),
    }
    if objectives < 3:
        return NSGA2(pop_size=population, **common)
    directions = get_reference_directions("das-dennis", objectives, n_partitions=PARTITIONS[objectives])
    return NSGA3(directions, pop_size=max(population, len(directions)), **common)

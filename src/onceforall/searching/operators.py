"""Architectures as individuals of pymoo: arrays of one column of values, drawn, crossed and changed by their space."""

import random
from collections.abc import Callable, Container, Sequence
from typing import Any, final

import numpy as np
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.sampling import Sampling

from onceforall.architecture import Architecture
from onceforall.search_space import SearchSpace
from onceforall.searching import exit_sets

__all__ = ["ArchitectureProblem", "Cross", "Distinct", "Mutate", "Start"]

Judge = Callable[[list[Architecture]], tuple[np.ndarray, np.ndarray]]
"""From n architectures to (n, objectives), all to be small, and (n, constraints), at most 0 where they hold."""


def _column(architectures: Sequence[Architecture]) -> np.ndarray:
    """(n, 1) of values."""
    out = np.empty((len(architectures), 1), object)
    out[:, 0] = architectures
    return out


def _rng(random_state: np.random.Generator) -> random.Random:
    return random.Random(int(random_state.integers(2**63)))


@final
class ArchitectureProblem(Problem):
    """What pymoo asks: objectives and constraints of a generation."""

    def __init__(self, judge: Judge, objectives: int, constraints: int) -> None:
        super().__init__(n_var=1, n_obj=objectives, n_ieq_constr=constraints, vtype=object)
        self.judge = judge

    def _evaluate(self, x: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        out["F"], out["G"] = self.judge(list(x[:, 0]))


@final
class Start(Sampling):
    """The given architectures, filled up with random ones."""

    def __init__(self, space: SearchSpace, given: Sequence[Architecture]) -> None:
        super().__init__()
        self.space, self.given = space, given

    def _do(self, problem: Problem, n_samples: int, *args: Any, random_state: Any = None, **kwargs: Any) -> np.ndarray:
        rng, given = _rng(random_state), list(self.given)[:n_samples]
        return _column(given + [exit_sets.sample(self.space, rng) for _ in range(n_samples - len(given))])


@final
class Cross(Crossover):
    """One child of two parents."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(n_parents=2, n_offsprings=1)
        self.space = space

    def _do(self, problem: Problem, X: np.ndarray, *args: Any, random_state: Any = None, **kwargs: Any) -> np.ndarray:
        rng = _rng(random_state)
        parents = zip(X[0, :, 0], X[1, :, 0], strict=True)
        children = [exit_sets.crossover(self.space, one, other, rng) for one, other in parents]
        return _column(children)[None]  # (children, matings, variables)


@final
class Mutate(Mutation):
    """Each variable is drawn anew with a probability such that about two change."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space, self.probability = space, min(0.5, 2 / len(exit_sets.variables(space)))

    def _do(self, problem: Problem, X: np.ndarray, *args: Any, random_state: Any = None, **kwargs: Any) -> np.ndarray:
        rng = _rng(random_state)
        return _column([exit_sets.mutate(self.space, each, rng, self.probability) for each in X[:, 0]])


@final
class Distinct(DuplicateElimination):
    """Keeps no architecture that was judged before or stands twice in a generation."""

    def __init__(self, judged: Container[Architecture]) -> None:
        super().__init__()
        self.judged = judged

    def _do(self, pop: Population, other: Population | None, is_duplicate: np.ndarray) -> np.ndarray:
        seen = set() if other is None else {individual.X[0] for individual in other}
        for i, individual in enumerate(pop):
            architecture = individual.X[0]
            is_duplicate[i] |= architecture in seen or architecture in self.judged
            if other is None:
                seen.add(architecture)
        return is_duplicate

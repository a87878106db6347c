"""A small space, a synthetic metric that is a sum over variables, and all its architectures, for tests of searching."""

from itertools import product

import numpy as np

from onceforall.search_space import SearchSpace
from onceforall.searching import exit_sets
from onceforall.supernets.registry import create_supernet


def small_network(**options):
    """A ProX MobileNet of 1,536 architectures or fewer."""
    given = {"num_classes": 3, "width_mult": 0.25, "resolutions": (32, 48), "depths": (1,), "kernel_sizes": (3, 5)}
    return create_supernet("prox_mobilenet", **(given | {"expand_ratios": (3, 6)} | options))


def all_architectures(space: SearchSpace):
    """Every architecture of a space, each once."""
    codes = product(*(range(len(choices)) for _, choices in space.variables()))
    return list(dict.fromkeys(space.decode(code) for code in codes))


class Additive:
    """Predicts the metric without error: each choice of each variable has a value, larger for larger choices."""

    metric, higher_is_better = "accuracy", True

    def __init__(self, space: SearchSpace, seed: int = 0, metric: str = "accuracy", noise: float = 0.0):
        self.space, self.metric, self.noise, self.calls = space, metric, noise, 0
        rng = np.random.default_rng(seed)
        self.tables = [np.sort(rng.uniform(0, 0.05, len(choices))) for _, choices in exit_sets.variables(space)]

    def score(self, architecture) -> float:
        codes = exit_sets.encode(self.space, architecture)
        return 0.2 + sum(table[code] for table, code in zip(self.tables, codes, strict=True) if code >= 0)

    def predict(self, architectures):
        self.calls += len(architectures)
        scores = np.array([self.score(architecture) for architecture in architectures])
        return scores + self.noise, np.full(len(scores), 0.01)


class ClockTable:
    """Latency in proportion to the side of the images."""

    def predict_ms(self, architectures):
        return np.array([architecture.resolution / 10 for architecture in architectures])

"""Which architectures to measure before a predictor is fitted."""

import math
import random
from collections.abc import Callable, Iterator
from itertools import islice

from onceforall.architecture import Architecture
from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.searching import exit_sets

__all__ = ["spread_architectures"]

TRIES = 4  # draws for each place; the one with the nearest cost is taken
FAILURES = 100  # draws in a row that give nothing new, after which the space counts as used up
GOLDEN = (math.sqrt(5) - 1) / 2


def spread_architectures(
    space: SearchSpace, count: int, macs: Callable[[Architecture], int], *, seed: int = 0
) -> list[Architecture]:
    """Different random architectures whose multiply-adds lie evenly, on a logarithmic scale, over the whole space.

    The smallest and the largest architecture come first. The first of many are those of fewer: who asks for 500 after
    100 gets the 100 again. A space that is smaller than `count` gives all it has, as far as drawing finds them.

    Args:
        space: where to draw; of a network with early exits also which of them answer.
        count: how many; at least 2.
        macs: multiply-adds of an architecture.
        seed: another one gives others.
    """
    if count < 2:
        raise UserError(f"{count} architectures: give at least 2, the smallest and the largest.")
    return list(islice(_spread(space, macs, random.Random(f"{seed}:spread")), count))


def _spread(space: SearchSpace, macs: Callable[[Architecture], int], rng: random.Random) -> Iterator[Architecture]:
    ends = space.smallest(), space.largest()
    low, high = (math.log(macs(architecture)) for architecture in ends)
    seen = set(ends)
    yield from dict.fromkeys(ends)
    place = 0.0
    while True:
        place = (place + GOLDEN) % 1  # multiples of the golden section fill an interval evenly, however many there are
        target = low + place * (high - low)
        drawn = list(islice((a for a in islice(_draws(space, rng), FAILURES) if a not in seen), TRIES))
        if not drawn:
            return
        nearest = min(drawn, key=lambda architecture: abs(math.log(macs(architecture)) - target))
        seen.add(nearest)
        yield nearest


def _draws(space: SearchSpace, rng: random.Random) -> Iterator[Architecture]:
    """Random architectures, of which some lean to small choices and some to large ones.

    Independent uniform draws of many variables all cost about the same; a random power of the uniform number leans.
    """
    variables = exit_sets.variables(space)
    while True:
        power = math.exp(rng.uniform(-2, 2))
        yield exit_sets.decode(space, [int(rng.random() ** power * len(choices)) for _, choices in variables])

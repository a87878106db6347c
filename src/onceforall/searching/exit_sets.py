"""Search spaces in which also the set of exits that answer is chosen.

`SearchSpace` draws, codes and crosses architectures with one exit. Of a network with early exits a tall architecture
may answer with more of them, whose outputs are summed. Here each early exit is one more variable, yes or no, which
does not exist where the architecture ends before it or at it. Spaces with one exit are as they were.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from onceforall.architecture import Architecture
from onceforall.choices import ABSENT
from onceforall.search_space import SearchSpace

__all__ = ["crossover", "decode", "encode", "mutate", "sample", "variables"]


def _early(space: SearchSpace) -> tuple[int, ...]:
    """Numbers of the exits behind which some architecture goes on."""
    return tuple(number for number in space.exits if number < space.heights[-1])


def variables(space: SearchSpace) -> tuple[tuple[str, tuple], ...]:
    """Name and choices of every variable, those of exits behind those of the space."""
    return space.variables() + tuple((f"exits.{number}", (False, True)) for number in _early(space))


def encode(space: SearchSpace, architecture: Architecture) -> tuple[int, ...]:
    """The index of the chosen value of every variable; -1 for a variable that does not exist."""
    space.check(architecture)
    height, exits = architecture.height, architecture.exits
    codes = (ABSENT if number >= height else int(number in exits) for number in _early(space))
    return (*space.encode(replace(architecture, exits=())), *codes)


def decode(space: SearchSpace, codes: Sequence[int]) -> Architecture:
    """The architecture of a code; codes of variables that turn out not to exist are ignored."""
    early = _early(space)
    count = len(codes) - len(early)
    answering = [number for number, code in zip(early, codes[count:], strict=True) if code == 1]
    return _with_exits(space.decode(codes[:count]), answering)


def sample(space: SearchSpace, rng: random.Random) -> Architecture:
    """A random architecture: every variable is drawn independently and uniformly."""
    return decode(space, [int(rng.random() * len(choices)) for _, choices in variables(space)])


def mutate(space: SearchSpace, architecture: Architecture, rng: random.Random, probability: float) -> Architecture:
    """`architecture` with every variable drawn anew with the given probability."""
    changed = space.mutate(replace(architecture, exits=()), rng, probability)
    drawn = [(number, rng.random() < probability, rng.random() < 0.5) for number in _early(space)]
    answering = [number for number, anew, yes in drawn if (yes if anew else _answers(architecture, number, rng))]
    return _with_exits(changed, answering)


def crossover(space: SearchSpace, one: Architecture, other: Architecture, rng: random.Random) -> Architecture:
    """A child that takes every variable from one of its parents at random."""
    child = space.crossover(replace(one, exits=()), replace(other, exits=()), rng)
    pairs = [(number, one if rng.random() < 0.5 else other) for number in _early(space)]
    return _with_exits(child, [number for number, parent in pairs if _answers(parent, number, rng)])


def _answers(architecture: Architecture, number: int, rng: random.Random) -> bool:
    """Whether an early exit answers; drawn where the architecture ends before it or at it."""
    return rng.random() < 0.5 if number >= architecture.height else number in architecture.exits


def _with_exits(architecture: Architecture, early: Sequence[int]) -> Architecture:
    """`architecture` with its last exit and those of `early` that it has before that."""
    height = architecture.height
    return replace(architecture, exits=(*(number for number in early if number < height), height))

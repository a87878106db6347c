"""Supernets that grow while they are trained: each phase finds a network that has all it trains."""

from collections.abc import Sequence

import torch

from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.supernets.growth import check_extension
from onceforall.supernets.supernet import Supernet
from onceforall.training.phases import Phase

__all__ = ["beginning", "final_space", "fitted", "without_weights"]


def _holds(space: SearchSpace, part: SearchSpace) -> bool:
    return all(extreme in space for extreme in (part.largest(), part.smallest()))


def final_space(space: SearchSpace, phases: Sequence[Phase]) -> SearchSpace:
    """The space of a supernet of `space` after all phases; raises `UserError` where a phase can not be reached."""
    for phase in phases:
        if _holds(space, phase.space):
            continue
        try:
            check_extension(space, phase.space)
        except UserError as error:
            raise UserError(
                f"phase {phase.name!r} trains architectures that the supernet does not have: {error}"
            ) from error
        space = phase.space
    return space


def beginning(supernet: Supernet, phases: Sequence[Phase], seed: int) -> Supernet:
    """The untrained network that a run of `phases` begins with, as large as the first phase needs.

    It is `supernet` itself where the first phase trains its largest sub-network; otherwise a smaller one, which grows.
    """
    first = phases[0].space
    if supernet.space.largest() in first:
        return supernet
    return type(supernet)(first, **supernet.options).initialise(seed)


def fitted(supernet: Supernet, phase: Phase, seed: int) -> Supernet:
    """The supernet itself, or what it has grown to, where `phase` trains more than it has."""
    return supernet if _holds(supernet.space, phase.space) else supernet.grow(phase.space, seed)


def without_weights(supernet: Supernet, space: SearchSpace) -> Supernet:
    """A network of the same class for `space`, to measure with; its tensors have no values."""
    with torch.device("meta"):
        return type(supernet)(space, **supernet.options)

"""Supernets that grow while they are trained: each phase finds a network that has all it trains."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from onceforall.errors import UserError
from onceforall.layers.elastic import ElasticBatchNorm
from onceforall.search_space import SearchSpace
from onceforall.supernets.growth import check_extension, take_over
from onceforall.supernets.supernet import Supernet
from onceforall.training.phases import Phase

__all__ = ["beginning", "final_space", "fitted", "placed_by_growth", "spaces_in_phases", "without_weights"]


def _holds(space: SearchSpace, part: SearchSpace) -> bool:
    """Whether every architecture of `part` is one of `space`; its extremes may be, and a choice between them not."""
    try:
        check_extension(part, space)
    except UserError:
        return False
    return True


def spaces_in_phases(space: SearchSpace, phases: Sequence[Phase]) -> list[SearchSpace]:
    """The space of a supernet of `space` in each phase; raises `UserError` where a phase can not be reached."""
    spaces = []
    for phase in phases:
        if not _holds(space, phase.space):
            try:
                check_extension(space, phase.space)
            except UserError as error:
                raise UserError(
                    f"phase {phase.name!r} trains architectures that the supernet does not have: {error}"
                ) from error
            space = phase.space
        spaces.append(space)
    return spaces


def final_space(space: SearchSpace, phases: Sequence[Phase]) -> SearchSpace:
    """The space of a supernet of `space` after all phases; raises `UserError` where a phase can not be reached."""
    return [space, *spaces_in_phases(space, phases)][-1]


def beginning(supernet: Supernet, phases: Sequence[Phase], seed: int) -> Supernet:
    """The network that a run of `phases` begins with: in an expansion a new one, as small as the first phase; it grows.

    It is `supernet` itself where the first phase trains its largest sub-network, where the phases are no expansion of
    the first one, and where it is trained already, so that no weights are lost.
    """
    if not phases or supernet.space.largest() in phases[0].space or not _is_untrained(supernet):
        return supernet
    first = phases[0].space
    try:
        check_extension(first, supernet.space)
        final_space(first, phases)
    except UserError:
        return supernet
    return type(supernet)(first, **supernet.options).initialise(seed)


def _is_untrained(supernet: Supernet) -> bool:
    """Whether its batch normalisation has seen no images; a network without any is taken for a trained one."""
    layers = [module for module in supernet.modules() if isinstance(module, ElasticBatchNorm)]
    return bool(layers) and all(not layer.running_mean.any() and layer.running_var.eq(1).all() for layer in layers)


def fitted(supernet: Supernet, space: SearchSpace, seed: int) -> Supernet:
    """The supernet itself, or what it has grown to, where `space` has more than it has."""
    return supernet if _holds(supernet.space, space) else supernet.grow(space, seed)


def without_weights(supernet: Supernet, space: SearchSpace) -> Supernet:
    """A network of the same class for `space`, to measure with; its tensors have no values."""
    with torch.device("meta"):
        return type(supernet)(space, **supernet.options)


@torch.no_grad()
def placed_by_growth(values: Mapping[str, Tensor], before: Supernet, after: Supernet) -> dict[str, Tensor]:
    """Values that go with the parameters of `before`, at the entries to which growth takes these in `after`.

    A value is a number or has the shape of its parameter; a parameter without one, and all that is new, gets zero. The
    places are those of growth itself: a network that holds the values grows, and so does one that holds zeros.
    """
    dtype = next(before.parameters()).dtype

    def grown(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        small = type(before)(before.space, **before.options).to(dtype)
        for name, parameter in small.named_parameters():
            parameter.copy_(held.get(name, torch.zeros(())))
        large = type(after)(after.space, **after.options).initialise().to(dtype)
        take_over(large, small)
        return {name: parameter.detach() for name, parameter in large.named_parameters()}

    new = grown({})  # what growth does not take over
    return {name: value - new[name] for name, value in grown(values).items()}

"""Elastic widths as data, and the sorting of channels by importance.

A network declares each elastic width once: a `ChannelGroup` lists every place where its channels appear. Sorting,
growing and importing weights read these groups and nothing else.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from onceforall.layers.elastic import ElasticLayer
from onceforall.search_space import SearchSpace

__all__ = ["ChannelGroup", "ChannelSlice", "sort_channels"]


@final
@dataclass(frozen=True)
class ChannelSlice:
    """The channels `offset`, `offset + 1`, ... of a layer's input or output."""

    layer: ElasticLayer
    axis: Literal["in", "out"]
    offset: int = 0


@final
@dataclass(frozen=True)
class ChannelGroup:
    """One elastic width of a network.

    Args:
        variable: the variable of the search space that sets it, as `SearchSpace.variables` names it.
        sizes: number of active channels for each choice of the variable.
        slices: every place where the channels appear, producers and consumers.
        ranking: the consumer whose absolute weights, summed over its other axes, tell a channel's importance.
        squeeze: whether these are hidden units of squeeze-excitation.
    """

    variable: str
    sizes: Mapping[float, int]
    slices: tuple[ChannelSlice, ...]
    ranking: ChannelSlice
    squeeze: bool = False

    @property
    def size(self) -> int:
        """The full number of channels."""
        return max(self.sizes.values())


@torch.no_grad()
def sort_channels(
    groups: Iterable[ChannelGroup],
    kept: SearchSpace,
    banded_squeeze: bool = True,
    beside: Callable[[Tensor], Iterable[Tensor]] | None = None,
) -> None:
    """Reorder channels in place so that the most important come first; networks of `kept` stay what they are.

    The importance of a channel is the L1 norm of what consumes it (Once-for-All, section 3.3). Every width that
    `kept` offers stays the same set of channels: sorting happens inside the bands between neighbouring widths. The
    sub-networks of `kept` therefore compute the same function as before, up to the order of additions.

    With `banded_squeeze=False` the hidden units of squeeze-excitation are sorted without bands, as the reference
    does; sub-networks with squeeze-excitation that are narrower than the full width then change.

    `beside` gives tensors of the shape of a parameter that go with it, such as an optimiser's moments; their channels
    are reordered too.
    """
    choices = dict(kept.variables())
    for group in groups:
        offered = choices.get(group.variable, ())  # none where no network of `kept` has this block
        bounded = offered and (banded_squeeze or not group.squeeze)
        widths = sorted({group.sizes[choice] for choice in offered}) if bounded else [group.size]
        order = _banded_order(_importance(group.ranking, group.size), widths)
        for place in group.slices:
            for tensor, dim in place.layer.axis(place.axis):
                for each in (tensor, *(beside(tensor) if beside else ())):
                    _permute(each, dim, place.offset, order)


def _importance(ranking: ChannelSlice, size: int) -> Tensor:
    """(size,) sum of absolute weights for each channel."""
    weights = [(tensor, dim) for tensor, dim in ranking.layer.axis(ranking.axis) if tensor.ndim > 1]
    parts = [(tensor.narrow(dim, ranking.offset, size).double().abs(), dim) for tensor, dim in weights]
    sums = [part.sum(dim=[axis for axis in range(part.ndim) if axis != dim]) for part, dim in parts]
    return torch.stack(sums).sum(0)


def _banded_order(importance: Tensor, widths: list[int]) -> Tensor:
    """The order that sorts by falling importance inside each band that ends at one of `widths`."""
    starts = [0, *widths[:-1]]
    bands = [
        start + torch.sort(importance[start:end], descending=True, stable=True).indices
        for start, end in zip(starts, widths, strict=True)
    ]
    rest = torch.arange(widths[-1], len(importance), device=importance.device)
    return torch.cat([*bands, rest])


def _permute(tensor: Tensor, dim: int, offset: int, order: Tensor) -> None:
    index = torch.arange(tensor.shape[dim], device=tensor.device)
    index[offset : offset + len(order)] = offset + order.to(tensor.device)
    tensor.copy_(tensor.index_select(dim, index))

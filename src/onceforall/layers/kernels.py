"""Kernel rules: how a smaller kernel is made from a larger stored one, in any number of dimensions.

A rule is chosen when a layer is built. It is given the stored weight, already cut to the active channels, and the
size wanted; what it holds itself (transform matrices, rings) are parameters of its own.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onceforall.errors import UserError

__all__ = ["KERNEL_RULES", "CenterCrop", "Cut", "Frozen", "KernelRule", "Rings", "TransformMatrices", "center_crop"]

Frozen = bool | int | Literal["inner"]
"""What of a layer is not trained: nothing, all of it (True), or parts of its kernel. "inner": what lies inside the
outermost ring of the kernel that runs. A kernel size: what lies inside the outermost ring of a kernel of that size, in
layers that have one."""


Cut = Callable[[Tensor], Tensor]
"""Takes the active channels of a tensor that has the axes (out, in, ...) of the whole stored weight."""


def center_crop(weight: Tensor, kernel_size: int) -> Tensor:
    """The centre of `weight` (out, in, k, ...) with side `kernel_size` in every spatial axis; a view."""
    for axis in range(2, weight.ndim):
        surplus = weight.shape[axis] - kernel_size
        if surplus > 0:
            weight = weight.narrow(axis, surplus // 2, kernel_size)
    return weight


class KernelRule(nn.Module, ABC):
    """Makes the kernel of any of `kernel_sizes` from a stored weight.

    Args:
        kernel_sizes: the sizes.
        spatial_dims: number of spatial axes.
        channels: (out, in) of the stored weight.
    """

    def __init__(self, kernel_sizes: tuple[int, ...], spatial_dims: int, channels: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        self.kernel_sizes = kernel_sizes
        self.spatial_dims = spatial_dims
        self.stored_size = max(kernel_sizes)
        """Side of the stored weight."""

    @abstractmethod
    def forward(self, weight: Tensor, kernel_size: int, frozen: Frozen = False, cut: Cut | None = None) -> Tensor:
        """The stored weight (out, in, K, ...) to (out, in, k, ...) of `kernel_size`.

        What the rule holds `along_channels` is cut as `weight` was: by `cut`, or to the leading channels.
        """

    @abstractmethod
    def reset(self) -> None:
        """Set what the rule holds to its start, at which a kernel is the centre of each larger one."""

    def along_channels(self) -> list[Tensor]:
        """What the rule holds that has the axes (out, in, ...) of the stored weight."""
        return []

    def refuse_parts(self, frozen: Frozen) -> None:
        """Raise `UserError` where a part of the kernel shall be frozen that is no tensor of its own."""
        if frozen not in (False, True) and len(self.kernel_sizes) > 1:
            raise UserError("inner_kernels: freezing them needs kernel_rule 'rings', which keeps them apart.")

    @abstractmethod
    def adopt(self, rule: "KernelRule") -> None:
        """Take over what `rule`, one of the same kind for some of these sizes, has learned.

        Its kernels then come out of its stored weight as before, where the other sizes were never trained.
        """


@final
class CenterCrop(KernelRule):
    """The smaller kernel is the centre of the larger one."""

    def forward(self, weight: Tensor, kernel_size: int, frozen: Frozen = False, cut: Cut | None = None) -> Tensor:
        self.refuse_parts(frozen)
        return center_crop(weight, kernel_size)

    def reset(self) -> None:
        """Nothing is learned."""

    def adopt(self, rule: KernelRule) -> None:
        """Nothing is learned."""


@final
class TransformMatrices(KernelRule):
    """Once-for-All's chain: crop to the next smaller size and multiply by a learned matrix, until the size is reached.

    The matrix of a step, (k^n, k^n) for k the smaller size in n dimensions, is shared by all channels of the layer
    and starts as the identity. A 3x3 kernel made from 7x7 passes through the matrix of 5x5 first.
    """

    def __init__(self, kernel_sizes: tuple[int, ...], spatial_dims: int, channels: tuple[int, int] = (1, 1)) -> None:
        super().__init__(kernel_sizes, spatial_dims, channels)
        falling = sorted(kernel_sizes, reverse=True)
        self.steps = list(itertools.pairwise(falling))
        entries = {f"{large}to{small}": small**spatial_dims for large, small in self.steps}
        self.matrices = nn.ParameterDict({name: nn.Parameter(torch.eye(n)) for name, n in entries.items()})

    def forward(self, weight: Tensor, kernel_size: int, frozen: Frozen = False, cut: Cut | None = None) -> Tensor:
        self.refuse_parts(frozen)
        for large, small in self.steps:
            if small < kernel_size:
                break
            crop = center_crop(weight, small)
            flat = F.linear(crop.flatten(2), self.matrices[f"{large}to{small}"])  # (out, in, k^n)
            weight = flat.view(crop.shape)  # (out, in, k, ...)
        return weight

    @torch.no_grad()
    def reset(self) -> None:
        for matrix in self.matrices.values():
            nn.init.eye_(matrix)

    @torch.no_grad()
    def adopt(self, rule: KernelRule) -> None:
        assert isinstance(rule, TransformMatrices)
        present = {small: f"{large}to{small}" for large, small in rule.steps}
        for large, small in self.steps:  # a size in between hands on what it gets: its matrix is the identity
            if small in present:
                self.matrices[f"{large}to{small}"].copy_(rule.matrices[present[small]])


@final
class Rings(KernelRule):
    """ProX's kernels (section 5.1): a larger one is the next smaller one with a ring around it, a tensor of its own.

    The stored weight is that of the smallest size. Rings start at zero, so that a kernel that is made larger computes
    the same. What a phase does not train has no gradient, and no optimiser moves it.
    """

    def __init__(self, kernel_sizes: tuple[int, ...], spatial_dims: int, channels: tuple[int, int] = (1, 1)) -> None:
        super().__init__(kernel_sizes, spatial_dims, channels)
        rising = sorted(kernel_sizes)
        self.stored_size = rising[0]
        self.steps = list(itertools.pairwise(rising))
        entries = {f"{large}": large**spatial_dims - small**spatial_dims for small, large in self.steps}
        self.rings = nn.ParameterDict({name: nn.Parameter(torch.zeros(*channels, n)) for name, n in entries.items()})

    def forward(self, weight: Tensor, kernel_size: int, frozen: Frozen = False, cut: Cut | None = None) -> Tensor:
        trained_from = kernel_size if frozen == "inner" else frozen if frozen in self.kernel_sizes else 0
        out, inner = weight.shape[:2]
        weight = weight if self.stored_size >= trained_from else weight.detach()
        for small, large in self.steps:
            if large > kernel_size:
                break
            ring = self.rings[f"{large}"]
            ring = ring[:out, :inner] if cut is None else cut(ring)  # (out, in, entries)
            weight = _surround(weight, ring if large >= trained_from else ring.detach(), (large - small) // 2)
        return weight

    @torch.no_grad()
    def reset(self) -> None:
        for ring in self.rings.values():
            ring.zero_()

    def along_channels(self) -> list[Tensor]:
        return list(self.rings.values())

    def adopt(self, rule: KernelRule) -> None:
        """Rings are taken over with the stored weight, being parts of the kernel."""


def _surround(kernel: Tensor, ring: Tensor, rim: int) -> Tensor:
    """`kernel` (out, in, k, ...) with `rim` entries on each side of each spatial axis, from `ring` (out, in, entries).

    The ring lists first what is put before and behind the first spatial axis, then, the kernel being longer in it, the
    same for the next one.
    """
    for axis in range(2, kernel.ndim):
        shape = [*kernel.shape[:axis], 2 * rim, *kernel.shape[axis + 1 :]]
        count = math.prod(shape[2:])
        before, behind = ring[:, :, :count].reshape(shape).split(rim, axis)
        kernel, ring = torch.cat([before, kernel, behind], axis), ring[:, :, count:]
    return kernel


KERNEL_RULES: dict[str, type[KernelRule]] = {
    "center_crop": CenterCrop,
    "transform": TransformMatrices,
    "rings": Rings,
}
"""Rules by the name that a supernet takes."""

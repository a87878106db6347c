"""Kernel rules: how a smaller kernel is made from a larger stored one, in any number of dimensions.

A rule is chosen when a layer is built. It is given the stored weight, already cut to the active channels, and the
size wanted; what it learns itself (transform matrices) are parameters of its own.
"""

import itertools
from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["KERNEL_RULES", "CenterCrop", "KernelRule", "TransformMatrices", "center_crop"]


def center_crop(weight: Tensor, kernel_size: int) -> Tensor:
    """The centre of `weight` (out, in, k, ...) with side `kernel_size` in every spatial axis; a view."""
    for axis in range(2, weight.ndim):
        surplus = weight.shape[axis] - kernel_size
        if surplus > 0:
            weight = weight.narrow(axis, surplus // 2, kernel_size)
    return weight


class KernelRule(nn.Module, ABC):
    """Makes the kernel of any of `kernel_sizes` from a stored weight of the largest of them."""

    def __init__(self, kernel_sizes: tuple[int, ...], spatial_dims: int) -> None:
        super().__init__()
        self.kernel_sizes = kernel_sizes
        self.spatial_dims = spatial_dims

    @abstractmethod
    def forward(self, weight: Tensor, kernel_size: int) -> Tensor:
        """(out, in, K, ...) of the largest size to (out, in, k, ...) of `kernel_size`."""

    @abstractmethod
    def reset(self) -> None:
        """Set what the rule learns to its start, at which it is the plain centre crop."""


@final
class CenterCrop(KernelRule):
    """The smaller kernel is the centre of the larger one."""

    def forward(self, weight: Tensor, kernel_size: int) -> Tensor:
        return center_crop(weight, kernel_size)

    def reset(self) -> None:
        """Nothing is learned."""


@final
class TransformMatrices(KernelRule):
    """Once-for-All's chain: crop to the next smaller size and multiply by a learned matrix, until the size is reached.

    The matrix of a step, (k^n, k^n) for k the smaller size in n dimensions, is shared by all channels of the layer
    and starts as the identity. A 3x3 kernel made from 7x7 passes through the matrix of 5x5 first.
    """

    def __init__(self, kernel_sizes: tuple[int, ...], spatial_dims: int) -> None:
        super().__init__(kernel_sizes, spatial_dims)
        falling = sorted(kernel_sizes, reverse=True)
        self.steps = list(itertools.pairwise(falling))
        entries = {f"{large}to{small}": small**spatial_dims for large, small in self.steps}
        self.matrices = nn.ParameterDict({name: nn.Parameter(torch.eye(n)) for name, n in entries.items()})

    def forward(self, weight: Tensor, kernel_size: int) -> Tensor:
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


KERNEL_RULES: dict[str, type[KernelRule]] = {"center_crop": CenterCrop, "transform": TransformMatrices}
"""Rules by the name that a supernet takes."""

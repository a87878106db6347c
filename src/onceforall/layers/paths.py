"""Parallel paths of a level (OFAv2, section III): beside the inverted residual, a pointwise convolution and a norm.

A kind of path is a row in `PATHS`; a network builds the paths that its search space names, so a new kind needs its
row and nothing else. Neither of the two added kinds has an identity of its own or anything elastic.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

from torch import Tensor
from torch.nn import functional as F

from onceforall.architecture import MAIN_PATH, NORM_PATH, POINTWISE_PATH, Block
from onceforall.errors import check_choice
from onceforall.layers.blocks import ACTIVATIONS, ConvNorm, InvertedResidual, Level, PathModule, Shape
from onceforall.layers.channels import ChannelGroup
from onceforall.layers.elastic import Cost, ElasticBatchNorm, ElasticConv, batch_norm_cost
from onceforall.layers.kernels import Frozen
from onceforall.search_space import BlockChoices

__all__ = ["PATHS", "NormActivation", "PathSite", "Pointwise", "build_level"]


@final
@dataclass(frozen=True)
class PathSite:
    """What a path has to fit: the level it stands in.

    Args:
        in_channels: width of the input.
        out_channels: width of the output.
        choices: kernel sizes and expansion ratios of the level's block.
        stride: of the level.
        activation: a name of `ACTIVATIONS`.
        squeeze: whether the level's stage has squeeze-excitation.
        kernel_rule: how smaller kernels are made.
    """

    in_channels: int
    out_channels: int
    choices: BlockChoices
    stride: int = 1
    activation: str = "relu"
    squeeze: bool = False
    kernel_rule: str = "center_crop"


@final
class Pointwise(PathModule):
    """1x1 convolution with the level's stride, batch normalisation, activation."""

    def __init__(self, site: PathSite) -> None:
        super().__init__()
        self.unit = ConvNorm(ElasticConv(site.in_channels, site.out_channels, stride=site.stride), site.activation)

    def forward(self, x: Tensor, block: Block, frozen: Frozen = False) -> Tensor:
        return self.unit(x, frozen=frozen)

    def cost(self, shape: Shape, block: Block) -> tuple[Cost, Shape]:
        return self.unit.cost(shape, *self.unit.conv.sizes)

    def channel_groups(self, name: str) -> Iterator[ChannelGroup]:
        return iter(())


@final
class NormActivation(PathModule):
    """Maximum of 2x2 where the level has a stride, 1x1 convolution where widths differ, normalisation, activation.

    The last row and column of an odd map are pooled by themselves, so that all paths have outputs of one size.
    """

    def __init__(self, site: PathSite) -> None:
        super().__init__()
        self.stride = site.stride
        widths = site.in_channels, site.out_channels
        self.reshape = ElasticConv(*widths, bias=True) if widths[0] != widths[1] else None
        self.norm = ElasticBatchNorm(site.out_channels)
        self.activation = ACTIVATIONS[site.activation]

    def forward(self, x: Tensor, block: Block, frozen: Frozen = False) -> Tensor:
        x = x if self.stride == 1 else F.max_pool2d(x, self.stride, ceil_mode=True)
        x = x if self.reshape is None else self.reshape(x, frozen=frozen)
        return self.activation(self.norm(x, frozen))

    def cost(self, shape: Shape, block: Block) -> tuple[Cost, Shape]:
        shape = tuple(-(-size // self.stride) for size in shape)
        reshape = Cost() if self.reshape is None else self.reshape.cost(shape, *self.reshape.sizes)[0]
        return reshape + batch_norm_cost(self.norm.sizes[0]), shape

    def channel_groups(self, name: str) -> Iterator[ChannelGroup]:
        return iter(())


def _inverted_residual(site: PathSite) -> InvertedResidual:
    return InvertedResidual(
        site.in_channels,
        site.out_channels,
        site.choices,
        site.stride,
        site.activation,
        site.squeeze,
        site.kernel_rule,
    )


PATHS: dict[str, Callable[[PathSite], PathModule]] = {
    MAIN_PATH: _inverted_residual,
    POINTWISE_PATH: Pointwise,
    NORM_PATH: NormActivation,
}
"""Kinds of path by the name under which architectures list them."""


def build_level(site: PathSite) -> Level:
    """The level with every path that one of `site.choices.paths` names."""
    names = sorted({name for paths in site.choices.paths for name in paths})
    for name in names:
        check_choice("path", name, PATHS)
    return Level({name: PATHS[name](site) for name in names})

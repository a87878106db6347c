"""Blocks made of elastic layers: convolution with normalisation, inverted residual, a level of paths, an exit.

A block is called with its value (`architecture.Block`); `cost` takes the same value and the input's spatial shape.
Each lists its elastic widths as `ChannelGroup`s.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar, final

from torch import Tensor, nn
from torch.nn import functional as F

from onceforall.architecture import Block
from onceforall.errors import check_choice
from onceforall.layers.channels import ChannelGroup, ChannelSlice
from onceforall.layers.elastic import (
    Cost,
    ElasticBatchNorm,
    ElasticConv,
    ElasticLayer,
    ElasticLinear,
    batch_norm_cost,
    make_divisible,
)
from onceforall.layers.kernels import Frozen
from onceforall.search_space import BlockChoices

__all__ = [
    "ACTIVATIONS",
    "ConvNorm",
    "Exit",
    "InvertedResidual",
    "Level",
    "PathModule",
    "ResidualUnit",
    "SqueezeExcitation",
    "add_up",
    "parts",
]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "hard_swish": F.hardswish}
"""Activations by name; hard_swish(x) = x * relu6(x + 3) / 6."""

Shape = tuple[int, ...]
Part = TypeVar("Part", bound=nn.Module)


def parts(module: nn.Module, kind: type[Part]) -> list[Part]:
    """The modules directly in `module` (a ModuleList) that are of class `kind`, in order."""
    return [child for child in module.children() if isinstance(child, kind)]


BlockCost = Callable[[Part, Shape, Block], tuple[Cost, Shape]]


def _remembered(cost: BlockCost[Part]) -> BlockCost[Part]:
    """A module's `cost`, computed once for each shape and block: a search asks for the same ones again and again."""

    @functools.wraps(cost)
    def remembering(module: Part, shape: Shape, block: Block) -> tuple[Cost, Shape]:
        known = module.__dict__.setdefault("_known_costs", {})
        if (shape, block) not in known:
            known[shape, block] = cost(module, shape, block)
        return known[shape, block]

    return remembering


def add_up(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of tensors of one shape, for which at most one new tensor is made.

    The given ones stay as they are. Adding to a sum in place is safe: no gradient asks for what a sum was.
    """
    if len(tensors) == 1:
        return tensors[0]
    total = tensors[0] + tensors[1]
    for tensor in tensors[2:]:
        total += tensor
    return total


@final
class ConvNorm(nn.Module):
    """Convolution, batch normalisation and, where one is named, an activation."""

    def __init__(self, conv: ElasticConv, activation: str | None = None) -> None:
        super().__init__()
        check_choice("activation", activation, (None, *ACTIVATIONS))
        self.conv = conv
        self.norm = ElasticBatchNorm(conv.sizes[1])
        self.activation = None if activation is None else ACTIVATIONS[activation]

    def forward(
        self, x: Tensor, out_channels: int | None = None, kernel_size: int | None = None, frozen: Frozen = False
    ) -> Tensor:
        """(N, in, ...) to (N, out, ...)."""
        x = self.norm(self.conv(x, out_channels, kernel_size, frozen), frozen)
        return x if self.activation is None else self.activation(x)

    def cost(self, shape: Shape, in_channels: int, out_channels: int, kernel_size: int) -> tuple[Cost, Shape]:
        """Cost of the active layers, and the output's spatial shape."""
        conv, shape = self.conv.cost(shape, in_channels, out_channels, kernel_size)
        return conv + batch_norm_cost(out_channels), shape

    def produces(self) -> tuple[ChannelSlice, ...]:
        """Where this block's output channels appear."""
        return ChannelSlice(self.conv, "out"), ChannelSlice(self.norm, "out")


@final
class SqueezeExcitation(nn.Module):
    """Scales each channel by a factor made from the means of all: mean, linear, ReLU, linear, hard sigmoid.

    Of `channels` active ones a quarter, rounded, is the hidden width.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ElasticLinear(channels, self.hidden(channels), init="fan_out")
        self.expand = ElasticLinear(self.hidden(channels), channels, init="fan_out")

    @staticmethod
    def hidden(channels: int) -> int:
        """Hidden width for `channels` active channels."""
        return make_divisible(channels // 4)

    def forward(self, x: Tensor, frozen: Frozen = False) -> Tensor:
        """(N, channels, ...) to the same shape."""
        channels = x.shape[1]
        mean = x.flatten(2).mean(2) if x.ndim != 4 else x.mean((2, 3))  # (N, channels)
        scale = F.hardsigmoid(self.expand(F.relu(self.reduce(mean, self.hidden(channels), frozen)), channels, frozen))
        return x * scale.view(*scale.shape, *(1,) * (x.ndim - 2))  # (N, channels, 1, ...)

    def cost(self, channels: int) -> Cost:
        """Cost of the active layers."""
        hidden = self.hidden(channels)
        return self.reduce.cost(channels, hidden) + self.expand.cost(hidden, channels)


class PathModule(nn.Module, ABC):
    """One of the parallel paths of a level; it is called with the value of the level's block."""

    @abstractmethod
    def forward(self, x: Tensor, block: Block, frozen: Frozen = False) -> Tensor:
        """(N, in, ...) to (N, out, ...), each axis divided by the stride, rounded up."""

    @abstractmethod
    def cost(self, shape: Shape, block: Block) -> tuple[Cost, Shape]:
        """Cost of the active layers, and the output's spatial shape."""

    @abstractmethod
    def channel_groups(self, name: str) -> Iterator[ChannelGroup]:
        """Its elastic widths; `name` is the block's in the search space."""

    def residual_output(self) -> ElasticLayer | None:
        """The layer whose output is added to the block's input; None where the input is not added to anything.

        With its parameters zero the block is the identity, and a block that is grown starts so.
        """
        return None


@final
class InvertedResidual(PathModule):
    """MBConv: 1x1 expansion, depthwise convolution, squeeze-excitation, linear 1x1 projection, each normalised.

    The input is added where stride is 1 and widths agree; nothing follows the sum. Without choices of expansion
    there is no expansion convolution.

    Args:
        in_channels: width of the input.
        out_channels: width of the output.
        choices: kernel sizes and expansion ratios; the hidden width is `make_divisible(round(in_channels * ratio))`.
        stride: of the depthwise convolution.
        activation: a name of `ACTIVATIONS`, after the first two convolutions.
        squeeze: whether it has squeeze-excitation, after the second activation.
        kernel_rule: how smaller kernels are made.
        spatial_dims: 2 for images, 3 for volumes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        choices: BlockChoices,
        stride: int = 1,
        activation: str = "relu",
        squeeze: bool = False,
        kernel_rule: str = "center_crop",
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.shortcut = stride == 1 and in_channels == out_channels
        self.ratios = choices.expand_ratios
        hidden = self.hidden(max(self.ratios)) if self.ratios else in_channels
        self.expand = (
            ConvNorm(ElasticConv(in_channels, hidden, spatial_dims=spatial_dims), activation) if self.ratios else None
        )
        depthwise = ElasticConv(
            hidden,
            hidden,
            choices.kernel_sizes,
            stride,
            depthwise=True,
            kernel_rule=kernel_rule,
            spatial_dims=spatial_dims,
        )
        self.depthwise = ConvNorm(depthwise, activation)
        self.squeeze = SqueezeExcitation(hidden) if squeeze else None
        self.project = ConvNorm(ElasticConv(hidden, out_channels, spatial_dims=spatial_dims))

    def hidden(self, expand_ratio: float | None) -> int:
        """Hidden width for an expansion ratio, which a block without expansion ignores."""
        if expand_ratio is None or not self.ratios:
            return self.in_channels
        return make_divisible(round(self.in_channels * expand_ratio))

    def forward(self, x: Tensor, block: Block, frozen: Frozen = False) -> Tensor:
        y = x if self.expand is None else self.expand(x, self.hidden(block.expand_ratio), frozen=frozen)
        y = self.depthwise(y, kernel_size=block.kernel_size, frozen=frozen)
        y = y if self.squeeze is None else self.squeeze(y, frozen)
        y = self.project(y, frozen=frozen)
        return x + y if self.shortcut else y

    def residual_output(self) -> ElasticLayer | None:
        return self.project.norm if self.shortcut else None

    @_remembered
    def cost(self, shape: Shape, block: Block) -> tuple[Cost, Shape]:
        hidden = self.hidden(block.expand_ratio)
        total = Cost() if self.expand is None else self.expand.cost(shape, self.in_channels, hidden, 1)[0]
        depthwise, shape = self.depthwise.cost(shape, hidden, hidden, block.kernel_size or 1)
        squeeze = Cost() if self.squeeze is None else self.squeeze.cost(hidden)
        project, shape = self.project.cost(shape, hidden, self.out_channels, 1)
        return total + depthwise + squeeze + project, shape

    def channel_groups(self, name: str) -> Iterator[ChannelGroup]:
        """The hidden width, and that of squeeze-excitation."""
        if self.expand is None:
            return
        variable = f"{name}.expand_ratio"
        sizes = {ratio: self.hidden(ratio) for ratio in self.ratios}
        project = ChannelSlice(self.project.conv, "in")
        slices = (*self.expand.produces(), *self.depthwise.produces(), project)
        if self.squeeze is not None:
            reduce, expand = self.squeeze.reduce, self.squeeze.expand
            slices += (ChannelSlice(reduce, "in"), ChannelSlice(expand, "out"))
            hidden_sizes = {ratio: self.squeeze.hidden(size) for ratio, size in sizes.items()}
            unit = ChannelSlice(expand, "in")
            yield ChannelGroup(variable, hidden_sizes, (ChannelSlice(reduce, "out"), unit), unit, squeeze=True)
        yield ChannelGroup(variable, sizes, slices, project)


@final
class ResidualUnit(nn.Module):
    """`x + conv(relu(norm(x)))`, for a stage of elastic width; the convolution's output is linear.

    Args:
        channels: largest width.
        kernel_sizes: of the convolution.
        kernel_rule: how smaller kernels are made.
        spatial_dims: 2 for images, 3 for volumes.
    """

    def __init__(self, channels: int, kernel_sizes: Sequence[int], kernel_rule: str, spatial_dims: int = 2) -> None:
        super().__init__()
        self.norm = ElasticBatchNorm(channels)
        self.conv = ElasticConv(channels, channels, kernel_sizes, kernel_rule=kernel_rule, spatial_dims=spatial_dims)

    def forward(self, x: Tensor, kernel_size: int | None = None, frozen: Frozen = False) -> Tensor:
        """(N, channels, ...) to the same shape."""
        return x + self.conv(F.relu(self.norm(x, frozen)), x.shape[1], kernel_size, frozen)

    def residual_output(self) -> ElasticLayer:
        """The layer whose output is added to the input."""
        return self.conv

    def cost(self, shape: Shape, channels: int, kernel_size: int) -> Cost:
        """Cost of the active layers on `channels` maps of spatial `shape`."""
        conv, _ = self.conv.cost(shape, channels, channels, kernel_size)
        return batch_norm_cost(channels) + conv

    def places(self) -> tuple[ChannelSlice, ...]:
        """Where the channels of its input, which are those of its output, appear."""
        return ChannelSlice(self.norm, "out"), ChannelSlice(self.conv, "in"), ChannelSlice(self.conv, "out")


@final
class Level(nn.Module):
    """Parallel paths that see the same input and are summed; the block's value says which of them run."""

    def __init__(self, paths: Mapping[str, PathModule]) -> None:
        super().__init__()
        self.paths = nn.ModuleDict(paths)

    def path(self, name: str) -> PathModule:
        """The path of that name."""
        module = self.paths[name]
        assert isinstance(module, PathModule)
        return module

    def forward(self, x: Tensor, block: Block, frozen: Frozen = False) -> Tensor:
        """(N, in, ...) to (N, out, ...)."""
        return add_up([self.path(name)(x, block, frozen) for name in block.paths])

    @_remembered
    def cost(self, shape: Shape, block: Block) -> tuple[Cost, Shape]:
        """Cost of the paths that run, and the output's spatial shape."""
        costs = [self.path(name).cost(shape, block) for name in block.paths]
        return sum((cost for cost, _ in costs), Cost()), costs[0][1]

    def channel_groups(self, name: str) -> Iterator[ChannelGroup]:
        """The elastic widths of its paths."""
        for path in self.paths:
            yield from self.path(path).channel_groups(name)


@final
class Exit(nn.Module):
    """From feature maps to class scores: 1x1 convolution, global mean, linear without bias, dropout, linear."""

    def __init__(
        self, in_channels: int, features: int, mixed: int, num_classes: int, dropout: float, spatial_dims: int = 2
    ) -> None:
        super().__init__()
        self.expand = ConvNorm(ElasticConv(in_channels, features, spatial_dims=spatial_dims), "hard_swish")
        self.mix = ElasticLinear(features, mixed, bias=False, init="fan_out")
        self.dropout = nn.Dropout(dropout)
        self.classify = ElasticLinear(mixed, num_classes)

    def forward(self, x: Tensor, frozen: Frozen = False) -> Tensor:
        """(N, in, ...) to (N, classes)."""
        x = self.expand(x, frozen=frozen)
        x = x.flatten(2).mean(2) if x.ndim != 4 else x.mean((2, 3))  # (N, features)
        return self.classify(self.dropout(F.hardswish(self.mix(x, frozen=frozen))), frozen=frozen)

    def cost(self, shape: Shape) -> Cost:
        """Cost of all its layers on an input of spatial `shape`."""
        in_channels, features, _ = self.expand.conv.sizes
        expand, _ = self.expand.cost(shape, in_channels, features, 1)
        return expand + self.mix.cost(*self.mix.sizes) + self.classify.cost(*self.classify.sizes)

"""Elastic convolution, batch normalisation and linear layer.

Each has one method, `tensors`, that says which tensors a layer of given sizes owns. Its forward pass uses it, and a
sub-network is extracted by calling it: the rule of sharing is written once. A slice of full size is the tensor
itself, so a network without choices left runs on its own parameters and exports as an ordinary network.

Conventions: one multiply-add is one MAC; convolutions and linear layers are counted, normalisation, activations,
pooling and additions are not.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onceforall.errors import UserError, check_choice
from onceforall.layers.depthwise import depthwise_conv2d, trains_on_cpu
from onceforall.layers.kernels import KERNEL_RULES, Frozen

__all__ = [
    "Channels",
    "Cost",
    "ElasticBatchNorm",
    "ElasticConv",
    "ElasticLayer",
    "ElasticLinear",
    "batch_norm_cost",
    "channels_last",
    "leading",
    "leading_parts",
    "make_divisible",
    "pointwise_conv2d",
]

Channels = int | tuple[int, ...]
"""A number of channels, or one for each of several inputs that a layer reads side by side."""

_INITS = ("uniform", "fan_out")
_VOLUMES_LAST = torch.channels_last_3d
_SMALL_MAP = 49  # positions up to which a 1x1 convolution is trained as a matrix product


def make_divisible(value: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `value`, but at least `divisor` and at least 0.9 of `value`.

    >>> [make_divisible(v) for v in (3, 28, 19.2, 134.4)]
    [8, 32, 24, 136]
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def leading(tensor: Tensor, size: int, dim: int = 0) -> Tensor:
    """The first `size` entries of `tensor` along `dim`: a view, or the tensor itself where that is all of it."""
    return tensor if tensor.shape[dim] == size else tensor.narrow(dim, 0, size)


def leading_parts(tensor: Tensor, sizes: tuple[int, ...], full: tuple[int, ...], dim: int) -> Tensor:
    """The first `sizes` entries of each part of `tensor` along `dim`, where the parts have `full` entries."""
    if len(full) == 1 or sizes == full:
        return leading(tensor, sum(sizes), dim)
    parts = zip(tensor.split(full, dim), sizes, strict=True)
    return torch.cat([leading(part, size, dim) for part, size in parts], dim)


def channels_last(x: Tensor) -> Tensor:
    """`x` (N, C, H, W) with its channels stored next to each other, in which convolutions are fastest.

    Networks do this after their stem: an image with one channel does not tell its format. A traced graph is left
    as it is.
    """
    if x.ndim != 4 or torch.compiler.is_compiling():
        return x
    return x.contiguous(memory_format=torch.channels_last)


def pointwise_conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """1x1 convolution of (N, in, h, w) with `weight` (out, in, 1, 1): `F.conv2d`, faster to train on the CPU.

    While the gradient of `weight` is recorded on the CPU, small maps in `channels_last` format go through one matrix
    product of (N h w, in) with (in, out), which also takes a slice of a larger weight without a copy. On maps of side
    2-7 and batches of 16-128 forward and both gradients together take 0.56-1.07 of the time of `F.conv2d` (one thread,
    AVX2, float32; median of 140 sizes 0.81); larger maps and smaller batches gain nothing. Elsewhere this is one
    `F.conv2d`.
    """
    # asked first: a traced graph would otherwise be one for fewer than 16 images
    small = trains_on_cpu(x, weight) and x.shape[0] >= 16 and math.prod(x.shape[2:]) <= _SMALL_MAP
    if small and x.is_contiguous(memory_format=torch.channels_last):
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1)).permute(0, 3, 1, 2)  # (N, h, w, out) in memory
    return F.conv2d(x, weight)


@final
@dataclass(frozen=True, slots=True)
class Cost:
    """What a network costs for one input.

    Args:
        params: learned numbers (weights, biases, scale and shift of normalisation).
        macs: multiply-adds of convolutions and linear layers.
        activations: numbers that convolutions and linear layers write.
        weight_bytes: size of what is stored at 4 bytes a number, running statistics included.
        peak_bytes: the most that one convolution or linear layer reads and writes, at 4 bytes a number; what a skip or
            a parallel path keeps meanwhile comes on top.
    """

    params: int = 0
    macs: int = 0
    activations: int = 0
    weight_bytes: int = 0
    peak_bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.params + other.params,
            self.macs + other.macs,
            self.activations + other.activations,
            self.weight_bytes + other.weight_bytes,
            max(self.peak_bytes, other.peak_bytes),
        )


class ElasticLayer(nn.Module, ABC):
    """A layer that holds the tensors of its largest size and can lend those of a smaller one."""

    sizes: tuple[Any, ...]
    """The full sizes, as `tensors` takes them: numbers, or `Channels` where inputs are several parts."""

    @abstractmethod
    def tensors(self, *sizes: Any) -> dict[str, Tensor]:
        """The tensors that a layer of `sizes` owns, under the names of that layer's state."""

    @abstractmethod
    def axis(self, name: Literal["in", "out"]) -> list[tuple[Tensor, int]]:
        """The tensors, each with the dimension, that are indexed by the layer's input or output channels."""

    @abstractmethod
    def reset(self, generator: torch.Generator) -> None:
        """Initialise the layer's parameters, drawing from `generator` only."""


@final
class ElasticConv(ElasticLayer):
    """Convolution with elastic input channels, output channels and kernel size; "same" padding k // 2.

    Where its inputs are several tensors side by side, as the skip and the up-sampled maps of a U-Net are, a smaller
    layer takes the leading channels of each of them, and so each weight keeps the channel that it reads.

    Args:
        in_channels: largest number of input channels; of several inputs a tuple with one number for each.
        out_channels: largest number of output channels; equal to `in_channels` where `depthwise`.
        kernel_sizes: the sizes it can take; the largest is stored.
        stride: in every spatial axis; the output has ceil(n / stride) positions on an axis of n.
        depthwise: each channel is convolved with a kernel of its own.
        bias: whether it has one.
        kernel_rule: a name of `KERNEL_RULES`.
        spatial_dims: 2 for images, 3 for volumes.
        init: "fan_out", normal with variance 2 / (k^n out_channels), for what is normalised behind it; or "uniform"
            in +-1 / sqrt(k^n in_channels), for outputs that are not. k is the side of the stored weight.
    """

    def __init__(
        self,
        in_channels: Channels,
        out_channels: int,
        kernel_sizes: Sequence[int] = (1,),
        stride: int = 1,
        depthwise: bool = False,
        bias: bool = False,
        kernel_rule: str = "center_crop",
        spatial_dims: int = 2,
        init: Literal["fan_out", "uniform"] = "fan_out",
    ) -> None:
        super().__init__()
        check_choice("kernel_rule", kernel_rule, KERNEL_RULES)
        check_choice("init", init, _INITS)
        self.init = init
        self.parts = _parts(in_channels)
        self.sizes = (in_channels, out_channels, max(kernel_sizes))
        self.stride = stride
        self.depthwise = depthwise
        self.convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[spatial_dims]
        self.spatial_dims = spatial_dims
        channels = (out_channels, 1 if depthwise else sum(self.parts))
        rule = KERNEL_RULES[kernel_rule](tuple(kernel_sizes), spatial_dims, channels)
        self.weight = nn.Parameter(torch.empty(channels + (rule.stored_size,) * spatial_dims))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.kernel_rule = rule

    def tensors(
        self, in_channels: Channels, out_channels: int, kernel_size: int, frozen: Frozen = False
    ) -> dict[str, Tensor]:
        """Leading output channels, leading channels of each input, and the kernel that the rule makes."""
        if kernel_size not in self.kernel_rule.kernel_sizes:
            raise UserError(f"kernel_size {kernel_size!r}: this layer has {self.kernel_rule.kernel_sizes}.")

        def cut(tensor: Tensor) -> Tensor:
            tensor = leading(tensor, out_channels)
            return tensor if self.depthwise else leading_parts(tensor, _parts(in_channels), self.parts, 1)

        out = {"weight": self.kernel_rule(cut(self.weight), kernel_size, frozen, cut)}
        return out if self.bias is None else out | {"bias": leading(self.bias, out_channels)}

    def forward(
        self,
        x: Tensor | tuple[Tensor, ...],
        out_channels: int | None = None,
        kernel_size: int | None = None,
        frozen: Frozen = False,
    ) -> Tensor:
        """(N, in, ...), or a tuple of these, to (N, out, ...) with the active sizes; None means the full size.

        What is `frozen` passes gradients on but gets none itself.
        """
        inputs = (x,) if isinstance(x, Tensor) else x
        channels = tuple(part.shape[1] for part in inputs)
        maps = inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)
        out_channels = maps.shape[1] if self.depthwise else out_channels or self.weight.shape[0]
        kernel_size = kernel_size or max(self.kernel_rule.kernel_sizes)
        tensors = _detached(self.tensors(channels, out_channels, kernel_size, frozen), frozen)
        weight, bias = tensors["weight"], tensors.get("bias")
        if self.depthwise and self.spatial_dims == 2 and bias is None:
            return depthwise_conv2d(maps, weight, self.stride)
        if weight.shape[2:] == (1, 1) and self.stride == 1 and bias is None:
            return pointwise_conv2d(maps, weight)
        if maps.ndim == 5 and maps.is_contiguous(memory_format=_VOLUMES_LAST) and not torch.compiler.is_compiling():
            weight = weight.contiguous(memory_format=_VOLUMES_LAST)  # or the convolution would not profit from it
        groups = maps.shape[1] if self.depthwise else 1
        return self.convolve(maps, weight, bias, self.stride, weight.shape[-1] // 2, 1, groups)

    def cost(
        self, shape: tuple[int, ...], in_channels: Channels, out_channels: int, kernel_size: int
    ) -> tuple[Cost, tuple[int, ...]]:
        """Cost of the active layer on an input of spatial `shape`, and the output's spatial shape."""
        out_shape = tuple(-(-size // self.stride) for size in shape)
        read = sum(_parts(in_channels))
        weights = out_channels * (1 if self.depthwise else read) * kernel_size**self.spatial_dims
        params = weights + (0 if self.bias is None else out_channels)
        positions = math.prod(out_shape)
        written = out_channels * positions
        at_once = 4 * (read * math.prod(shape) + written)
        return Cost(params, weights * positions, written, 4 * params, at_once), out_shape

    def axis(self, name: Literal["in", "out"]) -> list[tuple[Tensor, int]]:
        dim = 1 if name == "in" else 0
        return _axis(self.weight, self.bias, name) + [(part, dim) for part in self.kernel_rule.along_channels()]

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        positions = self.kernel_rule.stored_size**self.spatial_dims
        if self.init == "uniform":
            _fill_uniform(self.weight, math.sqrt(1 / (positions * self.weight.shape[1])), generator)
        else:
            _fill_normal(self.weight, math.sqrt(2 / (positions * self.sizes[1])), generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.kernel_rule.reset()


@final
class ElasticBatchNorm(ElasticLayer):
    """Batch normalisation of as many leading channels as the input has.

    In training mode it normalises by the batch and moves its running statistics; these are a mixture over all
    sub-networks, so a sub-network is evaluated only after its own were re-estimated. Where `batch_statistics` is set,
    it normalises by the batch in any mode and moves nothing.
    """

    def __init__(self, channels: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.sizes = (channels,)
        self.momentum = momentum
        self.epsilon = epsilon
        self.batch_statistics = False
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.running_mean: Tensor
        self.running_var: Tensor

    def tensors(self, channels: int) -> dict[str, Tensor]:
        """Leading scale, shift, running mean and running variance."""
        names = ("weight", "bias", "running_mean", "running_var")
        return {name: leading(getattr(self, name), channels) for name in names}

    def forward(self, x: Tensor, frozen: Frozen = False) -> Tensor:
        """(N, channels, ...) to the same shape; where all is `frozen`, scale, shift and statistics do not move."""
        own = _detached(self.tensors(x.shape[1]), frozen)
        if self.batch_statistics or (frozen is True and self.training):
            return F.batch_norm(x, None, None, own["weight"], own["bias"], True, 0.0, self.epsilon)
        mean, var = own["running_mean"], own["running_var"]
        return F.batch_norm(x, mean, var, own["weight"], own["bias"], self.training, self.momentum, self.epsilon)

    def axis(self, name: Literal["in", "out"]) -> list[tuple[Tensor, int]]:
        return [(tensor, 0) for tensor in (self.weight, self.bias, self.running_mean, self.running_var)]

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        for tensor, value in ((self.weight, 1), (self.bias, 0), (self.running_mean, 0), (self.running_var, 1)):
            tensor.fill_(value)


@final
class ElasticLinear(ElasticLayer):
    """Linear layer with elastic input and output features.

    Args:
        in_features: largest number of input features.
        out_features: largest number of output features.
        bias: whether it has one.
        init: "uniform" in +-1/sqrt(in_features), or "fan_out", normal with variance 2/out_features.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, init: Literal["uniform", "fan_out"] = "uniform"
    ) -> None:
        super().__init__()
        check_choice("init", init, _INITS)
        self.sizes = (in_features, out_features)
        self.init = init
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None

    def tensors(self, in_features: int, out_features: int) -> dict[str, Tensor]:
        """Leading output features and leading input features."""
        out = {"weight": leading(leading(self.weight, out_features), in_features, 1)}
        return out if self.bias is None else out | {"bias": leading(self.bias, out_features)}

    def forward(self, x: Tensor, out_features: int | None = None, frozen: Frozen = False) -> Tensor:
        """(N, in) to (N, out)."""
        tensors = _detached(self.tensors(x.shape[1], out_features or self.sizes[1]), frozen)
        return F.linear(x, tensors["weight"], tensors.get("bias"))

    def cost(self, in_features: int, out_features: int) -> Cost:
        """Cost of the active layer for one row."""
        params = in_features * out_features + (0 if self.bias is None else out_features)
        return Cost(params, in_features * out_features, out_features, 4 * params, 4 * (in_features + out_features))

    def axis(self, name: Literal["in", "out"]) -> list[tuple[Tensor, int]]:
        return _axis(self.weight, self.bias, name)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        if self.init == "uniform":
            _fill_uniform(self.weight, 1 / math.sqrt(self.sizes[0]), generator)
        else:
            _fill_normal(self.weight, math.sqrt(2 / self.sizes[1]), generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def batch_norm_cost(channels: int) -> Cost:
    """Cost of normalising `channels` channels: scale and shift are parameters, the statistics are only stored."""
    return Cost(2 * channels, 0, 0, 16 * channels)


def _parts(channels: Channels) -> tuple[int, ...]:
    return (channels,) if isinstance(channels, int) else channels


def _axis(weight: Tensor, bias: Tensor | None, name: Literal["in", "out"]) -> list[tuple[Tensor, int]]:
    if name == "in":
        return [(weight, 1)]
    return [(weight, 0)] if bias is None else [(weight, 0), (bias, 0)]


def _fill_normal(tensor: Tensor, std: float, generator: torch.Generator) -> None:
    tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64) * std)


def _fill_uniform(tensor: Tensor, bound: float, generator: torch.Generator) -> None:
    noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
    tensor.copy_((2 * noise - 1) * bound)


def _detached(tensors: dict[str, Tensor], frozen: Frozen) -> dict[str, Tensor]:
    """The tensors without gradient where all of the layer is frozen; of parts of a kernel its rule knows."""
    return {name: tensor.detach() for name, tensor in tensors.items()} if frozen is True else tensors

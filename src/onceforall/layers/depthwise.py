"""Depthwise 2-D convolution whose weight gradient is fast on the CPU."""

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["depthwise_conv2d", "trains_on_cpu"]

_CHUNK = 1 << 19  # input values whose weight gradient is computed at once (2 MB of float32, to stay in the cache)


def depthwise_conv2d(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Depthwise cross-correlation, zero-padded by `k // 2`: the function of `F.conv2d`, faster to train on the CPU.

    `y[n, c, i, j] = sum_{a, b} weight[c, 0, a, b] * x[n, c, stride * i + a - k // 2, stride * j + b - k // 2]`

    While the gradient of `weight` is recorded on the CPU, two things differ from `F.conv2d`, though not the result:

    - Taps that only ever meet padding, because the map is so small (`2 * size - 1` remain per axis), are cut off.
    - Where PyTorch's weight gradient is slow (`_has_fast_gradient`), `_DepthwiseConv2d` computes it. For kernels of
      5 and 7 PyTorch takes 3-6 times its forward pass (contiguous: 6-30), for kernels larger than the map 40-190 times.
      Forward and both gradients together (one thread, AVX2, batch 8-64, float32) take this share of the time of
      `F.conv2d`: on maps of 7-32, channels-last with stride 1, 0.6-0.95 (one of 18 sizes: 1.07), contiguous 0.15-0.7;
      with a kernel larger than the map 0.04-0.25, contiguous 0.04-0.45 (7 on 4, stride 2: 0.6).

    Everywhere else (GPU, evaluation, autocast, half precision, export and `torch.compile`) this is one `F.conv2d`.

    Args:
        x: (batch, channels, height, width), in any memory format.
        weight: (channels, 1, kernel height, kernel width), both odd.
        stride: of both axes.

    Returns:
        (batch, channels, ceil(height / stride), ceil(width / stride)).
    """
    if weight.shape[-2] % 2 == 0 or weight.shape[-1] % 2 == 0:
        raise ValueError(f"a depthwise kernel needs odd sizes, got {tuple(weight.shape[-2:])}")
    if not trains_on_cpu(x, weight):
        return _conv2d(x, weight, stride)
    weight = _crop(weight, x.shape[-2], x.shape[-1])
    if _has_fast_gradient(x, weight, stride):
        return _conv2d(x, weight, stride)
    return _DepthwiseConv2d.apply(x, weight, stride)


def trains_on_cpu(x: Tensor, weight: Tensor) -> bool:
    """Whether the gradient of `weight` is recorded in a plain pass in full precision over images on the CPU."""
    return (
        torch.is_grad_enabled()
        and weight.requires_grad
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.dtype in (torch.float32, torch.float64)
        and x.dim() == 4
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _has_fast_gradient(x: Tensor, weight: Tensor, stride: int) -> bool:
    """Whether PyTorch's own weight gradient is the faster one.

    Its vectorised routine (oneDNN) takes kernels of at most 3 columns that fit into the map, strided ones with a row to
    spare; below 4 columns nothing beats it. Strided, wide and channels-last, its second routine is as good as ours.
    """
    fits = weight.shape[-2] + (stride > 1) <= x.shape[-2]
    return fits and (weight.shape[-1] <= 3 or (stride > 1 and x.is_contiguous(memory_format=torch.channels_last)))


def _crop(weight: Tensor, height: int, width: int) -> Tensor:
    """The centre of the kernel that can meet a map of this size; the tensor itself if that is all of it."""
    top = max(0, weight.shape[-2] // 2 - (height - 1))
    left = max(0, weight.shape[-1] // 2 - (width - 1))
    if top == left == 0:
        return weight
    return weight[..., top : weight.shape[-2] - top, left : weight.shape[-1] - left]


def _conv2d(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, _padding(weight), groups=weight.shape[0])


def _padding(weight: Tensor) -> tuple[int, int]:
    return weight.shape[-2] // 2, weight.shape[-1] // 2


@final
class _DepthwiseConv2d(torch.autograd.Function):
    """`F.conv2d` with its own weight gradient (no double backward)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _conv2d(x, weight, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            stride, padding, groups = [ctx.stride] * 2, list(_padding(weight)), weight.shape[0]
            grad_x = torch.ops.aten.convolution_backward(
                grad, x, weight, None, stride, padding, [1, 1], False, [0, 0], groups, [True, False, False]
            )[0]
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(x, grad, weight, ctx.stride)
        return grad_x, grad_weight, None


def _weight_gradient(x: Tensor, grad: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The gradient of `weight`, a few images at a time: large maps whole take up to four times as long."""
    images = max(1, _CHUNK // x[0].numel())
    chunks = zip(x.split(images), grad.split(images), strict=True)
    return torch.stack([_chunk_gradient(maps, grads, weight, stride) for maps, grads in chunks]).sum(0)


def _chunk_gradient(x: Tensor, grad: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The weight gradient as a depthwise convolution of every map with its own output gradient as the kernel.

    `dw[c, 0, a, b] = sum_n sum_{i, j} grad[n, c, i, j] * x[n, c, stride * i + a - k // 2, stride * j + b - k // 2]`:
    the inner sum correlates one map with `grad` dilated by `stride`; output pixel (a, b) is tap (a, b).
    """
    batch, channels, height, width = x.shape
    padding = _padding(weight)
    if any(p > stride * (size - 1) for p, size in zip(padding, grad.shape[2:], strict=True)):
        # The vectorised forward kernel refuses padding beyond its own extent, so write the zeros of the dilation out.
        spread = grad.new_zeros(batch, channels, height, width)
        spread[..., ::stride, ::stride] = grad
        grad, stride = spread, 1
    maps = x.contiguous().view(1, batch * channels, height, width)
    kernels = grad.contiguous().view(batch * channels, 1, *grad.shape[2:])
    taps = F.conv2d(maps, kernels, None, 1, padding, dilation=stride, groups=batch * channels)
    taps = taps[..., : weight.shape[-2], : weight.shape[-1]]  # a stride that does not divide the map leaves one over
    return taps.reshape(batch, *weight.shape).sum(0)  # (channels, 1, kernel height, kernel width)

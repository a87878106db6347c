"""`depthwise_conv2d` against `F.conv2d` and its autograd."""

from collections.abc import Callable
from typing import Any, final

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onceforall.layers import depthwise
from onceforall.layers.depthwise import depthwise_conv2d

Sizes = tuple[int, int, int, int, int, int]

# (batch, channels, height, width, kernel, stride)
SIZES: list[Sizes] = [
    (2, 4, 8, 8, 3, 1),
    (2, 4, 8, 8, 5, 1),
    (2, 4, 8, 8, 7, 1),
    (2, 4, 8, 8, 5, 2),
    (2, 4, 8, 8, 7, 2),
    (3, 8, 13, 13, 5, 1),
    (3, 8, 13, 13, 7, 2),
    (2, 4, 7, 7, 5, 2),
    (2, 4, 7, 7, 7, 1),
    (2, 4, 7, 7, 7, 2),
    (2, 3, 5, 9, 7, 1),
    (2, 3, 9, 6, 5, 2),
    (2, 3, 2, 11, 7, 1),
    (2, 3, 11, 2, 7, 2),
    (2, 3, 1, 6, 5, 1),
    (2, 3, 6, 1, 5, 2),
    (4, 8, 4, 4, 5, 1),
    (4, 8, 4, 4, 7, 1),
    (4, 8, 4, 4, 7, 2),
    (4, 8, 3, 3, 3, 2),
    (4, 8, 3, 3, 5, 2),
    (4, 8, 3, 3, 7, 1),
    (4, 8, 2, 2, 3, 1),
    (4, 8, 2, 2, 3, 2),
    (4, 8, 2, 2, 5, 1),
    (4, 8, 2, 2, 7, 2),
    (4, 8, 1, 1, 3, 1),
    (4, 8, 1, 1, 7, 2),
    (1, 1, 8, 8, 5, 1),
    (2, 4, 8, 8, 5, 3),
    (2, 4, 8, 8, 1, 1),
]


def _contiguous(x: Tensor) -> Tensor:
    return x.contiguous()


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _strided(x: Tensor) -> Tensor:
    """The same values as a view that is dense in no memory format."""
    return F.pad(x, (1, 2, 1, 0, 2, 1))[:, 2:-1, 1:, 1:-2]


def _whole(weight: Tensor) -> Tensor:
    return weight


def _leading_slice(weight: Tensor) -> Tensor:
    return weight[: weight.shape[0] - 3]


def _centre_crop(weight: Tensor) -> Tensor:
    return weight[:, :, 1:-1, 1:-1]


def _reference(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=weight.shape[0])


def _draw(sizes: Sizes, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, int]:
    batch, channels, height, width, kernel, stride = sizes
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, height, width, dtype=torch.float64, generator=generator)
    weight = torch.randn(channels, 1, kernel, kernel, dtype=torch.float64, generator=generator)
    return x.to(dtype), weight.to(dtype), stride


def _results(
    convolution: Callable[[Tensor, Tensor, int], Tensor],
    layout: Callable[[Tensor], Tensor],
    view: Callable[[Tensor], Tensor],
    x: Tensor,
    weight: Tensor,
    stride: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, and the gradients of a weighted sum of it; the weighting has the layout of the input."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = convolution(layout(x), view(weight), stride)
    weighting = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).to(y.dtype).sin().view_as(y.detach().contiguous())
    grad_x, grad_weight = torch.autograd.grad(y, (x, weight), layout(weighting))
    return y, grad_x, grad_weight


def _is_ours(y: Tensor) -> bool:
    return type(y.grad_fn).__name__ == "_DepthwiseConv2dBackward"


@pytest.mark.parametrize("layout", [_contiguous, _channels_last, _strided])
@pytest.mark.parametrize("view", [_whole, _leading_slice, _centre_crop])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_output_and_gradients_are_those_of_conv2d(
    sizes: Sizes, view: Callable[[Tensor], Tensor], layout: Callable[[Tensor], Tensor]
) -> None:
    x, weight, stride = _draw(sizes)
    if view is _leading_slice:
        weight = torch.cat([weight, weight[:1], weight[:1], weight[:1]])
    if view is _centre_crop:
        weight = F.pad(weight, (1, 1, 1, 1), value=3.0)
    expected = _results(_reference, layout, view, x, weight, stride)
    got = _results(depthwise_conv2d, layout, view, x, weight, stride)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout", [_contiguous, _channels_last])
@pytest.mark.parametrize("sizes", [(8, 16, 8, 8, 5, 1), (8, 16, 4, 4, 7, 2), (8, 16, 2, 2, 7, 1)], ids=str)
def test_single_precision_keeps_the_memory_format(sizes: Sizes, layout: Callable[[Tensor], Tensor]) -> None:
    got = _results(depthwise_conv2d, layout, _whole, *_draw(sizes, torch.float32))
    expected = _results(_reference, layout, _whole, *_draw(sizes))
    assert got[0].is_contiguous(memory_format=torch.channels_last) == (layout is _channels_last)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 3 * 8 * 13 * 13], ids=["image by image", "three images"])
def test_chunks_of_the_batch_add_up(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, stride = _draw((5, 8, 13, 13, 5, 1))
    monkeypatch.setattr(depthwise, "_CHUNK", chunk)
    got = _results(depthwise_conv2d, _contiguous, _whole, x, weight, stride)
    torch.testing.assert_close(
        got[2], _results(_reference, _contiguous, _whole, x, weight, stride)[2], rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("sizes", [(2, 2, 5, 4, 5, 1), (2, 2, 4, 4, 7, 2)], ids=str)
def test_gradcheck(sizes: Sizes) -> None:
    x, weight, stride = _draw(sizes)
    x.requires_grad_()
    weight.requires_grad_()
    assert _is_ours(depthwise_conv2d(x, weight, stride))
    assert torch.autograd.gradcheck(lambda a, b: depthwise_conv2d(a, b, stride), (x, weight))


def test_either_gradient_alone() -> None:
    x, weight, stride = _draw((2, 4, 8, 8, 7, 1))
    _, grad_x, grad_weight = _results(_reference, _contiguous, _whole, x, weight, stride)
    seed = torch.linspace(-1, 2, x.numel(), dtype=x.dtype).sin().view_as(x)  # the weighting of `_results`
    y = depthwise_conv2d(x, weight.clone().requires_grad_(), stride)
    assert _is_ours(y)
    y = depthwise_conv2d(x.clone().requires_grad_(), weight, stride)
    assert not _is_ours(y)
    frozen_input = weight.clone().requires_grad_()
    torch.testing.assert_close(
        torch.autograd.grad(depthwise_conv2d(x, frozen_input, stride), frozen_input, seed)[0], grad_weight
    )
    frozen_weight = x.clone().requires_grad_()
    torch.testing.assert_close(
        torch.autograd.grad(depthwise_conv2d(frozen_weight, weight, stride), frozen_weight, seed)[0], grad_x
    )


@pytest.mark.parametrize(
    ("sizes", "layout", "ours"),
    [
        ((2, 8, 8, 8, 7, 1), _contiguous, True),
        ((2, 8, 8, 8, 7, 1), _channels_last, True),
        ((2, 8, 8, 8, 5, 1), _channels_last, True),
        ((2, 8, 8, 8, 5, 2), _contiguous, True),
        ((2, 8, 8, 8, 5, 2), _channels_last, False),
        ((2, 8, 8, 8, 3, 1), _contiguous, False),
        ((2, 8, 3, 3, 3, 1), _contiguous, False),
        ((2, 8, 3, 3, 3, 2), _contiguous, True),
        ((2, 8, 2, 2, 3, 1), _channels_last, True),
        ((2, 8, 1, 1, 7, 1), _channels_last, False),
    ],
)
def test_our_gradient_is_chosen_where_it_is_faster(
    sizes: Sizes, layout: Callable[[Tensor], Tensor], ours: bool
) -> None:
    x, weight, stride = _draw(sizes, torch.float32)
    assert _is_ours(depthwise_conv2d(layout(x), weight.requires_grad_(), stride)) == ours


def test_a_small_map_sees_a_cropped_kernel() -> None:
    x, weight, stride = _draw((2, 8, 2, 2, 7, 1))
    weight.requires_grad_()
    node: Any = depthwise_conv2d(x, weight, stride).grad_fn
    assert [tuple(t.shape) for t in node.saved_tensors] == [(2, 8, 2, 2), (8, 1, 3, 3)]


def test_plain_conv2d_without_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, stride = _draw((2, 8, 8, 8, 7, 1), torch.float32)
    monkeypatch.setattr(depthwise, "_DepthwiseConv2d", None)
    with torch.no_grad():
        assert torch.equal(depthwise_conv2d(x, weight.requires_grad_(), stride), _reference(x, weight, stride))
    with pytest.raises(AttributeError):  # what is replaced above is what training calls
        depthwise_conv2d(x, weight, stride)


def test_plain_conv2d_under_autocast_in_half_precision_and_for_an_empty_batch() -> None:
    x, weight, stride = _draw((2, 8, 8, 8, 7, 1), torch.float32)
    weight.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = depthwise_conv2d(x, weight, stride)
    assert y.dtype == torch.bfloat16
    assert not _is_ours(y)
    half = weight.detach().bfloat16().requires_grad_()
    assert not _is_ours(depthwise_conv2d(x.bfloat16(), half, stride))
    empty = depthwise_conv2d(x[:0], weight, stride)
    assert empty.shape == (0, 8, 8, 8)
    assert torch.autograd.grad(empty.sum(), weight)[0].abs().sum() == 0


@final
class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 1, 7, 7))

    def forward(self, x: Tensor) -> Tensor:
        return depthwise_conv2d(x, self.weight, 1)


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_graph_holds_one_convolution(strict: bool) -> None:
    program = torch.export.export(_Layer(), (torch.ones(2, 8, 4, 4),), strict=strict)
    calls = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert calls == ["aten.conv2d.default"]


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"odd sizes, got \(4, 4\)"):
        depthwise_conv2d(torch.ones(1, 2, 8, 8), torch.ones(2, 1, 4, 4), 1)

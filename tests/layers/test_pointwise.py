"""1x1 convolution as a matrix product: equal to `F.conv2d`, taken where it is fast."""

import pytest
import torch
from torch.nn import functional as F

from onceforall.layers.elastic import ElasticConv, pointwise_conv2d


def case(batch, side, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 12, side, side, generator=generator, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )
    stored = torch.randn(10, 16, 1, 1, generator=generator, dtype=dtype)
    grad = torch.randn(batch, 7, side, side, generator=generator, dtype=dtype)
    return x.requires_grad_(), stored.requires_grad_(), grad


@pytest.mark.parametrize(("batch", "side"), [(16, 1), (16, 2), (17, 7), (16, 8), (3, 4)])
def test_equals_convolution_and_its_gradients(batch, side):
    x, stored, grad = case(batch, side)
    weight = stored[:7, :12]
    ours, theirs = pointwise_conv2d(x, weight), F.conv2d(x, weight)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad(ours, (x, stored), grad), torch.autograd.grad(theirs, (x, stored), grad), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("batch", "side", "fast"), [(16, 4, True), (16, 7, True), (16, 8, False), (15, 4, False)])
def test_fast_path_is_taken_in_training_only(batch, side, fast):
    x, _, _ = case(batch, side, torch.float32)
    conv = ElasticConv(16, 10)
    conv.reset(torch.Generator().manual_seed(0))
    y = conv(x, 7)
    assert ("Convolution" not in y.grad_fn.name()) == fast
    assert y.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(conv(x, 7), y, rtol=1e-5, atol=1e-5)
    assert "Convolution" in conv(x.detach().contiguous(), 7).grad_fn.name(), "channels apart"

"""Elastic layers against torch's plain layers, built by hand with sliced weights."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from onceforall.errors import UserError
from onceforall.layers.elastic import (
    Cost,
    ElasticBatchNorm,
    ElasticConv,
    ElasticLinear,
    batch_norm_cost,
    channels_last,
    leading,
    leading_parts,
    make_divisible,
    pointwise_conv2d,
)


def filled(layer, seed: int = 0):
    """Parameters and buffers random and double."""
    layer = layer.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in layer.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(noise.abs() + 0.5 if name.endswith("running_var") else noise)
    return layer


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


PLAIN_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CONVS = [  # in, out, kernel sizes, stride, bias, axes; active in, out, kernel
    (6, 8, (1,), 1, False, 2, 6, 8, 1),
    (6, 8, (1,), 1, False, 2, 4, 8, 1),
    (6, 8, (1,), 1, True, 2, 4, 5, 1),
    (6, 8, (3, 5), 2, True, 2, 3, 5, 3),
    (6, 8, (3, 5), 1, False, 2, 6, 2, 5),
    (6, 8, (3, 5), 2, True, 1, 4, 7, 3),
    (4, 6, (1, 3), 2, True, 3, 3, 5, 1),
    (4, 6, (1, 3), 1, False, 3, 3, 5, 3),
]


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("row", CONVS)
def test_convolution_is_the_plain_one_of_sliced_weights(row, size):
    big_in, big_out, sizes, stride, bias, axes, small_in, small_out, kernel = row
    layer = filled(ElasticConv(big_in, big_out, sizes, stride, bias=bias, spatial_dims=axes))
    plain = PLAIN_CONV[axes](small_in, small_out, kernel, stride, kernel // 2, bias=bias).double()
    cut = (max(sizes) - kernel) // 2
    inner = (slice(cut, cut + kernel),) * axes
    with torch.no_grad():
        plain.weight.copy_(layer.weight[(slice(0, small_out), slice(0, small_in), *inner)])
        if bias:
            plain.bias.copy_(layer.bias[:small_out])
    x = noise(2, small_in, *(size,) * axes)
    y = layer(x, small_out, kernel)
    assert y.shape == (2, small_out) + (math.ceil(size / stride),) * axes
    torch.testing.assert_close(y, plain(x), rtol=0, atol=1e-12)
    own = layer.tensors(small_in, small_out, kernel)
    assert set(own) == set(plain.state_dict())
    for name, tensor in plain.state_dict().items():
        assert torch.equal(own[name], tensor)
        assert storage(own[name]) == storage(getattr(layer, name)), "a view"
    many = noise(16, small_in, *(size,) * axes, seed=3)  # as many images as may be convolved in another way
    torch.testing.assert_close(layer(many, small_out, kernel), plain(many), rtol=0, atol=1e-12)

    cost, shape = layer.cost((size,) * axes, small_in, small_out, kernel)
    positions = math.ceil(size / stride) ** axes
    assert shape == y.shape[2:]
    assert cost.params == sum(parameter.numel() for parameter in plain.parameters())
    assert (cost.macs, cost.activations) == (plain.weight.numel() * positions, small_out * positions)
    assert cost.weight_bytes == 4 * cost.params


# -- several inputs side by side -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["center_crop", "transform", "rings"])
@pytest.mark.parametrize(("axes", "sizes"), [(2, (4, 6)), (2, (2, 3)), (3, (4, 2)), (3, (1, 6)), (3, (2, 5))])
@pytest.mark.parametrize("kernel", [3, 5])
def test_each_input_keeps_its_columns(sizes, axes, kernel, rule):
    """A convolution of parts with 4 and 6 channels, of which the first ones are there."""
    layer = filled(ElasticConv((4, 6), 8, (3, 5), bias=True, kernel_rule=rule, spatial_dims=axes))
    columns = [*range(sizes[0]), *range(4, 4 + sizes[1])]
    whole = ElasticConv(10, 8, (3, 5), bias=True, kernel_rule=rule, spatial_dims=axes).double()
    whole.load_state_dict(layer.state_dict())
    weight = whole.tensors(10, 8, kernel)["weight"][:5, columns]
    inputs = tuple(noise(2, size, *(6,) * axes, seed=size) for size in sizes)
    expected = whole.convolve(torch.cat(inputs, 1), weight, layer.bias[:5], padding=kernel // 2)
    torch.testing.assert_close(layer(inputs, 5, kernel), expected, rtol=0, atol=1e-12)
    own = layer.tensors(sizes, 5, kernel)
    torch.testing.assert_close(own["weight"], weight, rtol=0, atol=1e-12)
    cost, _ = layer.cost((6,) * axes, sizes, 5, kernel)
    assert cost.params == sum(tensor.numel() for tensor in own.values())
    assert cost.macs == weight.numel() * 6**axes
    small = ElasticConv(sizes, 5, (kernel,), bias=True, spatial_dims=axes).double()
    small.load_state_dict(own)
    assert torch.equal(small(inputs), layer(inputs, 5, kernel))


def test_gradients_reach_only_the_columns_of_each_input():
    layer = filled(ElasticConv((4, 6), 8, (3, 5), kernel_rule="rings", spatial_dims=3))
    layer((noise(2, 2, 5, 5, 5), noise(2, 3, 5, 5, 5)), 5).square().sum().backward()
    for tensor in (layer.weight, layer.kernel_rule.rings["5"]):
        reached = tensor.grad.flatten(2).abs().sum(2) > 0
        assert reached.nonzero().tolist() == [[out, column] for out in range(5) for column in (0, 1, 4, 5, 6)]


def test_leading_parts():
    tensor = torch.arange(20).view(2, 10)
    assert leading_parts(tensor, (4, 6), (4, 6), 1) is tensor and leading_parts(tensor, (10,), (10,), 1) is tensor
    assert leading_parts(tensor, (2, 3), (4, 6), 1).tolist() == [[0, 1, 4, 5, 6], [10, 11, 14, 15, 16]]
    assert leading_parts(tensor, (1, 1, 2), (3, 3, 4), 1).tolist() == [[0, 3, 6, 7], [10, 13, 16, 17]]
    assert leading_parts(tensor, (1,), (2,), 0).tolist() == [list(range(10))]
    assert storage(leading_parts(tensor, (3,), (10,), 1)) == storage(tensor)


# -- 1x1 and depthwise ---------------------------------------------------------------------------------------------

POINTWISE = {  # batch, side, channels-last, weight learns: whether it goes through a matrix product
    "small map": (16, 7, True, True, True),
    "one position": (16, 1, True, True, True),
    "large map": (16, 8, True, True, False),
    "small batch": (15, 4, True, True, False),
    "channels first": (16, 4, False, True, False),
    "frozen": (16, 4, True, False, False),
}


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_convolution(name, monkeypatch):
    batch, side, last, learns, as_product = POINTWISE[name]
    products = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda *tensors: products.append(tensors) or linear(*tensors))
    x = noise(batch, 6, side, side).contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    weight = noise(8, 10, 1, 1, seed=2)[:5, :6]  # a slice of a larger one
    results = []
    for function in (pointwise_conv2d, F.conv2d):
        own, learned = x.clone().requires_grad_(), weight.clone().requires_grad_(learns)
        own.data = own.data.contiguous(memory_format=torch.channels_last) if last else own.data
        y = function(own, learned)
        y.sin().sum().backward()
        results.append([y, own.grad, *([learned.grad] if learns else [])])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    assert len(products) == as_product
    assert not last or results[0][0].is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.equal(pointwise_conv2d(x, weight), F.conv2d(x, weight))


@pytest.mark.parametrize("rule", ["center_crop", "transform"])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("channels", "kernel", "stride"), [(8, 5, 1), (5, 5, 2), (5, 3, 1), (3, 3, 2)])
def test_depthwise_convolution(channels, kernel, stride, axes, rule):
    layer = filled(ElasticConv(8, 8, (3, 5), stride, depthwise=True, kernel_rule=rule, spatial_dims=axes))
    full = layer.weight[:channels].detach().numpy()
    inner = full if kernel == 5 else full[(slice(None), slice(None)) + (slice(1, 4),) * axes]
    if kernel == 3 and rule == "transform":
        matrix = layer.kernel_rule.matrices["5to3"].detach().numpy()
        inner = np.einsum("ab,cib->cia", matrix, inner.reshape(channels, 1, -1)).reshape(inner.shape)
    plain = PLAIN_CONV[axes](channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False).double()
    with torch.no_grad():
        plain.weight.copy_(torch.from_numpy(np.ascontiguousarray(inner)))
    x = noise(2, channels, *(7,) * axes)
    torch.testing.assert_close(layer(x, kernel_size=kernel), plain(x), rtol=0, atol=1e-12)
    cost, shape = layer.cost((7,) * axes, channels, channels, kernel)
    assert cost.params == plain.weight.numel() == channels * kernel**axes
    assert cost.macs == cost.params * math.prod(shape)


def test_a_size_that_the_convolution_does_not_have():
    layer = ElasticConv(4, 4, (3, 7), depthwise=True, kernel_rule="transform")
    for size in (5, 4, 9, 1):
        with pytest.raises(UserError, match=rf"kernel_size {size}: this layer has \(3, 7\)"):
            layer(torch.zeros(1, 4, 9, 9), kernel_size=size)
    with pytest.raises(UserError, match="Did you mean 'transform'"):
        ElasticConv(4, 4, (3, 7), kernel_rule="transforms")
    with pytest.raises(RuntimeError):
        layer(torch.zeros(1, 5, 9, 9))


@pytest.mark.parametrize(("small_in", "small_out"), [(6, 4), (3, 4), (6, 2), (5, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_linear(small_in, small_out, bias):
    layer = filled(ElasticLinear(6, 4, bias))
    x = noise(3, small_in)
    weight = layer.weight.detach().numpy()[:small_out, :small_in]
    expected = x.numpy() @ weight.T + (layer.bias.detach().numpy()[:small_out] if bias else 0)
    np.testing.assert_allclose(layer(x, small_out).detach().numpy(), expected, rtol=0, atol=1e-12)
    own = layer.tensors(small_in, small_out)
    assert [tuple(tensor.shape) for tensor in own.values()] == [(small_out, small_in), (small_out,)][: 1 + bias]
    assert all(storage(tensor) == storage(getattr(layer, name)) for name, tensor in own.items())
    params = small_in * small_out + small_out * bias
    at_once = 4 * (small_in + small_out)
    assert layer.cost(small_in, small_out) == Cost(params, small_in * small_out, small_out, 4 * params, at_once)


LAYERS = [
    ElasticConv(6, 8, (3, 5), bias=True),
    ElasticConv(6, 6, (3, 5), depthwise=True, kernel_rule="transform"),
    ElasticConv((4, 6), 8, (3, 5), spatial_dims=3),
    ElasticLinear(6, 4),
    ElasticBatchNorm(6),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_full_size_is_the_parameter_itself(layer):
    own = layer.tensors(*layer.sizes)
    assert own
    for name, tensor in own.items():
        assert tensor is getattr(layer, name)
    names = {name for name, _ in layer.named_parameters()} | {name for name, _ in layer.named_buffers()}
    assert set(own) == {name for name in names if "matrices" not in name}


def test_leading():
    tensor = torch.arange(12).view(3, 4)
    assert leading(tensor, 3) is tensor and leading(tensor, 4, 1) is tensor
    assert leading(tensor, 2).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert leading(tensor, 2, 1).tolist() == [[0, 1], [4, 5], [8, 9]]
    assert storage(leading(tensor, 2, 1)) == storage(tensor)


# -- batch normalisation -----------------------------------------------------------------------------------------


def plain_norm(layer: ElasticBatchNorm, channels: int) -> nn.BatchNorm2d:
    plain = nn.BatchNorm2d(channels, layer.epsilon, layer.momentum).double()
    with torch.no_grad():
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(plain, name).copy_(getattr(layer, name)[:channels])
    return plain


@pytest.mark.parametrize("momentum", [0.1, 0.4])
@pytest.mark.parametrize("channels", [6, 4, 1])
def test_batch_norm_is_the_plain_one_of_the_leading_channels(channels, momentum):
    layer = filled(ElasticBatchNorm(6, momentum))
    plain = plain_norm(layer, channels)
    before = {name: tensor.clone() for name, tensor in layer.named_buffers()}
    for step in range(3):
        x = 2 + 3 * noise(4, channels, 3, 3, seed=step)
        torch.testing.assert_close(layer.train()(x), plain.train()(x), rtol=0, atol=1e-12)
        torch.testing.assert_close(layer.eval()(x), plain.eval()(x), rtol=0, atol=1e-12)
    for name, old in before.items():
        moved = getattr(layer, name)
        torch.testing.assert_close(moved[:channels], getattr(plain, name), rtol=0, atol=1e-12)
        assert not torch.equal(moved[:channels], old[:channels])
        assert torch.equal(moved[channels:], old[channels:]), "the other channels' statistics stay"


def test_batch_norm_by_hand():
    """y = (x - mean) / sqrt(var + eps) * weight + bias; biased variance in y, unbiased in the running one."""
    layer = filled(ElasticBatchNorm(3, momentum=0.25, epsilon=1e-3))
    x = noise(5, 2, 4)
    array, old = x.numpy(), layer.running_var[:2].numpy().copy()
    mean, var = array.mean((0, 2)), array.var((0, 2))
    scale, shift = (getattr(layer, name).detach().numpy()[:2, None] for name in ("weight", "bias"))
    expected = (array - mean[:, None]) / np.sqrt(var[:, None] + 1e-3) * scale + shift
    np.testing.assert_allclose(layer.train()(x).detach().numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(layer.running_var[:2].numpy(), 0.75 * old + 0.25 * var * 20 / 19, atol=1e-12)


@pytest.mark.parametrize("mode", [True, False])
def test_batch_statistics_move_nothing(mode):
    layer = filled(ElasticBatchNorm(4))
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    x = noise(5, 3, 2, 2)
    layer.batch_statistics = True
    expected = F.batch_norm(x, None, None, layer.weight[:3], layer.bias[:3], True)
    torch.testing.assert_close(layer.train(mode)(x), expected, rtol=0, atol=1e-12)
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


def test_batch_norm_cost():
    layer = ElasticBatchNorm(5)
    cost = batch_norm_cost(5)
    assert cost.params == sum(parameter.numel() for parameter in layer.parameters())
    assert cost.weight_bytes == 4 * sum(tensor.numel() for tensor in layer.state_dict().values())
    assert (cost.macs, cost.activations) == (0, 0)


# -- gradients and freezing --------------------------------------------------------------------------------------


def test_gradients_reach_only_the_slices():
    conv = filled(ElasticConv(6, 8, (3, 5), bias=True))
    conv(noise(2, 4, 5, 5), 5, 3).square().sum().backward()
    inside = torch.zeros_like(conv.weight, dtype=torch.bool)
    inside[:5, :4, 1:4, 1:4] = True
    assert conv.weight.grad[inside].all() and not conv.weight.grad[~inside].any()
    assert conv.bias.grad[:5].all() and not conv.bias.grad[5:].any()

    depthwise = filled(ElasticConv(6, 6, (3, 5, 7), depthwise=True, kernel_rule="transform"))
    depthwise(noise(2, 4, 9, 9), kernel_size=5).square().sum().backward()
    assert depthwise.weight.grad[:4, :, 1:6, 1:6].all()
    assert not depthwise.weight.grad[4:].any() and not depthwise.weight.grad[:, :, 0].any()
    matrices = depthwise.kernel_rule.matrices
    assert matrices["7to5"].grad.all() and matrices["5to3"].grad is None

    linear = filled(ElasticLinear(6, 4))
    linear(noise(3, 5), 2).square().sum().backward()
    assert linear.weight.grad[:2, :5].all() and not linear.weight.grad[2:].any()
    assert not linear.weight.grad[:, 5:].any() and not linear.bias.grad[2:].any()

    norm = filled(ElasticBatchNorm(6))
    norm(noise(3, 4, 2, 2)).square().sum().backward()
    assert norm.weight.grad[:4].all() and not norm.weight.grad[4:].any() and not norm.bias.grad[4:].any()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (ElasticConv(6, 8, (3, 5), bias=True), (3, 4, 5, 5)),
        (ElasticConv(6, 6, (3, 5), depthwise=True, kernel_rule="transform"), (3, 4, 5, 5)),
        (ElasticConv(4, 4, (3,), depthwise=True, spatial_dims=3), (3, 4, 5, 5, 5)),
        (ElasticLinear(6, 4), (3, 5)),
        (ElasticBatchNorm(6), (3, 4, 2, 2)),
    ],
    ids=["conv", "depthwise", "volume", "linear", "norm"],
)
def test_frozen_layers_pass_gradients_on_and_get_none(layer, shape):
    layer = filled(layer)
    layer.zero_grad()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    free, x, y = noise(*shape).requires_grad_(), noise(*shape).requires_grad_(), noise(*shape).requires_grad_()
    frozen = layer.train()(x, frozen=True)
    frozen.square().sum().backward()
    assert all(parameter.grad is None for parameter in layer.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())
    trained = layer(free)
    trained.square().sum().backward()
    torch.testing.assert_close(frozen, trained, rtol=0, atol=0)
    torch.testing.assert_close(x.grad, free.grad, rtol=0, atol=1e-12)
    assert all(parameter.grad is not None for name, parameter in layer.named_parameters() if "matrices" not in name)
    torch.testing.assert_close(layer.eval()(y, frozen=True), layer(y), rtol=0, atol=0)


# -- initial values ----------------------------------------------------------------------------------------------


@torch.no_grad()
def test_initial_values():
    """Convolutions N(0, 2 / (k^n out)), linear layers U(+-1 / sqrt(in)), normalisation 1 and 0, biases 0."""
    generator = torch.Generator().manual_seed(0)
    global_state = torch.random.get_rng_state()
    conv = ElasticConv(64, 96, (3, 5), bias=True)
    conv.reset(generator)
    assert float(conv.weight.std()) == pytest.approx(math.sqrt(2 / (25 * 96)), rel=0.02)
    assert abs(float(conv.weight.mean())) < 1e-4 and not conv.bias.any()
    depthwise = ElasticConv(2000, 2000, (7,), depthwise=True)
    depthwise.reset(generator)
    assert float(depthwise.weight.std()) == pytest.approx(math.sqrt(2 / (49 * 2000)), rel=0.02)
    volume = ElasticConv(64, 64, (3,), spatial_dims=3)
    volume.reset(generator)
    assert float(volume.weight.std()) == pytest.approx(math.sqrt(2 / (27 * 64)), rel=0.02)
    rings = ElasticConv((64, 32), 64, (3, 5), kernel_rule="rings", spatial_dims=3)
    rings.reset(generator)
    assert float(rings.weight.std()) == pytest.approx(math.sqrt(2 / (27 * 64)), rel=0.02), "of the kernel at the start"
    head = ElasticConv((64, 32), 20, (3,), bias=True, spatial_dims=3, init="uniform")
    head.reset(generator)
    bound = 1 / math.sqrt(27 * 96)
    assert 0.99 * bound < float(head.weight.max()) <= bound and -bound <= float(head.weight.min()) < -0.99 * bound
    assert float(head.weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02) and not head.bias.any()
    linear = ElasticLinear(400, 100)
    linear.reset(generator)
    assert 0.049 < float(linear.weight.max()) <= 0.05 and -0.05 <= float(linear.weight.min()) < -0.049
    assert float(linear.weight.std()) == pytest.approx(0.05 / math.sqrt(3), rel=0.02) and not linear.bias.any()
    squeeze = ElasticLinear(400, 100, init="fan_out")
    squeeze.reset(generator)
    assert float(squeeze.weight.std()) == pytest.approx(math.sqrt(2 / 100), rel=0.02)
    norm = filled(ElasticBatchNorm(4))
    norm.reset(generator)
    assert [tensor.tolist() for tensor in norm.state_dict().values()] == [[1] * 4, [0] * 4, [0] * 4, [1] * 4]
    assert torch.equal(torch.random.get_rng_state(), global_state)
    for layer in (ElasticLinear, ElasticConv):
        with pytest.raises(UserError, match="init 'normal'"):
            layer(2, 2, init="normal")


def test_initial_values_come_from_the_generator_alone():
    one, other = (ElasticConv(4, 4, (3,)) for _ in range(2))
    one.reset(torch.Generator().manual_seed(1))
    other.reset(torch.Generator().manual_seed(1))
    assert torch.equal(one.weight, other.weight)
    other.reset(torch.Generator().manual_seed(2))
    assert not torch.equal(one.weight, other.weight)


# -- small things ------------------------------------------------------------------------------------------------


def test_make_divisible():
    """n = max(8, floor((v + 4) / 8) * 8), and 8 more where that is below 0.9 v."""
    for value in np.arange(1, 400, 0.25):
        n = max(8, math.floor((value + 4) / 8) * 8)
        assert make_divisible(value) == (n + 8 if n < 0.9 * value else n)
    assert [make_divisible(16 * 1.2), make_divisible(24 * 1.2), make_divisible(112 * 1.2)] == [24, 32, 136]
    assert make_divisible(10) == 16 and make_divisible(11) == 16  # 8 would be below 0.9 of 10


def test_cost_adds_up():
    assert Cost(1, 2, 3, 4, 50) + Cost(10, 20, 30, 40, 5) == Cost(11, 22, 33, 44, 50)
    assert sum([Cost(1), Cost(0, 5)], Cost()) == Cost(1, 5)


def test_channels_last():
    x = noise(2, 3, 4, 5)
    y = channels_last(x)
    assert torch.equal(x, y) and y.is_contiguous(memory_format=torch.channels_last)
    volume = noise(2, 3, 4, 5, 6)
    assert channels_last(volume) is volume


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_axes_index_what_smaller_layers_take(layer):
    """The dimension that `axis` names is the one that shrinks with that size."""
    sizes = list(layer.sizes)
    for place, name in enumerate(("in", "out")[: len(sizes)] if len(sizes) > 1 else ("out",)):
        depthwise = isinstance(layer, ElasticConv) and layer.depthwise
        if depthwise and name == "in":
            continue
        smaller = list(sizes)
        full_size = sizes[place]
        smaller[place] = full_size - 1 if isinstance(full_size, int) else (full_size[0] - 1, *full_size[1:])
        own = layer.tensors(*smaller)
        named = {id(tensor): dim for tensor, dim in layer.axis(name)}
        for key, tensor in own.items():
            full = getattr(layer, key)
            shrunk = [dim for dim in range(full.ndim) if tensor.shape[dim] < full.shape[dim]]
            assert shrunk == ([named[id(full)]] if id(full) in named else [])
        assert len(named) == sum(own[key] is not getattr(layer, key) for key in own)

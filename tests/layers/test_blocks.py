"""Blocks against the same network written with torch's plain layers, and costs against the layers' own shapes."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from common_checks import randomised
from onceforall.architecture import Block
from onceforall.errors import UserError
from onceforall.layers.blocks import (
    ACTIVATIONS,
    ConvNorm,
    Exit,
    InvertedResidual,
    Level,
    SqueezeExcitation,
    parts,
)
from onceforall.layers.elastic import ElasticBatchNorm, ElasticConv
from onceforall.search_space import BlockChoices

CHOICES = BlockChoices((3, 5), (2, 3))


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def norm(layer: ElasticBatchNorm, x: Tensor) -> Tensor:
    c = x.shape[1]
    return F.batch_norm(x, layer.running_mean[:c], layer.running_var[:c], layer.weight[:c], layer.bias[:c])


def divisible(value: float) -> int:
    """The multiple of 8 nearest to it, at least 8 and at least nine tenths of it."""
    n = max(8, int(value + 4) // 8 * 8)
    return n + 8 if n < 0.9 * value else n


def by_hand(block: InvertedResidual, x: Tensor, value: Block) -> Tensor:
    """An inverted residual with plain functions and written-out slices; the centre of the kernel."""
    conv = F.conv3d if x.ndim == 5 else F.conv2d
    spatial = tuple(range(2, x.ndim))
    width = x.shape[1] if value.expand_ratio is None else divisible(round(x.shape[1] * value.expand_ratio))
    activation = block.depthwise.activation
    y = x
    if value.expand_ratio is not None:
        y = activation(norm(block.expand.norm, conv(x, block.expand.conv.weight[:width])))
    weight = block.depthwise.conv.weight[:width]
    cut = (weight.shape[-1] - value.kernel_size) // 2
    kernel = weight[(..., *(slice(cut, weight.shape[-1] - cut),) * len(spatial))]
    stride = block.depthwise.conv.stride
    y = conv(y, kernel, None, stride, value.kernel_size // 2, 1, width)
    y = activation(norm(block.depthwise.norm, y))
    if block.squeeze is not None:
        units = divisible(width // 4)
        reduce, expand = block.squeeze.reduce, block.squeeze.expand
        hidden = F.relu(F.linear(y.mean(spatial), reduce.weight[:units, :width], reduce.bias[:units]))
        scale = F.relu6(F.linear(hidden, expand.weight[:width, :units], expand.bias[:width]) + 3) / 6
        y = y * scale.reshape(*scale.shape, *(1,) * len(spatial))
    y = norm(block.project.norm, conv(y, block.project.conv.weight[:, :width]))
    return x + y if stride == 1 and y.shape == x.shape else y


BLOCKS = {  # in, out, options, value
    "shortcut": (16, 16, {}, Block(5, 3)),
    "narrow": (16, 16, {}, Block(3, 2)),
    "strided": (16, 16, {"stride": 2}, Block(3, 2)),
    "widening": (16, 24, {}, Block(5, 2)),
    "squeezed": (16, 16, {"squeeze": True, "activation": "hard_swish"}, Block(3, 3)),
    "squeezed narrow": (16, 24, {"squeeze": True, "stride": 2, "activation": "hard_swish"}, Block(5, 2)),
    "rounded": (12, 16, {"squeeze": True}, Block(5, 3)),  # 36 hidden channels are rounded to 40
    "volume": (8, 8, {"spatial_dims": 3, "squeeze": True}, Block(3, 2)),
    "strided volume": (8, 16, {"spatial_dims": 3, "stride": 2}, Block(5, 3)),
}


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("name", BLOCKS)
def test_inverted_residual(name, size):
    in_channels, out_channels, options, value = BLOCKS[name]
    block = randomised(InvertedResidual(in_channels, out_channels, CHOICES, **options)).double().eval()
    axes, stride = options.get("spatial_dims", 2), options.get("stride", 1)
    x = noise(2, in_channels, *(size,) * axes)
    with torch.no_grad():
        y = block(x, value)
        torch.testing.assert_close(y, by_hand(block, x, value), rtol=0, atol=1e-11)
        others = [other for other in CHOICES.values() if other != value]
        assert all((block(x, other) - y).abs().max() > 1e-3 for other in others)
    assert y.shape == (2, out_channels) + (-(-size // stride),) * axes
    cost, shape = block.cost((size,) * axes, value)
    assert shape == y.shape[2:]
    with FlopCounterMode(display=False) as counter:
        block(x[:1], value)
    assert 2 * cost.macs == counter.get_total_flops()


def test_unexpanded_block_ignores_a_ratio():
    block = randomised(InvertedResidual(8, 8, BlockChoices((3,))))
    assert block.hidden(4) == 8
    assert block.cost((5, 5), Block(3, 4)) == block.cost((5, 5), Block(3))
    x = noise(2, 8, 5, 5).float()
    assert torch.equal(block(x, Block(3, 4)), block(x, Block(3)))


def test_unexpanded_block():
    block = randomised(InvertedResidual(8, 8, BlockChoices((3,)), squeeze=True)).double().eval()
    assert block.expand is None and block.hidden(None) == 8
    x = noise(2, 8, 5, 5)
    torch.testing.assert_close(block(x, Block(3)), by_hand(block, x, Block(3)), rtol=0, atol=1e-11)
    assert list(block.channel_groups("x")) == []


def test_smaller_kernels_go_through_the_matrices():
    block = InvertedResidual(8, 8, BlockChoices((3, 5), (2,)), kernel_rule="transform")
    block = randomised(block).double().eval()
    x = noise(2, 8, 6, 6)
    cropped = by_hand(block, x, Block(3, 2))
    assert (block(x, Block(3, 2)) - cropped).abs().max() > 1e-3
    block.depthwise.conv.kernel_rule.reset()
    torch.testing.assert_close(block(x, Block(3, 2)), cropped, rtol=0, atol=1e-11)


def test_channel_groups_of_a_block():
    block = InvertedResidual(16, 16, BlockChoices((3,), (2, 3, 6)), squeeze=True)
    units, hidden = block.channel_groups("stages.0.blocks.1")
    assert units.variable == hidden.variable == "stages.0.blocks.1.expand_ratio"
    assert hidden.sizes == {2: 32, 3: 48, 6: 96} and not hidden.squeeze
    assert units.sizes == {2: 8, 3: 16, 6: 24} and units.squeeze  # a quarter is 8, 12, 24
    assert hidden.ranking.layer is block.project.conv and units.ranking.layer is block.squeeze.expand
    places = {(type(place.layer).__name__, place.axis) for place in hidden.slices}
    assert places == {
        ("ElasticConv", "out"),
        ("ElasticBatchNorm", "out"),
        ("ElasticConv", "in"),
        ("ElasticLinear", "in"),
        ("ElasticLinear", "out"),
    }
    assert len(hidden.slices) == 7  # expand, its norm, depthwise, its norm, project, reduce, expand of the squeeze


@pytest.mark.parametrize("channels", [8, 24, 32, 96])
def test_squeeze_excitation(channels):
    layer = randomised(SqueezeExcitation(96)).double()
    x = noise(3, channels, 4, 5)
    units = divisible(channels // 4)
    assert SqueezeExcitation.hidden(channels) == units
    mean = x.mean((2, 3)).numpy()
    weights = {name: tensor.numpy() for name, tensor in layer.state_dict().items()}
    hidden = (mean @ weights["reduce.weight"][:units, :channels].T + weights["reduce.bias"][:units]).clip(0)
    linear = hidden @ weights["expand.weight"][:channels, :units].T + weights["expand.bias"][:channels]
    scale = (linear + 3).clip(0, 6) / 6
    torch.testing.assert_close(layer(x), x * torch.from_numpy(scale)[..., None, None], rtol=0, atol=1e-12)
    cost = layer.cost(channels)
    assert (cost.macs, cost.params) == (2 * channels * units, 2 * channels * units + channels + units)


def test_activations():
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    torch.testing.assert_close(ACTIVATIONS["hard_swish"](x), x * F.relu6(x + 3) / 6)
    torch.testing.assert_close(ACTIVATIONS["relu"](x), x.clamp(min=0))
    with pytest.raises(UserError, match=r"activation 'swish' is not one of.*'hard_swish'"):
        ConvNorm(ElasticConv(4, 4), "swish")


@pytest.mark.parametrize("activation", [None, "relu", "hard_swish"])
def test_conv_norm(activation):
    layer = randomised(ConvNorm(ElasticConv(4, 6, (3, 5)), activation)).double().eval()
    x = noise(2, 3, 5, 5)
    plain = norm(layer.norm, F.conv2d(x, layer.conv.weight[:5, :3, 1:4, 1:4], padding=1))
    expected = plain if activation is None else ACTIVATIONS[activation](plain)
    torch.testing.assert_close(layer(x, 5, 3), expected, rtol=0, atol=1e-12)
    cost, shape = layer.cost((5, 5), 3, 5, 3)
    assert (cost.params, cost.macs, shape) == (3 * 5 * 9 + 2 * 5, 3 * 5 * 9 * 25, (5, 5))
    assert [place.layer for place in layer.produces()] == [layer.conv, layer.norm]


def test_level_sums_the_paths_that_run():
    paths = {"main": InvertedResidual(8, 8, CHOICES), "extra": InvertedResidual(8, 8, BlockChoices((3,)))}
    level = randomised(Level(paths)).double().eval()
    x = noise(2, 8, 6, 6)
    main = by_hand(level.path("main"), x, Block(5, 2))
    both = Block(5, 2, ("extra", "main"))
    with pytest.raises(UserError, match="kernel_size 5"):
        level(x, both)  # each path is given the block's own kernel
    three = Block(3, 2, ("extra", "main"))
    extra = level.path("extra")(x, Block(3))
    torch.testing.assert_close(level(x, Block(5, 2)), main, rtol=0, atol=1e-11)
    torch.testing.assert_close(level(x, three), level(x, Block(3, 2)) + extra, rtol=0, atol=1e-11)
    sums = [level.cost((6, 6), block) for block in (three, Block(3, 2))]
    assert sums[0][1] == sums[1][1] == (6, 6)
    assert sums[0][0] == sums[1][0] + level.path("extra").cost((6, 6), Block(3))[0]
    assert [group.variable for group in level.channel_groups("b")] == ["b.expand_ratio"]


@pytest.mark.parametrize("axes", [2, 3])
def test_exit(axes):
    layer = randomised(Exit(8, 16, 24, 5, dropout=0.5, spatial_dims=axes)).double().eval()
    x = noise(3, 8, *(4,) * axes)
    y = F.hardswish(norm(layer.expand.norm, (F.conv3d if axes == 3 else F.conv2d)(x, layer.expand.conv.weight)))
    mixed = F.hardswish(y.flatten(2).mean(2) @ layer.mix.weight.T)
    assert layer.mix.bias is None
    torch.testing.assert_close(layer(x), mixed @ layer.classify.weight.T + layer.classify.bias, rtol=0, atol=1e-11)
    cost = layer.cost((4,) * axes)
    assert cost.params == sum(parameter.numel() for parameter in layer.parameters())
    assert cost.macs == 8 * 16 * 4**axes + 16 * 24 + 24 * 5


def test_parts():
    modules = nn.ModuleList([nn.Linear(1, 1), nn.ReLU(), nn.Linear(2, 2)])
    assert parts(modules, nn.Linear) == [modules[0], modules[2]]

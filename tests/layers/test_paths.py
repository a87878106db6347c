"""The parallel paths of a level against plain functions, on maps of any size; their numbers; what is refused."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from common_checks import randomised
from onceforall.architecture import Block, path_code, paths_of_code
from onceforall.errors import UserError
from onceforall.layers.blocks import InvertedResidual, Level
from onceforall.layers.elastic import ElasticBatchNorm
from onceforall.layers.paths import PATHS, NormActivation, PathSite, Pointwise, build_level
from onceforall.search_space import BlockChoices

CODES = {  # OFAv2: inverted residual 4, pointwise 2, norm and activation 1
    1: ("norm_act",),
    2: ("pointwise",),
    3: ("norm_act", "pointwise"),
    4: ("main",),
    5: ("main", "norm_act"),
    6: ("main", "pointwise"),
    7: ("main", "norm_act", "pointwise"),
}
ALL = BlockChoices((3, 5), (2, 3), tuple(CODES.values()))
SIZES = [13, 15, 7, 3, 2, 1, 8]


def site(in_channels: int = 8, out_channels: int = 8, stride: int = 1, **options) -> PathSite:
    return PathSite(in_channels, out_channels, ALL, stride, **options)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def norm(layer: ElasticBatchNorm, x: Tensor) -> Tensor:
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias)


def maximum_of_two(x: Tensor) -> Tensor:
    """The maximum of each 2 x 2, position by position, of what lies inside the map."""
    rows, columns = (math.ceil(size / 2) for size in x.shape[2:])
    out = x.new_empty(*x.shape[:2], rows, columns)
    for i in range(rows):
        for j in range(columns):
            out[:, :, i, j] = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].amax((2, 3))
    return out


@pytest.mark.parametrize("code", CODES)
def test_codes(code):
    assert paths_of_code(code) == CODES[code]
    assert path_code(CODES[code]) == path_code(tuple(reversed(CODES[code]))) == code
    assert BlockChoices((3,), (), (code,)).paths == (CODES[code],)


@pytest.mark.parametrize("code", [0, 8, -1, True, False, 4.0, "4", None])
def test_other_numbers_are_no_codes(code):
    with pytest.raises(UserError) as caught:
        paths_of_code(code)
    assert str(caught.value).startswith(f"level code {code!r}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("code", [0, 8, True])
def test_other_numbers_are_no_choices(code):
    with pytest.raises(UserError, match=rf"level code {code}: must be a whole number from 1 to 7"):
        BlockChoices((3,), (), (code,))


def test_other_paths_have_no_code():
    assert path_code(("main", "pool")) is None


@pytest.mark.parametrize("activation", ["relu", "hard_swish"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("stride", "widths"), [(1, (8, 8)), (1, (8, 16)), (2, (8, 16)), (2, (8, 8))])
def test_paths_against_plain_functions(stride, widths, size, activation):
    facts = site(*widths, stride, activation=activation)
    act = F.relu if activation == "relu" else lambda x: x * F.relu6(x + 3) / 6
    x, block = noise(2, widths[0], size, size + 2), Block(paths=("pointwise",))
    shape = (math.ceil(size / stride), math.ceil((size + 2) / stride))

    pointwise = randomised(Pointwise(facts)).double().eval()
    weight = pointwise.unit.conv.weight
    assert weight.shape == (widths[1], widths[0], 1, 1) and pointwise.unit.conv.bias is None
    picked = x[:, :, ::stride, ::stride]
    expected = act(norm(pointwise.unit.norm, torch.einsum("oc,nchw->nohw", weight[:, :, 0, 0], picked)))
    torch.testing.assert_close(pointwise(x, block), expected, rtol=0, atol=1e-11)

    plain = randomised(NormActivation(facts)).double().eval()
    pooled = x if stride == 1 else maximum_of_two(x)
    if widths[0] != widths[1]:
        assert plain.reshape is not None and plain.reshape.weight.shape == (widths[1], widths[0], 1, 1)
        pooled = F.conv2d(pooled, plain.reshape.weight, plain.reshape.bias)
        assert plain.reshape.bias is not None
    else:
        assert plain.reshape is None
    expected = act(norm(plain.norm, pooled))
    torch.testing.assert_close(plain(x, block), expected, rtol=0, atol=1e-11)

    main = randomised(InvertedResidual(*widths, ALL, stride, activation)).eval()
    outputs = (pointwise(x, block), plain(x, block), main(x.float(), Block(5, 2)))
    assert {tuple(output.shape) for output in outputs} == {(2, widths[1], *shape)}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("widths", [(8, 8), (8, 16)])
def test_costs(widths, stride):
    facts, (inner, outer) = site(*widths, stride), widths
    positions, norm_params = math.ceil(7 / stride) * math.ceil(8 / stride), 2 * outer
    pointwise, plain = Pointwise(facts), NormActivation(facts)
    cost, shape = pointwise.cost((7, 8), Block(paths=("pointwise",)))
    assert (cost.params, cost.macs) == (inner * outer + norm_params, inner * outer * positions)
    assert shape == (math.ceil(7 / stride), math.ceil(8 / stride))
    other, other_shape = plain.cost((7, 8), Block(paths=("norm_act",)))
    reshape = (inner + 1) * outer if inner != outer else 0
    assert (other.params, other_shape) == (reshape + norm_params, shape)
    assert other.macs == (inner * outer * positions if inner != outer else 0)
    for module, counted in ((pointwise, cost), (plain, other)):
        assert counted.params == sum(parameter.numel() for parameter in module.parameters())
        assert counted.weight_bytes == 4 * sum(tensor.numel() for tensor in module.state_dict().values())
        with FlopCounterMode(display=False) as counter:
            module.eval()(torch.zeros(1, inner, 7, 8), Block(paths=("pointwise",)))
        assert counter.get_total_flops() == 2 * counted.macs


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("stride", [1, 2])
def test_a_level_sums_its_paths(code, stride):
    level = randomised(build_level(site(stride=stride, squeeze=True))).double().eval()
    x = noise(2, 8, 7, 7)
    block = Block(3, 2, CODES[code]) if code & 4 else Block(paths=CODES[code])
    alone = [level(x, Block(3, 2) if name == "main" else Block(paths=(name,))) for name in CODES[code]]
    torch.testing.assert_close(level(x, block), torch.stack(alone).sum(0), rtol=0, atol=1e-11)


def test_only_the_inverted_residual_has_an_identity():
    """With everything else silent a level returns its input where the main path runs, and nothing else does."""
    level = build_level(site()).double().eval()
    for module in level.modules():
        if isinstance(module, ElasticBatchNorm):
            for tensor in (module.weight, module.bias, module.running_mean):
                torch.nn.init.zeros_(tensor)
    for path in ("main", "pointwise"):
        randomised_weights = [p for name, p in level.path(path).named_parameters() if "conv" in name]
        assert randomised_weights
        for parameter in randomised_weights:
            torch.nn.init.ones_(parameter)
    x = noise(2, 8, 5, 5)
    for code, names in CODES.items():
        block = Block(3, 2, names) if code & 4 else Block(paths=names)
        assert torch.equal(level(x, block), x if code & 4 else torch.zeros_like(x))


@pytest.mark.parametrize("paths", [(7,), (4,), (2, 1), (4, 6)])
def test_a_level_has_the_paths_that_its_choices_name(paths):
    choices = BlockChoices((3,), (2,), paths)
    level = build_level(PathSite(8, 8, choices))
    assert isinstance(level, Level)
    assert set(level.paths) == {name for code in paths for name in CODES[code]}
    groups = [group.variable for group in level.channel_groups("x")]
    assert groups == (["x.expand_ratio"] if any(code & 4 for code in paths) else [])


def test_an_unknown_path_is_one_clear_line():
    with pytest.raises(UserError) as caught:
        build_level(PathSite(8, 8, BlockChoices((3,), (2,), (("main",), ("main", "norm-act")))))
    known = ", ".join(repr(name) for name in PATHS)
    assert str(caught.value) == f"path 'norm-act' is not one of: {known}. Did you mean 'norm_act'?"


def test_table_of_paths():
    assert set(PATHS) == {"main", "pointwise", "norm_act"}
    assert PATHS["pointwise"] is Pointwise and PATHS["norm_act"] is NormActivation
    facts = site(8, 16, 2, activation="hard_swish", squeeze=True, kernel_rule="transform")
    main = PATHS["main"](facts)
    assert isinstance(main, InvertedResidual) and main.squeeze is not None and not main.shortcut
    assert (main.in_channels, main.out_channels, main.depthwise.conv.stride) == (8, 16, 2)
    assert [name for name, _ in main.named_parameters() if "matrices" in name]

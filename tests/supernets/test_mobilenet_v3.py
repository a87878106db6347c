"""OFA-MobileNetV3 against the published counts, and against the network written once more with plain functions."""

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from common_checks import CHECKS, distance, images, randomised
from onceforall.architecture import Block
from onceforall.errors import UserError
from onceforall.evaluation.cost import cost
from onceforall.layers.elastic import Cost
from onceforall.search_space import BlockChoices, SearchSpace
from onceforall.supernets import Freeze, create_supernet
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from plain_network import divisible, plain

SPACE = SearchSpace.build(
    5,
    resolutions=tuple(range(128, 225, 4)),
    depths=(2, 3, 4),
    kernel_sizes=(3, 5, 7),
    expand_ratios=(3, 4, 6),
)
EARLY_EXITS = SearchSpace.build(
    5,
    resolutions=(48, 56, 64),
    depths=(2, 3, 4),
    kernel_sizes=(3, 5, 7),
    expand_ratios=(3, 4, 6),
    heights=(1, 2, 3, 4, 5),
)


def shapes_only(space: SearchSpace = SPACE, **options) -> OFAMobileNetV3:
    """A network without memory: shapes are computed, numbers are not."""
    with torch.device("meta"):
        return OFAMobileNetV3(space, **options)


# -- published counts --------------------------------------------------------------------------------------------

COUNTS = [  # width multiplier, uniform choices, params, million MACs at 128, 160, 192, 224
    (1.0, (7, 6, 4), 7_664_760, (188.25, 291.32, 417.29, 566.17)),
    (1.0, (3, 3, 2), 3_410_792, (41.48, 63.24, 89.84, 121.28)),
    (1.2, (7, 6, 4), 10_701_632, (279.99, 433.56, 621.27, 843.10)),
    (1.2, (3, 3, 2), 4_602_456, (65.54, 100.32, 142.83, 193.08)),
]


@pytest.mark.parametrize(("width_mult", "choices", "params", "million_macs"), COUNTS)
def test_counts_of_once_for_all(width_mult, choices, params, million_macs):
    net = shapes_only(width_mult=width_mult)
    kernel_size, expand_ratio, depth = choices
    for size, expected in zip((128, 160, 192, 224), million_macs, strict=True):
        uniform = {"kernel_size": kernel_size, "expand_ratio": expand_ratio, "depth": depth, "resolution": size}
        architecture = net.space.uniform(**uniform)
        result = cost(net, architecture)
        assert result.params == params
        assert round(result.macs / 1e6, 2) == expected
        assert sum(parameter.numel() for parameter in net.subnet(architecture).parameters()) == params


@pytest.mark.parametrize(("width_mult", "params"), [(1.0, 7_678_880), (1.2, 10_715_752)])
def test_parameters_of_the_supernet(width_mult, params):
    net = shapes_only(width_mult=width_mult)
    assert sum(parameter.numel() for parameter in net.parameters()) == params
    matrices = sum(parameter.numel() for name, parameter in net.named_parameters() if "matrices" in name)
    assert matrices == 20 * (625 + 81)
    plain = shapes_only(width_mult=width_mult, kernel_rule="center_crop")
    assert sum(parameter.numel() for parameter in plain.parameters()) == params - matrices


UNITS = [  # unit, MACs at 224, params of the largest network at width 1
    ("first conv", 5_419_008, 464),
    ("block 0", 5_017_600, 464),
    ("block 1", 41_244_672, 8_976),
    *[(f"block {i}", 43_803_648, 14_592) for i in (2, 3, 4)],
    ("block 5", 20_897_280, 28_632),
    *[(f"block {i}", 24_303_360, 63_024) for i in (6, 7, 8)],
    ("block 9", 13_594_560, 41_680),
    *[(f"block {i}", 19_662_720, 102_400) for i in (10, 11, 12)],
    ("block 13", 22_788_480, 233_624),
    *[(f"block {i}", 36_183_168, 413_000) for i in (14, 15, 16)],
    ("block 17", 21_859_488, 445_352),
    *[(f"block {i}", 17_818_560, 820_400) for i in (18, 19, 20)],
    ("final expand", 7_526_400, 155_520),
    ("feature mix", 1_228_800, 1_228_800),
    ("classifier", 1_280_000, 1_281_000),
]


def test_counts_of_each_unit():
    net = shapes_only()
    largest = net.space.largest()
    units: list[Cost] = []
    unit, shape = net.stem[0].cost((224, 224), 3, 16, 3)
    units.append(unit)
    unit, shape = net.stem[1].cost(shape, Block(3))
    units.append(unit)
    for levels, stage in zip(net.stages, largest.stages, strict=True):
        for level, block in zip(levels, stage.blocks, strict=True):
            unit, shape = level.cost(shape, block)
            units.append(unit)
    tail = net.exits["5"]
    units += [tail.expand.cost(shape, 160, 960, 1)[0], tail.mix.cost(960, 1280), tail.classify.cost(1280, 1000)]
    assert [(name, unit.macs, unit.params) for (name, _, _), unit in zip(UNITS, units, strict=True)] == UNITS
    assert sum(units, Cost()) == cost(net, largest)


EARLY = [  # width multiplier, params, million MACs at 64, 56, 48: the largest with one exit, then with five
    (1.0, False, 6_639_960, (49.798, 44.358, 32.131)),
    (1.2, False, 9_472_032, (73.990,)),
    (1.0, True, 8_193_912, (54.539, 48.748, 35.421)),
    (1.2, True, 11_651_936, (81.097,)),
]


@pytest.mark.parametrize(("width_mult", "all_exits", "params", "million_macs"), EARLY)
def test_counts_with_early_exits(width_mult, all_exits, params, million_macs):
    net = shapes_only(EARLY_EXITS, num_classes=200, width_mult=width_mult)
    largest = net.space.largest(exits="all" if all_exits else "last")
    for size, expected in zip((64, 56, 48), million_macs, strict=False):
        result = cost(net, replace(largest, resolution=size))
        assert (result.params, round(result.macs / 1e6, 3)) == (params, expected)
    assert sum(parameter.numel() for parameter in net.subnet(largest).parameters()) == params


def test_counts_by_height():
    net = shapes_only(EARLY_EXITS, num_classes=200)
    params = (123_672, 422_464, 1_095_024, 2_951_008, 6_639_960)
    macs = (15.897, 23.454, 29.674, 42.059, 49.798)
    for height in range(1, 6):
        result = cost(net, net.space.uniform(height=height))
        assert (result.params, round(result.macs / 1e6, 3)) == (params[height - 1], macs[height - 1])
    small = {"kernel_size": 3, "expand_ratio": 3, "depth": 2}
    for height, params, size, macs in ((1, 77_952, 64, 4.045), (1, 77_952, 48, 2.304), (5, 2_385_992, 64, 11.433)):
        result = cost(net, net.space.uniform(**small, height=height, resolution=size))
        assert (result.params, round(result.macs / 1e6, 3)) == (params, macs)


def macs_by_hooks(net: nn.Module, x: Tensor) -> int:
    """Multiply-adds of convolutions and linear layers: output positions times the weights they own."""
    counted = []

    def count(layer: nn.Module, args: tuple, output: Tensor) -> None:
        positions = output[0, 0].numel() if output.ndim > 2 else 1
        counted.append(positions * layer.weight.numel())

    layers = [layer for _, layer in net.elastic_layers() if layer.weight.ndim > 1]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    net.eval()(x)
    for hook in hooks:
        hook.remove()
    assert len(counted) == len(layers)
    return sum(counted)


@pytest.mark.parametrize("width_mult", [0.35, 1.2])
def test_counts_of_random_networks(width_mult):
    net = shapes_only(width_mult=width_mult)
    rng = random.Random(0)
    for _ in range(3):
        architecture = replace(net.space.sample(rng), resolution=rng.choice((128, 132, 180, 224)))
        subnet, result = net.subnet(architecture), cost(net, architecture)
        size = architecture.resolution
        assert result.params == sum(parameter.numel() for parameter in subnet.parameters())
        assert result.macs == macs_by_hooks(subnet, torch.empty(1, 3, size, size, device="meta"))


# -- the same network once more ----------------------------------------------------------------------------------


def small_network(seed: int = 0, **options) -> OFAMobileNetV3:
    facts = {"num_classes": 5, "width_mult": 0.5, "resolutions": (32, 33, 47)}
    return randomised(create_supernet("ofa_mbv3", **(facts | options)), seed).eval()


def test_equals_the_plain_network():
    net = small_network(width_mult=0.33).double()  # 960 and 1280 times it are not 6 and 8 times 56
    state = net.state_dict()
    assert state["exits.5.expand.conv.weight"].shape[0] == divisible(960 * 0.33) == 320
    assert state["exits.5.mix.weight"].shape[0] == divisible(1280 * 0.33) == 424
    rng = random.Random(0)
    seen: list[Tensor] = []
    chosen = [net.space.largest(), net.space.smallest(), *(net.space.sample(rng) for _ in range(4))]
    with torch.no_grad():
        for architecture in chosen:
            x = images(net, architecture, count=2)
            outputs = net(x, architecture)
            [expected] = plain(state, x, architecture, 0.33)
            assert distance(outputs, expected) < 1e-9 * float(expected.abs().max())
            assert all(distance(outputs, other) > 1e-3 for other in seen)
            seen.append(outputs)


def test_fifty_random_networks_are_extracted_bit_for_bit():
    net = small_network(width_mult=0.35, resolutions=(32,))
    rng = random.Random(1)
    chosen = {net.space.sample(rng) for _ in range(50)}
    x = images(net, net.space.largest(), count=2)
    outputs = []
    with torch.no_grad():
        for architecture in chosen:
            outputs.append(net(x, architecture))
            assert torch.equal(net.subnet(architecture)(x), outputs[-1]), architecture
    together = torch.stack([output.flatten() for output in outputs])
    apart = torch.cdist(together[None], together[None])[0] + torch.eye(len(outputs))
    assert len(outputs) == 50 and float(apart.min()) > 1e-3


PARTS = {  # what is frozen: the parameters that get no gradient, by the beginning of their names
    Freeze(stem=True): ("stem.",),
    Freeze(earlier_blocks=True): tuple(f"stages.{i}.0." for i in range(5)),
    Freeze(head=True): ("exits.",),
}


@pytest.mark.parametrize("freeze", PARTS, ids=str)
def test_frozen_parts(freeze):
    net = small_network(depths=(1, 2), width_mult=0.35, resolutions=(32,)).train()
    architecture = net.space.uniform(kernel_size=3, expand_ratio=3)
    net(images(net, architecture), architecture, freeze).square().sum().backward()
    frozen = {name for name, parameter in net.named_parameters() if parameter.grad is None}
    assert frozen == {name for name, _ in net.named_parameters() if name.startswith(PARTS[freeze])}


SIDES = {  # resolution: side after the stem and after each stage
    64: (32, 16, 8, 4, 4, 2),
    60: (30, 15, 8, 4, 4, 2),
    56: (28, 14, 7, 4, 4, 2),
    52: (26, 13, 7, 4, 4, 2),
    48: (24, 12, 6, 3, 3, 2),
    33: (17, 9, 5, 3, 3, 2),
    16: (8, 4, 2, 1, 1, 1),
}


@pytest.mark.parametrize("size", SIDES)
def test_odd_maps_are_halved_upwards(size):
    net = shapes_only(SearchSpace.build(5, resolutions=(size,), depths=(2,), kernel_sizes=(3, 7), expand_ratios=(3,)))
    seen = []
    for module in (net.stem[1], *(stage[-1] for stage in net.stages)):
        module.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape[2:])))
    net.eval()(torch.empty(1, 3, size, size, device="meta"), net.space.largest())
    assert seen == [(side, side) for side in SIDES[size]]


def test_images_that_are_not_square():
    net = small_network(resolutions=((32, 40), 48), depths=(1,))
    architecture = net.space.smallest()
    assert architecture.resolution == (32, 40)
    x = images(net, architecture)
    assert x.shape == (4, 3, 32, 40)
    with torch.no_grad():
        assert torch.equal(net.subnet(architecture)(x), net(x, architecture))
    subnet = net.subnet(architecture)
    assert cost(net, architecture).macs == macs_by_hooks(subnet, x[:1])


def early_exits() -> OFAMobileNetV3:
    space = SearchSpace.build(
        5, resolutions=(20, 32), depths=(1, 2), kernel_sizes=(3, 5), expand_ratios=(2, 3), heights=(1, 3, 5)
    )
    return OFAMobileNetV3(space, num_classes=4, in_channels=1, width_mult=0.35).initialise()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_common_checks_with_early_exits(check):
    check(early_exits)


def test_several_exits_answer_in_a_tuple():
    net = randomised(early_exits()).eval()
    everything = net.space.largest(exits="all")
    x = images(net, everything)
    with torch.no_grad():
        outputs = net(x, everything)
        assert isinstance(outputs, tuple) and [tuple(output.shape) for output in outputs] == [(4, 4)] * 3
        for height, output in zip((1, 3, 5), outputs, strict=True):
            alone = net(x, net.space.uniform(height=height))
            assert isinstance(alone, Tensor) and torch.equal(alone, output)
        two = net(x, replace(everything, exits=(3, 5)))
        assert len(two) == 2 and torch.equal(two[0], outputs[1])
        subnet = net.subnet(everything)
        assert distance(subnet(x), outputs) == 0 and len(subnet(x)) == 3


@pytest.mark.parametrize(
    "space",
    [
        SearchSpace.build(6, resolutions=(32,), depths=(1,), kernel_sizes=(3,)),
        SearchSpace.build(5, resolutions=(32,), depths=(1,), kernel_sizes=(3,), widths=(0.5, 1)),
        SearchSpace.build(5, resolutions=(32,), depths=(1,), kernel_sizes=(3,), stem=BlockChoices((3,))),
    ],
    ids=["six stages", "widths", "stem"],
)
def test_spaces_of_other_networks_are_refused(space):
    with pytest.raises(UserError, match="OFA-MobileNetV3 has"):
        OFAMobileNetV3(space)


def test_blocks_without_expansion():
    net = randomised(create_supernet("ofa_mbv3", width_mult=0.35, expand_ratios=(), depths=(1, 2), resolutions=(32,)))
    architecture = net.eval().space.largest()
    x = images(net, architecture)
    assert torch.equal(net.subnet(architecture)(x), net(x, architecture))
    assert list(net.channel_groups()) == []
    assert cost(net, architecture).params == sum(p.numel() for p in net.subnet(architecture).parameters())

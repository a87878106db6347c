"""Sorting against numpy, and against what it must leave alone, on networks with random weights and statistics."""

import numpy as np
import pytest
import torch

from common_checks import changes, distance, images, randomised, snapshot
from onceforall.layers.channels import ChannelGroup, ChannelSlice, sort_channels
from onceforall.layers.elastic import ElasticConv, ElasticLinear
from onceforall.search_space import SearchSpace
from onceforall.supernets import create_supernet


def network(ratios: tuple[int, ...] = (3, 4, 6)):
    net = create_supernet(
        "ofa_mbv3", width_mult=0.5, num_classes=5, in_channels=2, depths=(1, 2), expand_ratios=ratios, resolutions=(32,)
    )
    return randomised(net).double().eval()


def run(net, **factors) -> torch.Tensor:
    architecture = net.space.uniform(**factors)
    with torch.no_grad():
        return net(images(net, architecture), architecture)


FACTORS = [{"expand_ratio": ratio, "depth": 2, "kernel_size": 5} for ratio in (3, 4, 6)]


def change(net, kept: SearchSpace, banded: bool = True) -> dict[int, float]:
    """The largest change of an output that sorting makes, for each expansion ratio."""
    before = [run(net, **factors) for factors in FACTORS]
    sort_channels(net.channel_groups(), kept, banded)
    out = dict.fromkeys((3, 4, 6), 0.0)
    for factors, old in zip(FACTORS, before, strict=True):
        out[factors["expand_ratio"]] = max(out[factors["expand_ratio"]], distance(run(net, **factors), old))
    return out


def test_first_phase_keeps_the_largest_width():
    net = network()
    differences = change(net, net.space.restrict(expand_ratios=(6,)))
    assert differences[6] < 1e-12
    assert differences[4] > 1e-3 and differences[3] > 1e-3


def test_second_phase_keeps_two_widths():
    net = network()
    differences = change(net, net.space.restrict(expand_ratios=(4, 6)))
    assert differences[6] < 1e-12 and differences[4] < 1e-12
    assert differences[3] > 1e-3


def test_second_phase_as_the_reference_does_it_changes_the_middle_width():
    """The trap: hidden units of squeeze-excitation sorted without bands leave the widths that were trained."""
    net = network()
    differences = change(net, net.space.restrict(expand_ratios=(4, 6)), banded=False)
    assert differences[6] < 1e-12
    assert differences[4] > 1e-6
    assert differences[3] > 1e-3


def test_without_squeeze_excitation_the_reference_keeps_it_too():
    net = network()
    kept = net.space.restrict(expand_ratios=(4, 6))
    before = [run(net, **factors) for factors in FACTORS]
    sort_channels([group for group in net.channel_groups() if not group.squeeze], kept, banded_squeeze=False)
    for factors, old in zip(FACTORS, before, strict=True):
        assert (distance(run(net, **factors), old) < 1e-12) == (factors["expand_ratio"] > 3)


def test_a_space_without_the_largest_width():
    """Channels beyond the largest width that is kept stay where they are."""
    net = network()
    differences = change(net, net.space.restrict(expand_ratios=(3, 4)))
    assert max(differences.values()) < 1e-12
    only = change(net, net.space.restrict(expand_ratios=(4,)))
    assert only[4] < 1e-12 and only[6] < 1e-12 and only[3] > 1e-3


def test_blocks_that_no_kept_network_has_are_sorted_freely():
    net = network()
    before = snapshot(net)
    shallow = net.space.restrict(depths=(1,), expand_ratios=(3,))
    old = {depth: run(net, depth=depth, expand_ratio=3) for depth in (1, 2)}
    largest = run(net)
    sort_channels(net.channel_groups(), shallow)
    assert distance(run(net, depth=1, expand_ratio=3), old[1]) < 1e-12
    assert distance(run(net, depth=2, expand_ratio=3), old[2]) > 1e-3
    assert distance(run(net), largest) < 1e-12
    assert any(".1.paths" in name for name in changes(net, before))


def test_largest_is_kept_in_any_phase():
    net = network()
    for ratios in ((6,), (4, 6), (3, 4, 6), (3,)):
        for banded in (True, False):
            assert change(net, net.space.restrict(expand_ratios=ratios), banded)[6] < 1e-12


def bands(importance: np.ndarray, widths: list[int]) -> list[int]:
    """The order in which each band is sorted by falling importance, and the rest stays."""
    order: list[int] = []
    for start, end in zip([0, *widths], widths, strict=False):
        order += sorted(range(start, end), key=lambda channel: (-importance[channel], channel))
    return order + list(range(widths[-1], len(importance)))


@pytest.mark.parametrize("ratios", [(6,), (4, 6), (3, 4, 6), (3, 4)])
@pytest.mark.parametrize("banded", [True, False])
def test_order_and_places_against_numpy(ratios, banded):
    net = network()
    block = net.stages[1][1].paths["main"]  # with squeeze-excitation
    old = {name: tensor.numpy() for name, tensor in snapshot(block).items()}
    width = block.in_channels
    widths = [width * ratio for ratio in ratios]
    assert (width, widths[0]) == (24, 24 * ratios[0])
    quarters = {72: 24, 96: 24, 144: 40}  # 18 -> 16, below 0.9 of it, so 24; 24; 36 -> 40
    hidden = [quarters[w] for w in widths]
    order = bands(np.abs(old["project.conv.weight"]).sum((0, 2, 3)), widths)
    squeeze = np.abs(old["squeeze.expand.weight"]).sum(0)
    units = bands(squeeze, sorted(set(hidden)) if banded else [len(squeeze)])
    sort_channels(net.channel_groups(), net.space.restrict(expand_ratios=ratios), banded)
    expected = dict(old)
    for layer in ("expand", "depthwise"):
        expected[f"{layer}.conv.weight"] = old[f"{layer}.conv.weight"][order]
        for key in ("weight", "bias", "running_mean", "running_var"):
            expected[f"{layer}.norm.{key}"] = old[f"{layer}.norm.{key}"][order]
    expected["project.conv.weight"] = old["project.conv.weight"][:, order]
    expected["squeeze.reduce.weight"] = old["squeeze.reduce.weight"][units][:, order]
    expected["squeeze.reduce.bias"] = old["squeeze.reduce.bias"][units]
    expected["squeeze.expand.weight"] = old["squeeze.expand.weight"][order][:, units]
    expected["squeeze.expand.bias"] = old["squeeze.expand.bias"][order]
    for name, tensor in block.state_dict().items():
        assert np.array_equal(tensor.numpy(), expected[name]), name
    assert sorted(order) == list(range(len(order))) and order != sorted(order)


def test_equal_importance_keeps_its_order():
    producer, consumer = ElasticConv(2, 6), ElasticConv(6, 3)
    with torch.no_grad():
        producer.weight.copy_(torch.arange(12.0).view(6, 2, 1, 1))
        consumer.weight.copy_(torch.tensor([1.0, 2, -2, 1, 0, 2]).expand(3, 6)[..., None, None])
    unit = ChannelSlice(consumer, "in")
    group = ChannelGroup("stages.0.blocks.0.expand_ratio", {1: 6}, (ChannelSlice(producer, "out"), unit), unit)
    space = SearchSpace.build(1, resolutions=(8,), depths=(1,), kernel_sizes=(3,), expand_ratios=(1,))
    sort_channels([group], space)
    assert producer.weight[:, 0, 0, 0].tolist() == [2, 4, 10, 0, 6, 8]
    assert consumer.weight[0, :, 0, 0].tolist() == [2, -2, 2, 1, 1, 0]
    assert producer.weight.requires_grad and producer.weight.is_leaf


def test_slices_with_an_offset():
    """Concatenated inputs: each part is sorted among its own columns."""
    first, second, consumer = ElasticLinear(2, 3), ElasticLinear(2, 4), ElasticLinear(7, 1)
    with torch.no_grad():
        consumer.weight.copy_(torch.tensor([[1.0, 3, 2, 5, 8, 6, 7]]))
    names = ("stages.0.blocks.0.expand_ratio", "stages.0.blocks.1.expand_ratio")
    parts = ChannelSlice(consumer, "in"), ChannelSlice(consumer, "in", offset=3)
    groups = [
        ChannelGroup(names[0], {1: 3}, (ChannelSlice(first, "out"), parts[0]), parts[0]),
        ChannelGroup(names[1], {1: 4}, (ChannelSlice(second, "out"), parts[1]), parts[1]),
    ]
    assert [group.size for group in groups] == [3, 4]
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))

    def outputs() -> torch.Tensor:
        return consumer(torch.cat([first(x), second(x)], 1))

    with torch.no_grad():
        for layer in (first, second, consumer):
            if layer is not consumer:
                layer.reset(torch.Generator().manual_seed(1))
            layer.bias.fill_(0.5)
    before, rows = outputs(), second.weight.clone()
    space = SearchSpace.build(1, resolutions=(8,), depths=(2,), kernel_sizes=(3,), expand_ratios=(1,))
    sort_channels(groups, space)
    assert consumer.weight[0].tolist() == [3, 2, 1, 8, 7, 6, 5]
    assert torch.equal(second.weight, rows[[1, 3, 2, 0]])
    assert distance(outputs(), before) < 1e-5

"""Growing: which numbers are taken over and which are zero, entry by entry; the exceptions; what is refused.

That every network computes the same after growing, and that what was added learns, is among the common checks.
"""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from common_checks import changes, cut_back, distance, images, randomised, snapshot, statistics, with_identities
from onceforall.architecture import Architecture, Block, Stage
from onceforall.errors import UserError
from onceforall.layers.elastic import ElasticBatchNorm, ElasticConv, ElasticLayer, ElasticLinear
from onceforall.search_space import BlockChoices, SearchSpace
from onceforall.supernets import Supernet, create_supernet
from onceforall.supernets.growth import check_extension, take_over

TINY = {"width_mult": 0.35, "num_classes": 5, "resolutions": (32,), "dropout": 0.0}


def tiny(name: str = "ofa_mbv3", **options) -> Supernet:
    factors = {"depths": (1, 2), "expand_ratios": (2, 3), "kernel_sizes": (3, 5)}
    return randomised(create_supernet(name, **(TINY | factors | options))).double().eval()


def marked(layer: ElasticLayer, value: float) -> ElasticLayer:
    """`layer` with consecutive numbers from `value` on, no two alike."""
    with torch.no_grad():
        for tensor in layer.state_dict().values():
            tensor.copy_(value + torch.arange(tensor.numel()).view(tensor.shape))
            value += tensor.numel()
    return layer.double()


# -- entry by entry ----------------------------------------------------------------------------------------------

LAYERS = {
    "dense": ({"in_channels": 2, "out_channels": 3, "kernel_sizes": (3,), "bias": True}, (4, 5, (3, 5))),
    "pointwise": ({"in_channels": 3, "out_channels": 2}, (5, 2, (1,))),
    "depthwise": ({"in_channels": 2, "out_channels": 2, "kernel_sizes": (3,), "depthwise": True}, (3, 3, (3, 7))),
    "volume": ({"in_channels": 2, "out_channels": 2, "kernel_sizes": (1, 3), "spatial_dims": 3}, (3, 4, (1, 3, 5))),
    "only wider": ({"in_channels": 2, "out_channels": 2, "kernel_sizes": (3, 5)}, (2, 4, (3, 5))),
    "the same": ({"in_channels": 2, "out_channels": 2, "kernel_sizes": (3, 5)}, (2, 2, (3, 5))),
}


@pytest.mark.parametrize("rule", ["center_crop", "transform"])
@pytest.mark.parametrize("name", LAYERS)
def test_convolutions(name, rule):
    options, (inner, outer, sizes) = LAYERS[name]
    old = marked(ElasticConv(**options, kernel_rule=rule), 1000)
    if rule == "transform":
        old.kernel_rule.double().reset()
    larger = options | {"in_channels": inner, "out_channels": outer, "kernel_sizes": sizes}
    net = marked(ElasticConv(**larger, kernel_rule=rule), 5000)
    net.kernel_rule.double().reset()
    expected = net.weight.detach().numpy().copy()
    few, small = old.weight.detach().numpy(), options.get("kernel_sizes", (1,))[-1]
    expected[: few.shape[0]] = 0
    rim = (sizes[-1] - small) // 2
    middle = (slice(rim, rim + small),) * options.get("spatial_dims", 2)
    expected[(slice(few.shape[0]), slice(few.shape[1]), *middle)] = few
    bias = None if net.bias is None else np.concatenate([old.bias.detach().numpy(), net.bias.detach().numpy()[3:]])
    take_over(net, old)
    assert np.array_equal(net.weight.detach().numpy(), expected)
    assert bias is None or np.array_equal(net.bias.detach().numpy(), bias)
    assert net.weight.requires_grad and net.weight.is_leaf and net.weight.grad is None
    for size in options.get("kernel_sizes", (1,)):
        sizes_of_old = (*old.sizes[:2], size)
        for key, tensor in old.tensors(*sizes_of_old).items():
            assert torch.equal(net.tensors(*sizes_of_old)[key], tensor)


@pytest.mark.parametrize("rule", ["center_crop", "transform", "rings"])
@torch.no_grad()
def test_inputs_side_by_side(rule):
    """Each input's columns go to where that input begins; old outputs read nothing that is new in any of them."""
    old = randomised(ElasticConv((2, 1), 2, (3,), kernel_rule=rule, spatial_dims=3))
    net = randomised(ElasticConv((3, 4), 3, (3, 5), kernel_rule=rule, spatial_dims=3), seed=1)
    net.kernel_rule.reset()
    drawn = net.tensors((3, 4), 3, 5)["weight"].clone()
    take_over(net, old)
    expected = drawn.clone()
    expected[:2] = 0
    expected[:2, [0, 1, 3], 1:4, 1:4, 1:4] = old.weight
    assert torch.equal(net.tensors((3, 4), 3, 5)["weight"], expected)
    assert torch.equal(net.tensors((2, 1), 2, 3)["weight"], old.weight)


def test_linear_and_normalisation():
    old, net = marked(ElasticLinear(2, 3), 100), marked(ElasticLinear(4, 5), 500)
    expected = net.weight.detach().clone()
    expected[:3] = 0
    expected[:3, :2] = old.weight.detach()
    take_over(net, old)
    assert torch.equal(net.weight, expected)
    assert net.bias.tolist() == [*old.bias.tolist(), *net.bias.tolist()[3:]]
    old, net = marked(ElasticBatchNorm(2), 100), marked(ElasticBatchNorm(3), 500)
    before = snapshot(net)
    take_over(net, old)
    for key, tensor in net.state_dict().items():
        assert tensor.tolist() == [*old.state_dict()[key].tolist(), before[key][2].item()]
    assert not net.running_mean.requires_grad and net.weight.requires_grad


@pytest.mark.parametrize(("before", "after"), [((3,), (3, 5)), ((3, 7), (1, 3, 5, 7, 9)), ((5,), (3, 5, 7))])
@pytest.mark.parametrize("axes", [2, 3])
def test_rings(before, after, axes):
    """A ring is divided where a size in between is new; outer rings are zero, also of what the old outputs have."""
    old = randomised(ElasticConv(2, 2, before, kernel_rule="rings", spatial_dims=axes))
    net = randomised(ElasticConv(3, 4, after, kernel_rule="rings", spatial_dims=axes), seed=1)
    randomised(old.kernel_rule)
    randomised(net.kernel_rule, seed=1)
    drawn = {size: net.tensors(3, 4, size)["weight"].detach().clone() for size in after}
    take_over(net, old)
    for size in before:
        assert torch.equal(net.tensors(2, 2, size)["weight"], old.tensors(2, 2, size)["weight"])
    for size in after:
        kernel, rim = net.tensors(3, 4, size)["weight"], (size - before[-1]) // 2
        assert torch.equal(kernel[2:], drawn[size][2:]) and not kernel[:2, 2:].any()
        if rim > 0:
            assert torch.equal(
                kernel[:2, :2], torch.nn.functional.pad(old.tensors(2, 2, before[-1])["weight"], (rim,) * 2 * axes)
            )


@pytest.mark.parametrize(("before", "after"), [((3, 7), (3, 5, 7, 9)), ((5, 7), (3, 5, 7)), ((3, 5), (3, 5, 7))])
def test_transform_matrices(before, after):
    """A smaller kernel that was there comes out as it did, through any sizes that are new in between."""
    old = ElasticConv(2, 2, before, depthwise=True, kernel_rule="transform")
    net = ElasticConv(4, 4, after, depthwise=True, kernel_rule="transform")
    net.reset(torch.Generator().manual_seed(1))
    randomised(old)
    take_over(net, old)
    for size in before:
        assert torch.equal(net.tensors(2, 2, size)["weight"], old.tensors(2, 2, size)["weight"])
    if after[-1] > before[-1]:
        rim = (after[-1] - before[-1]) // 2
        largest = net.tensors(2, 2, after[-1])["weight"]
        assert torch.equal(largest, torch.nn.functional.pad(old.weight, (rim,) * 4))


def test_width_with_squeeze_excitation():
    """Three zero blocks: what old outputs read of new channels, of new hidden units, and the projection's."""
    old = tiny(expand_ratios=(2,))
    net = old.grow(old.space.extend(expand_ratios=(2, 6)))
    main = net.stages[1][1].path("main")  # 16 channels: 32 hidden ones become 96, and 8 units of the squeeze 24
    assert (main.project.conv.sizes[0], main.squeeze.reduce.sizes) == (96, (96, 24))
    zero = {
        "project": main.project.conv.weight[:, 32:],
        "reduce": main.squeeze.reduce.weight[:8, 32:],
        "expand": main.squeeze.expand.weight[:32, 8:],
    }
    for name, part in zero.items():
        assert part.numel() and not part.any(), name
    drawn = (main.squeeze.reduce.weight[8:], main.squeeze.expand.weight[32:], main.expand.conv.weight[32:])
    assert all(part.all() for part in drawn)
    fresh = create_supernet("ofa_mbv3", **TINY, expand_ratios=(2, 6), depths=(1, 2), kernel_sizes=(3, 5)).double()
    assert torch.equal(main.expand.conv.weight[32:], fresh.stages[1][1].path("main").expand.conv.weight[32:])


def test_new_blocks_start_as_the_identity():
    old = tiny(depths=(1,))
    net = old.grow(old.space.extend(depths=(1, 3)), seed=4)
    fresh = create_supernet("ofa_mbv3", **TINY, expand_ratios=(2, 3), depths=(1, 3), kernel_sizes=(3, 5), seed=4)
    silent = {f"stages.{i}.{j}.paths.main.project.norm.{key}" for i in range(5) for j in (1, 2) for key in ("weight",)}
    fresh = fresh.double().state_dict()
    added = {name for name in net.state_dict() if name not in old.state_dict()}
    assert {name for name in added if not torch.equal(net.state_dict()[name], fresh[name])} == silent
    assert all(not net.state_dict()[name].any() for name in silent)
    assert changes(net, net.state_dict() | snapshot(old)) == set(), "all else is what it was"


# -- what holds beyond the common checks -------------------------------------------------------------------------


def test_the_same_space_gives_the_same_network():
    old = tiny("ee_p_ofa_mbv3", heights=(2, 5))
    net = old.grow(old.space)
    assert net is not old and not changes(net, snapshot(old))
    assert not net.training and old.train().grow(old.space).training


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_type_is_kept(dtype):
    old = tiny().to(dtype)
    net = old.grow(old.space.extend(depths=(1, 2, 3)))
    assert {tensor.dtype for tensor in net.state_dict().values()} == {dtype}
    small = old.space.largest()
    x = images(old, small)
    assert distance(net(x, small), old(x, small)) == 0


def test_a_frozen_network_grows_into_one_that_learns():
    net = tiny().requires_grad_(False).grow(tiny().space)
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_growing_twice_and_growing_at_once():
    old = tiny()
    middle = old.space.extend(depths=(1, 2, 3), kernel_sizes=(3, 5, 7))
    end = middle.extend(expand_ratios=(2, 3, 4), resolutions=(32, 40))
    twice, once = old.grow(middle).grow(end), old.grow(end)
    assert twice.space == once.space == end
    rng = random.Random(0)
    for architecture in (old.space.largest(), *(old.space.sample(rng) for _ in range(4))):
        x = images(old, architecture)
        assert distance(twice(x, architecture), old(x, architecture)) == 0
        assert distance(once(x, architecture), old(x, architecture)) == 0
    larger, x = end.largest(), images(old, old.space.largest())
    expected = old(x, old.space.largest())
    for net in (twice, once):
        assert distance(net(x, larger), expected) < 1e-12 * float(expected.detach().abs().max())


CHAINS = {
    "prox_mobilenet": {},
    "prox_mobilenet, published": {"layout": "published"},
    "ofa_mbv3": {"kernel_rule": "transform"},
    "ee_p_ofa_mbv3": {"heights": (3, 5), "paths": (4, 2, 6)},
}
STEPS = {"depths": (1, 2), "expand_ratios": (2, 3), "kernel_sizes": (3, 5), "resolutions": (16, 20)}


@torch.no_grad()
@pytest.mark.parametrize("case", CHAINS)
def test_chains_of_growth(case):
    """Factors in random order; before each the network has changed as if it had been trained since the last.

    200 architectures in all, in both modes: what was there is the same bits, and what is larger the same function,
    unless the network announces that this factor changes it.
    """
    rng, name = random.Random(case), case.partition(",")[0]
    options = {"width_mult": 0.25, "num_classes": 3, **CHAINS[case]} | {f: c[:1] for f, c in STEPS.items()}
    net = create_supernet(name, **options)
    for number, factor in enumerate(rng.sample(list(STEPS), len(STEPS))):
        old = randomised(net, seed=number).double()
        old.set_dropout(0.0)
        net = old.grow(old.space.extend(**{factor: STEPS[factor]}))
        net.set_dropout(0.0)
        newest = net.space.restrict(**{factor: STEPS[factor][1:]})
        drawn = [*(old.space.sample(rng) for _ in range(4)), *(newest.sample(rng) for _ in range(9))]
        chosen = [with_identities(architecture, old.space) for architecture in drawn if has_main_path(architecture)]
        if factor in net.changed_by_growth:
            chosen = [architecture for architecture in chosen if architecture in old.space]
        else:
            assert sum(architecture not in old.space for architecture in chosen) > 3
        for training in (False, True):  # running statistics move in the second round only
            for architecture in chosen:
                x = images(net, architecture)
                expected = old.train(training)(x, cut_back(architecture, old.space))
                difference = distance(net.train(training)(x, architecture), expected)
                limit = 0 if architecture in old.space else 1e-12 * float(expected.abs().max())
                assert difference <= limit, (factor, str(architecture))


def has_main_path(architecture: Architecture) -> bool:
    return any("main" in block.paths for stage in architecture.stages for block in stage.blocks)


def test_a_sub_network_grows():
    net = tiny(depths=(1, 2, 3), kernel_sizes=(3, 5, 7))
    small = net.space.uniform(kernel_size=5, depth=2, expand_ratio=2)
    grown = net.subnet(small).grow(net.space)
    x = images(net, small)
    assert distance(grown(x, small), net(x, small)) == 0
    larger = net.space.uniform(kernel_size=7, depth=3, expand_ratio=3)
    assert distance(grown(x, larger), net(x, small)) < 1e-12 * float(net(x, small).detach().abs().max())
    assert distance(grown(x, larger), net(x, larger)) > 1e-3


@pytest.mark.parametrize("name", ["ee_b_ofa_mbv3", "ee_dp_ofa_mbv3"])
def test_taller(name):
    low = create_supernet(name, **TINY).space.restrict(heights=(1, 2), depths=(2,), expand_ratios=(3,))
    old = randomised(type(tiny())(low, **tiny(name).options).initialise()).eval()
    net = old.grow(low.extend(heights=(1, 2, 3, 4, 5)))
    assert set(net.exits) == {"1", "2", "3", "4", "5"} and len(net.stages) == 5
    rng = random.Random(1)
    for architecture in (low.largest(exits="all"), *(low.sample(rng) for _ in range(4))):
        x = images(net, architecture)
        assert distance(net(x, architecture), old(x, architecture)) == 0
    assert net(images(net, net.space.largest()), net.space.largest()).shape == (4, 5)


def test_more_exits():
    old = tiny("ee_b_ofa_mbv3", heights=(5,))
    assert old.space.exits == (5,)
    net = old.grow(old.space.extend(heights=(3, 5)))
    x = images(net, net.space.largest())
    assert distance(net(x, old.space.largest()), old(x, old.space.largest())) == 0
    both = net(x, net.space.largest(exits="all"))
    assert len(both) == 2 and distance(both[1], old(x, old.space.largest())) == 0


def test_more_paths():
    """What was there stays; a level that runs other paths than before computes something else."""
    old = tiny("se_p_ofa_mbv3", paths=((4),))
    net = old.grow(old.space.extend(paths=(1, 2, 3, 4, 5, 6, 7)))
    largest = old.space.largest()
    x = images(net, largest)
    assert distance(net(x, largest), old(x, largest)) == 0
    assert distance(net(x, net.space.largest()), old(x, largest)) > 1e-3


def deeper(architecture: Architecture, paths: tuple[str, ...] = ("main",)) -> Architecture:
    added = Block(3, 2, paths)
    return replace(architecture, stages=tuple(Stage((*stage.blocks, added)) for stage in architecture.stages))


@pytest.mark.parametrize(("name", "kept"), [("se_d_ofa_mbv3", {1}), ("ofa_mbv3", {1, 2, 3})])
def test_dense_stages_change_from_the_third_level_on(name, kept):
    """With y_3 = y_2 the third level adds y_1 once more, and so on; the second adds nothing."""
    for depth in (1, 2, 3):
        old = tiny(name, depths=(depth,))
        net = old.grow(old.space.extend(depths=(depth, depth + 1)))
        x, architecture = images(net, old.space.largest()), old.space.largest()
        expected = old(x, architecture)
        assert distance(net(x, architecture), expected) == 0
        same = distance(net(x, deeper(architecture)), expected) < 1e-12 * float(expected.detach().abs().max())
        assert same == (depth in kept)
        assert ("depths" in net.changed_by_growth) == (name == "se_d_ofa_mbv3")


@pytest.mark.parametrize(("paths", "same"), [(("main",), True), (("main", "norm_act"), False)])
def test_a_new_level_that_runs_another_path(paths, same):
    old = tiny("se_p_ofa_mbv3", depths=(1,))
    net = old.grow(old.space.extend(depths=(1, 2)))
    architecture = old.space.largest()
    x = images(net, architecture)
    expected = old(x, architecture)
    difference = distance(net(x, deeper(architecture, paths)), expected)
    assert (difference < 1e-12 * float(expected.detach().abs().max())) == same


def test_statistics_of_what_is_new_are_untouched():
    old = tiny()
    net = old.grow(old.space.extend(depths=(1, 2, 3)))
    for name in statistics(net) - statistics(old):
        tensor: Tensor = net.state_dict()[name]
        assert torch.equal(tensor, torch.full_like(tensor, float(name.endswith("var"))))


# -- what is refused ---------------------------------------------------------------------------------------------

SPACE = SearchSpace.build(2, resolutions=(32, 48), depths=(1, 2), kernel_sizes=(3, 5), expand_ratios=(2, 3))
REFUSED = {
    "kernel": (SPACE.restrict(kernel_sizes=(5,)), r"^stages\.0\.blocks\.0\.kernel_size 5: .* and 3 is missing;"),
    "depth": (SPACE.restrict(depths=(1,)), r"^stages\.0\.depth 1: .* and 2 is missing;"),
    "resolution": (SPACE.restrict(resolutions=(48,)), r"^resolution 48: .* and 32 is missing;"),
    "expansion": (
        SearchSpace.build(2, resolutions=(32, 48), depths=(1, 2), kernel_sizes=(3, 5)),
        r"^stages\.0\.blocks\.0\.expand_ratio none: .* and 2, 3 is missing;",
    ),
    "stem": (replace(SPACE, stem=BlockChoices((3,))), r"^stem\.kernel_size 3: .* no such factor"),
    "widths": (
        SearchSpace.build(
            2, resolutions=(32, 48), depths=(1, 2), kernel_sizes=(3, 5), expand_ratios=(2, 3), widths=(1,)
        ),
        r"^stages\.0\.width 1: .* no such factor",
    ),
    "height": (replace(SPACE, stages=SPACE.stages[:1], heights=(), exits=()), r"^height 1: .* and 2 is missing;"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_spaces_that_lack_something_are_refused(name):
    space, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as caught:
        check_extension(SPACE, space)
    assert "\n" not in str(caught.value)


def test_exits_stay():
    early = SearchSpace.build(3, resolutions=(32,), depths=(1,), kernel_sizes=(3,), heights=(1, 3))
    with pytest.raises(UserError, match=r"^exits 3: .* and 1 is missing"):
        check_extension(replace(early, heights=(3,)), replace(early, heights=(3,), exits=(3,)))


@pytest.mark.parametrize(
    "factors",
    [{}, {"depths": (1, 2, 4)}, {"kernel_sizes": (1, 3, 5, 7)}, {"heights": (1, 2, 3)}, {"resolutions": (16, 32, 48)}],
)
def test_extended_spaces_are_accepted(factors):
    check_extension(SPACE, SPACE.extend(**factors))

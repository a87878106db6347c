"""OFAv2's seven networks (2023): the paper's counts, and each network against plain functions."""

import random
from dataclasses import replace
from typing import final

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from common_checks import distance, images, randomised, tensors
from onceforall.architecture import Architecture, Block, paths_of_code
from onceforall.errors import UserError
from onceforall.evaluation.cost import cost
from onceforall.exporting import export
from onceforall.layers.blocks import PathModule
from onceforall.layers.channels import sort_channels
from onceforall.layers.elastic import Cost, ElasticBatchNorm
from onceforall.layers.paths import PATHS, PathSite
from onceforall.search_space import SearchSpace
from onceforall.supernets import Supernet, create_supernet
from plain_network import plain

NAMES = {  # name: dense, parallel, exits
    "ofa_mbv3": (False, False, False),
    "se_d_ofa_mbv3": (True, False, False),
    "se_p_ofa_mbv3": (False, True, False),
    "se_dp_ofa_mbv3": (True, True, False),
    "ee_b_ofa_mbv3": (False, False, True),
    "ee_d_ofa_mbv3": (True, False, True),
    "ee_p_ofa_mbv3": (False, True, True),
    "ee_dp_ofa_mbv3": (True, True, True),
}
PARALLEL = [name for name, (_, parallel, _) in NAMES.items() if parallel]
EARLY = [name for name, (_, _, exits) in NAMES.items() if exits]
TINY = {"width_mult": 0.35, "num_classes": 5}


def paper_network(name: str, width_mult: float = 1.0) -> Supernet:
    """The paper's network for Tiny ImageNet, without memory."""
    with torch.device("meta"):
        return create_supernet(name, num_classes=200, width_mult=width_mult, resolutions=(48, 56, 64))


def drawn(space: SearchSpace, count: int, seed: int = 0) -> list[Architecture]:
    """The largest with all exits, the smallest, and random ones; where there are exits, every second with several."""
    rng = random.Random(seed)
    chosen = [space.largest(exits="all"), space.smallest()]
    while len(chosen) < count:
        architecture = space.sample(rng)
        earlier = [number for number in space.exits if number < architecture.height and rng.random() < 0.5]
        chosen.append(replace(architecture, exits=(*earlier, architecture.height)) if len(chosen) % 2 else architecture)
    return chosen


# -- the paper's counts ------------------------------------------------------------------------------------------

SINGLE = {1.0: (6_639_960, (49.798, 44.358, 32.131)), 1.2: (9_472_032, (73.990,))}
SINGLE_PARALLEL = {1.0: (6_850_040, (52.616, 46.926, 33.913)), 1.2: (9_776_472, (78.355,))}
EXITS = {1.0: (8_193_912, (54.539, 48.748, 35.421)), 1.2: (11_651_936, (81.097,))}
# what the four further exits add to the network without parallel paths, they add to that with them
EXITS_PARALLEL = {1.0: (8_403_992, ()), 1.2: (11_651_936 + 9_776_472 - 9_472_032, ())}
LARGEST = {  # (parallel, exits): width multiplier: params, million MACs at 64, 56, 48
    (False, False): SINGLE,
    (True, False): SINGLE_PARALLEL,
    (False, True): EXITS,
    (True, True): EXITS_PARALLEL,
}
MATRICES = 14_120


@pytest.mark.parametrize("width_mult", [1.0, 1.2])
@pytest.mark.parametrize("name", NAMES)
def test_largest_networks(name, width_mult):
    _, parallel, exits = NAMES[name]
    params, million_macs = LARGEST[parallel, exits][width_mult]
    net = paper_network(name, width_mult)
    largest = net.space.largest(exits="all")
    assert len(largest.exits) == (5 if exits else 1)
    for size, expected in zip((64, 56, 48), million_macs, strict=False):
        assert round(cost(net, replace(largest, resolution=size)).macs / 1e6, 3) == expected
    assert cost(net, largest).params == params
    assert sum(parameter.numel() for parameter in net.subnet(largest).parameters()) == params
    assert sum(parameter.numel() for parameter in net.parameters()) == params + MATRICES


@pytest.mark.parametrize("width_mult", [1.0, 1.2])
def test_paths_and_exits_add_up(width_mult):
    for size in (48, 56, 64):
        macs = {
            key: cost(net, replace(net.space.largest(exits="all"), resolution=size)).macs
            for key, name in (
                ("b", "ofa_mbv3"),
                ("p", "se_p_ofa_mbv3"),
                ("e", "ee_b_ofa_mbv3"),
                ("ep", "ee_p_ofa_mbv3"),
            )
            for net in [paper_network(name, width_mult)]
        }
        assert macs["ep"] - macs["e"] == macs["p"] - macs["b"]


BY_HEIGHT = {1: (123_672, 15.897), 2: (422_464, 23.454), 3: (1_095_024, 29.674), 4: (2_951_008, 42.059)}
BY_HEIGHT |= {5: (6_639_960, 49.798)}


@pytest.mark.parametrize("name", ["ee_b_ofa_mbv3", "ee_d_ofa_mbv3", "ee_p_ofa_mbv3", "ee_dp_ofa_mbv3"])
def test_counts_by_height(name):
    net = paper_network(name)
    code = {"paths": 4} if NAMES[name][1] else {}
    for height, (params, macs) in BY_HEIGHT.items():
        result = cost(net, net.space.uniform(height=height, resolution=64, **code))
        assert (result.params, round(result.macs / 1e6, 3)) == (params, macs)
    small = {"kernel_size": 3, "expand_ratio": 3, "depth": 2} | code
    for height, params, size, macs in ((1, 77_952, 64, 4.045), (1, 77_952, 48, 2.304), (5, 2_385_992, 64, 11.433)):
        result = cost(net, net.space.uniform(**small, height=height, resolution=size))
        assert (result.params, round(result.macs / 1e6, 3)) == (params, macs)


WIDTHS = {1.0: ((16, 24, 40, 80, 112, 160), (960, 1280)), 1.2: ((24, 32, 48, 96, 136, 192), (1152, 1536))}


@pytest.mark.parametrize("width_mult", [1.0, 1.2])
def test_widths(width_mult):
    (stem, *stages), tail = WIDTHS[width_mult]
    state = paper_network("ee_p_ofa_mbv3", width_mult).state_dict()
    assert state["stem.0.conv.weight"].shape[0] == stem
    for number, width in enumerate(stages, start=1):
        before = (stem, *stages)[number - 1]
        assert state[f"stages.{number - 1}.0.paths.pointwise.unit.conv.weight"].shape == (width, before, 1, 1)
        assert state[f"stages.{number - 1}.0.paths.norm_act.reshape.weight"].shape == (width, before, 1, 1)
        assert state[f"exits.{number}.expand.conv.weight"].shape == (6 * width, width, 1, 1)
        assert state[f"exits.{number}.mix.weight"].shape == (8 * width, 6 * width)
        assert state[f"exits.{number}.classify.weight"].shape == (200, 8 * width)
    assert (6 * stages[-1], 8 * stages[-1]) == tail
    reshaped = {tuple(name.split(".")[1:3]) for name in state if "norm_act.reshape" in name}
    assert reshaped == {(str(stage), "0") for stage in range(5)}, "only the first level of a stage changes the width"


PER_STAGE, CODES_PER_STAGE, NETWORKS_PER_STAGE = 7_371, 16_006_977, 2_374_281


@pytest.mark.parametrize("name", NAMES)
def test_sizes_of_the_spaces(name):
    _, parallel, exits = NAMES[name]
    space = create_supernet(name, **TINY, resolutions=(64,)).space
    heights = range(1, 6) if exits else (5,)
    assert space.encodings() == sum((CODES_PER_STAGE if parallel else PER_STAGE) ** height for height in heights)
    assert space.size() == sum((NETWORKS_PER_STAGE if parallel else PER_STAGE) ** height for height in heights)
    assert len(space.stages[0].blocks[0].values()) == (39 if parallel else 9)
    assert create_supernet(name, **TINY).space.resolutions[-1] == (224 if name == "ofa_mbv3" else 64)


PHASES: dict[str, dict] = {}  # choices, each on top of those before
PHASES["ER"] = {"kernel_sizes": (7,), "paths": (7,), "heights": (5,), "depths": (4,), "expand_ratios": (6,)}
PHASES["EKS"] = PHASES["ER"] | {"kernel_sizes": (3, 5, 7)}
PHASES["EL1"] = PHASES["EKS"] | {"paths": (3, 5, 6, 7)}
PHASES["EL2"] = PHASES["EKS"] | {"paths": (1, 2, 3, 4, 5, 6, 7)}
for _number, _heights in enumerate(((4, 5), (3, 4, 5), (2, 3, 4, 5), (1, 2, 3, 4, 5)), start=1):
    PHASES[f"EH{_number}"] = PHASES["EL2"] | {"heights": _heights}
PHASES["ED1"] = PHASES["EH4"] | {"depths": (3, 4)}
PHASES["ED2"] = PHASES["EH4"] | {"depths": (2, 3, 4)}
PHASES["EW1"] = PHASES["ED2"] | {"expand_ratios": (4, 6)}
PHASES["EW2"] = PHASES["ED2"] | {"expand_ratios": (3, 4, 6)}

GRIDS = {  # (parallel, exits): combinations of values of each phase, in order; None where it is not executed
    (False, False): (3, 9, None, None, None, None, None, None, 18, 27, 54, 81),
    (True, False): (3, 9, 36, 63, None, None, None, None, 126, 189, 378, 567),
    (False, True): (3, 9, None, None, 18, 27, 36, 45, 90, 135, 270, 405),
    (True, True): (3, 9, 36, 63, 126, 189, 252, 315, 630, 945, 1890, 2835),
}


@pytest.mark.parametrize("name", ["se_d_ofa_mbv3", "se_p_ofa_mbv3", "ee_d_ofa_mbv3", "ee_p_ofa_mbv3"])
def test_combinations_of_each_phase(name):
    """Section V of the paper; a level without its inverted residual has neither kernel nor expansion."""
    _, parallel, exits = NAMES[name]
    space = create_supernet(name, **TINY, resolutions=(48, 56, 64)).space
    for (phase, choices), combinations in zip(PHASES.items(), GRIDS[parallel, exits], strict=True):
        if combinations is None:
            continue
        own = {k: v for k, v in choices.items() if (k != "paths" or parallel) and (k != "heights" or exits)}
        grid = list(space.restrict(**own).grid())
        assert sum(count for _, count in grid) == combinations, phase
        with_main = sum(1 for code in own.get("paths", (4,)) if code & 4)
        without = len(own.get("paths", (4,))) - with_main
        main = len(own["kernel_sizes"]) * len(own["expand_ratios"])
        distinct = 3 * len(own.get("heights", (5,))) * len(own["depths"]) * (with_main * main + without)
        assert len(grid) == distinct, phase
        if name == "ee_p_ofa_mbv3" and phase in ("EL2", "EW2"):
            assert len(grid) == {"EL2": 45, "EW2": 1755}[phase]


# -- against plain functions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_plain_network(name):
    net = randomised(create_supernet(name, **TINY, resolutions=(33, 52))).double().eval()
    state = net.state_dict()
    seen: list[Tensor] = []
    with torch.no_grad():
        for architecture in dict.fromkeys(drawn(net.space, 6)):
            x = images(net, architecture, count=2)
            outputs = tensors(net(x, architecture))
            expected = plain(state, x, architecture, 0.35, dense=NAMES[name][0])
            assert len(outputs) == len(expected) == len(architecture.exits)
            for output, other in zip(outputs, expected, strict=True):
                assert distance(output, other) < 1e-9 * float(other.abs().max())
            scale = float(outputs[-1].abs().max())
            assert all(distance(outputs[-1], other) > 1e-3 * scale for other in seen)
            seen.append(outputs[-1])


@pytest.mark.parametrize("parallel", [False, True])
def test_dense_skips_do_nothing_at_depth_two(parallel):
    names = ("ee_p_ofa_mbv3", "ee_dp_ofa_mbv3") if parallel else ("ee_b_ofa_mbv3", "ee_d_ofa_mbv3")
    without, dense = (randomised(create_supernet(name, **TINY, resolutions=(32,))).eval() for name in names)
    dense.load_state_dict(without.state_dict())
    x = images(dense, dense.space.largest())
    with torch.no_grad():
        for depth in (2, 3, 4):
            architecture = replace(dense.space.uniform(depth=depth), exits=(1, 2, 3, 4, 5))
            same = distance(dense(x, architecture), without(x, architecture)) == 0
            assert same == (depth == 2)
    two = dense.space.restrict(depths=(2,))
    for seed in range(5):
        architecture = two.sample(random.Random(seed))
        assert distance(dense(x, architecture), without(x, architecture)) == 0


@pytest.mark.parametrize(("single", "other"), [("se_p", "ofa"), ("se_dp", "se_d"), ("ee_p", "ee_b"), ("ee_dp", "ee_d")])
def test_level_code_four_is_the_network_without_parallel_paths(single, other):
    names = [f"{single}_ofa_mbv3", "ofa_mbv3" if other == "ofa" else f"{other}_ofa_mbv3"]
    parallel, base = (randomised(create_supernet(name, **TINY, resolutions=(32,))).eval() for name in names)
    state = parallel.state_dict()
    base.load_state_dict({name: state[name] for name in base.state_dict()})
    x = images(base, base.space.largest())
    with torch.no_grad():
        for architecture in drawn(base.space, 5):
            assert architecture in parallel.space
            assert distance(parallel(x, architecture), base(x, architecture)) == 0
            assert cost(parallel, architecture) == cost(base, architecture)
        code = parallel.space.uniform(paths=4)
        assert code == base.space.largest()
        assert distance(parallel(x, code), parallel(x, parallel.space.largest())) > 1e-3


def with_silent_residuals(net: Supernet) -> Supernet:
    """All inverted residuals but the first of each stage compute nothing beside their identity."""
    for stage in net.stages:
        for level in list(stage)[1:]:
            norm = level.path("main").project.norm
            norm.weight.data.zero_()
            norm.bias.data.zero_()
    return net


@pytest.mark.parametrize(("name", "factors"), [("ee_d_ofa_mbv3", (1, 2, 4)), ("ee_b_ofa_mbv3", (1, 1, 1))])
def test_dense_sums(name, factors):
    """With y_1 the output of the first block: y_1 at depth 2, 2 y_1 at 3 and 4 y_1 at 4."""
    net = with_silent_residuals(randomised(create_supernet(name, **TINY, resolutions=(32,)))).eval()
    outputs: list[Tensor] = []
    net.exits["1"].register_forward_pre_hook(lambda module, args: outputs.append(args[0]))
    x = images(net, net.space.largest())
    first: list[Tensor] = []
    net.stages[0][0].register_forward_hook(lambda module, args, output: first.append(output))
    with torch.no_grad():
        for depth in (2, 3, 4):
            net(x, net.space.uniform(depth=depth, height=1))
    assert len(first) == len(outputs) == 3
    for factor, y_1, output in zip(factors, first, outputs, strict=True):
        torch.testing.assert_close(output, factor * y_1, rtol=1e-6, atol=1e-6)


def test_dense_sums_do_not_change_what_they_add():
    """The output of a level is added as it was, also where the level in between has no identity."""
    net = randomised(create_supernet("ee_dp_ofa_mbv3", **TINY, resolutions=(32,))).double().eval()
    code = net.space.uniform(paths=3, height=1)
    x = images(net, code)
    seen: list[tuple[Tensor, Tensor]] = []
    for level in net.stages[0]:
        level.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    entered: list[Tensor] = []
    net.exits["1"].register_forward_pre_hook(lambda module, args: entered.append(args[0]))
    with torch.no_grad():
        net(x, code)
    inputs, (y_1, y_2, y_3, y_4) = zip(*seen, strict=True)
    for got, expected in ((inputs[1], y_1), (inputs[2], y_2), (inputs[3], y_3 + y_1), (entered[0], y_4 + y_2 + y_1)):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


# -- training ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EARLY)
@pytest.mark.parametrize("height", [1, 3, 5])
def test_what_a_height_trains(name, height):
    net = randomised(create_supernet(name, **TINY, resolutions=(32,))).train()
    architecture = net.space.uniform(height=height)
    net(images(net, architecture), architecture).square().sum().backward()
    missing = {key for key, parameter in net.named_parameters() if parameter.grad is None}
    unused = tuple(f"stages.{i}." for i in range(height, 5))
    unused += tuple(f"exits.{number}." for number in range(1, 6) if number != height)
    matrices = {key for key, _ in net.named_parameters() if "matrices" in key}  # the largest kernels need none
    assert missing - matrices == {key for key, _ in net.named_parameters() if key.startswith(unused)} - matrices
    net.zero_grad()
    everything = replace(net.space.uniform(height=height), exits=tuple(range(1, height + 1)))
    sum(output.square().sum() for output in tensors(net(images(net, everything), everything))).backward()
    reached = {key for key, parameter in net.named_parameters() if parameter.grad is not None}
    assert {key for key, _ in net.named_parameters() if key.startswith("exits.")} & reached == {
        key for key, _ in net.named_parameters() if key.startswith(tuple(f"exits.{i}." for i in range(1, height + 1)))
    }


@pytest.mark.parametrize("code", range(1, 8))
def test_what_a_level_code_trains(code):
    net = randomised(create_supernet("se_p_ofa_mbv3", **TINY, resolutions=(32,))).train()
    architecture = net.space.uniform(paths=code)
    net(images(net, architecture), architecture).square().sum().backward()
    used = {name.split(".")[4] for name, p in net.named_parameters() if p.grad is not None and "paths" in name}
    assert used == set(paths_of_code(code))


@pytest.mark.parametrize("name", ["se_p_ofa_mbv3", "ee_b_ofa_mbv3", "ee_dp_ofa_mbv3"])
def test_sorting_leaves_the_largest_network_as_it_is(name):
    net = randomised(create_supernet(name, **TINY, resolutions=(32,))).double().eval()
    largest, narrow = net.space.largest(exits="all"), net.space.uniform(expand_ratio=3)
    x = images(net, largest)
    with torch.no_grad():
        before, narrow_before = net(x, largest), net(x, narrow)
        sort_channels(net.channel_groups(), SearchSpace.only(largest))
        scale = max(float(output.abs().max()) for output in tensors(before))
        assert distance(net(x, largest), before) < 1e-12 * scale
        assert distance(net(x, narrow), narrow_before) > 1e-6


# -- sub-networks ------------------------------------------------------------------------------------------------


def with_real_statistics(net: Supernet, architecture: Architecture) -> Supernet:
    """Random weights; running statistics near those of this sub-network on images, so that these matter for outputs."""
    randomised(net)
    generator = torch.Generator().manual_seed(1)
    layers = [layer for layer in net.modules() if isinstance(layer, ElasticBatchNorm)]
    for layer in layers:
        layer.momentum = 1.0
    with torch.no_grad():
        net.train()(images(net, architecture, count=64), architecture)
    for layer in layers:
        noise = torch.rand(layer.running_var.shape, generator=generator)
        layer.running_mean += (noise - 0.5) * layer.running_var.sqrt()
        layer.running_var *= noise + 0.5
    return net.eval()


@pytest.mark.parametrize("name", NAMES)
def test_sub_networks_are_extracted_bit_for_bit(name):
    net = create_supernet(name, **TINY, resolutions=(32,))
    seen: list[Tensor] = []
    with torch.no_grad():
        for architecture in dict.fromkeys(drawn(net.space, 10, seed=3)):
            with_real_statistics(net, architecture)
            x = images(net, architecture)
            outputs = net(x, architecture)
            assert distance(net.subnet(architecture)(x), outputs) == 0, architecture
            last = tensors(outputs)[-1]
            assert float(last.std(0).max()) > 1e-2 * float(last.abs().max()), "the images hardly matter"
            assert all(distance(last, other) > 1e-3 for other in seen)
            seen.append(last)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "ofa_mbv3"])
def test_exported_files_compute_what_the_supernet_computes(name, tmp_path):
    net = create_supernet(name, **TINY, resolutions=(32,), depths=(1, 3))
    several_exits = name in EARLY
    fitting = (a for a in drawn(net.space, 40)[2:] if 3 in a.depths and (len(a.exits) > 1) == several_exits)
    architecture = next(fitting)
    with_real_statistics(net, architecture)
    x = images(net, architecture, count=33)
    about = {"classes": list("abcde"), "preparation": {}, "facts": {}}
    report = export(net.subnet(architecture), tmp_path / "net", images=x, **about)
    session = onnxruntime.InferenceSession(str(report.path / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    several = [f"logits_{exit_number}" for exit_number in architecture.exits]
    assert names == (several if len(several) > 1 else ["logits"])
    with torch.no_grad():
        expected = tensors(net(x, architecture))
    assert len(expected) == len(names)
    for found, output in zip(session.run(None, {"images": x.numpy()}), expected, strict=True):
        np.testing.assert_allclose(found, output.numpy(), atol=1e-3 * report.difference.scale)
    assert report.difference.relative < 1e-3 and report.difference.agreement == 1
    allowed = {"Conv", "HardSwish", "Relu", "HardSigmoid", "GlobalAveragePool", "Flatten", "Mul", "Add"}
    # normalisation after a maximum has no convolution to be folded into
    allowed |= {"MaxPool", "BatchNormalization"} if name in PARALLEL else set()
    assert set(report.nodes) <= allowed


# -- paths of one's own ------------------------------------------------------------------------------------------


@final
class Mean(PathModule):
    """The mean of 3 x 3, where the shape stays; nothing is learned."""

    def __init__(self, site: PathSite) -> None:
        super().__init__()
        self.widths, self.stride = (site.in_channels, site.out_channels), site.stride

    def forward(self, x: Tensor, block: Block, frozen: bool = False) -> Tensor:
        x = F.avg_pool2d(x, 3, self.stride, 1)
        return F.pad(x, (0, 0, 0, 0, 0, self.widths[1] - self.widths[0]))

    def cost(self, shape, block):
        return Cost(), tuple(-(-size // self.stride) for size in shape)

    def channel_groups(self, name):
        return iter(())


def test_a_path_that_is_registered_can_be_chosen(monkeypatch):
    monkeypatch.setitem(PATHS, "mean", Mean)
    sets = (("mean",), ("main",), ("main", "mean", "pointwise"))
    net = randomised(create_supernet("ee_b_ofa_mbv3", **TINY, paths=sets, depths=(1, 2), resolutions=(32,))).eval()
    main, both = net.space.uniform(paths="main", height=1), net.space.uniform(paths=sets[2], height=1)
    x = images(net, main)
    with torch.no_grad():
        assert distance(net(x, main), net(x, both)) > 1e-3
        for architecture in drawn(net.space, 6):
            assert distance(net.subnet(architecture)(x), net(x, architecture)) == 0
            params = sum(parameter.numel() for parameter in net.subnet(architecture).parameters())
            assert cost(net, architecture).params == params
    mean = net.space.uniform(paths="mean")
    assert not [name for name in net.subnet(mean).state_dict() if name.startswith("stages.")]


def test_an_unknown_path_is_refused():
    with pytest.raises(UserError) as caught:
        create_supernet("ofa_mbv3", **TINY, paths=(("main",), ("main", "point-wise")))
    known = "'main', 'pointwise', 'norm_act'"
    assert str(caught.value) == f"path 'point-wise' is not one of: {known}. Did you mean 'pointwise'?"
    net = create_supernet("se_p_ofa_mbv3", **TINY, depths=(1,))
    with pytest.raises(UserError, match=r"paths \('pool',\): allowed are [^\n]*'pointwise'[^\n]*$"):
        net.space.uniform(paths="pool")

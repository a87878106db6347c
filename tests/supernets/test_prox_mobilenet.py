"""ProX's MobileNet. Oracles: sizes and space of the published code (spec, sections 1.2, 1.3), and plain functions."""

import random
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from common_checks import images, randomised
from onceforall.errors import UserError
from onceforall.search_space import BlockChoices, SearchSpace
from onceforall.supernets import Freeze
from onceforall.supernets.prox_mobilenet import ProXMobileNet
from onceforall.supernets.registry import create_supernet

FACTORS = {"depths": (1, 2, 3), "expand_ratios": (3, 4, 6), "kernel_sizes": (3, 5, 7)}
SIZES = {"resolutions": (160, 192, 224)}


def on_meta(layout, **options):
    with torch.device("meta"):
        return create_supernet("prox_mobilenet", num_classes=4, in_channels=1, layout=layout, **(SIZES | options))


def test_published_sizes():
    """Parameters, and millions of multiply-adds at 160, 192 and 224 pixels."""
    net = on_meta("published")
    space = net.space
    assert space.size() == (9 + 81 + 729) ** 5 * 9 * 3
    for architecture, params, macs in (
        (space.smallest(), 834_242, [81.1, 116.8, 159.0]),
        (space.largest(), 10_720_336, [1235.7, 1779.4, 2422.0]),
    ):
        found = [net.measure(replace(architecture, resolution=size)) for size in space.resolutions]
        assert {cost.params for cost in found} == {params}
        assert [round(cost.macs / 1e6, 1) for cost in found] == macs
    assert sum(parameter.numel() for parameter in net.parameters()) == 10_720_336, "one tensor for all kernel sizes"


def test_the_sound_layout():
    net = on_meta("sound")
    space = net.space
    assert space.stem is None and space.size() == (9 + 81 + 729) ** 5 * 3
    # by hand: stem; five stages of the smallest block (expand, depthwise, project, each normalised); head
    expected, width = 9 * 16 + 2 * 16, 16
    for out in (32, 64, 128, 256, 512):
        hidden = 3 * width
        expected += width * hidden + 9 * hidden + hidden * out + 2 * (2 * hidden + out)
        width = out
    expected += 512 * 64 + 64 + 64 * 4 + 4
    assert net.measure(space.smallest()).params == expected
    assert not [name for name, _ in net.named_modules() if "squeeze" in name]


@pytest.mark.parametrize("layout", ["published", "sound"])
def test_maps_are_halved_five_times(layout):
    net = create_supernet("prox_mobilenet", width_mult=0.25, layout=layout, depths=(1, 2), resolutions=(40,))
    sides = []
    for stage in net.stages:
        stage[0].register_forward_hook(lambda _, __, out: sides.append(out.shape[-1]))
    with torch.no_grad():
        net.eval()(torch.zeros(2, 1, 40, 40), net.space.largest())
    assert sides == [20, 10, 5, 3, 2], "an odd side is rounded up"


def test_the_published_block_as_plain_functions():
    """1x1, ReLU, depthwise, ReLU, 1x1, ReLU, plus the input between zero channels, ReLU, normalisation."""
    net = randomised(
        create_supernet(
            "prox_mobilenet",
            num_classes=3,
            in_channels=1,
            width_mult=0.5,
            layout="published",
            kernel_rule="center_crop",
            **FACTORS,
        )
    )
    net = net.double().eval()
    architecture = net.space.sample(random.Random(4))
    state = net.state_dict()
    x = own = images(net, architecture, count=2)

    def block(name, x, value):
        hidden = round(x.shape[1] * value.expand_ratio)
        y = F.relu(F.conv2d(x, state[f"{name}.expand.weight"][:hidden]))
        edge = (7 - value.kernel_size) // 2
        kernel = state[f"{name}.depthwise.weight"][:hidden, :, edge : 7 - edge, edge : 7 - edge]
        y = F.relu(F.conv2d(y, kernel, None, 1, value.kernel_size // 2, 1, hidden))
        y = F.relu(F.conv2d(y, state[f"{name}.project.weight"][:, :hidden]))
        more = y.shape[1] - x.shape[1]
        before, after = (torch.zeros(len(x), n, *x.shape[2:], dtype=x.dtype) for n in (more // 2, more - more // 2))
        y = F.relu(y + torch.cat([before, x, after], 1))
        norm = [state[f"{name}.norm.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(y, *norm)

    own = block("stem", own, architecture.stem)
    for i, stage in enumerate(architecture.stages):
        own = F.max_pool2d(own, 2)
        for j, value in enumerate(stage.blocks):
            own = block(f"stages.{i}.{j}", own, value)
    own = own.mean((2, 3))
    own = F.relu(F.linear(own, state["head.0.weight"], state["head.0.bias"]))
    own = F.linear(own, state["head.1.weight"], state["head.1.bias"])
    found = net(x, architecture)
    torch.testing.assert_close(found, own, rtol=1e-10, atol=1e-10)
    assert (found - net(x, net.space.largest())).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("layout", "space", "expected"),
    [
        ("sond", SearchSpace.build(5, **SIZES, **FACTORS), "layout 'sond' is not one of.*Did you mean 'sound'"),
        ("sound", SearchSpace.build(4, **SIZES, **FACTORS), "five stages and one exit"),
        ("sound", SearchSpace.build(5, **SIZES, **FACTORS, heights=(3, 5)), "five stages and one exit"),
        ("published", SearchSpace.build(5, **SIZES, **FACTORS), "published layout has an elastic stem"),
        (
            "sound",
            SearchSpace.build(5, **SIZES, **FACTORS, stem=BlockChoices((3,))),
            "sound layout has no elastic stem",
        ),
    ],
)
def test_spaces_of_other_networks_are_refused(layout, space, expected):
    with pytest.raises(UserError, match=expected):
        ProXMobileNet(space, layout=layout)


@pytest.mark.parametrize("layout", ["sound", "published"])
def test_only_the_outer_ring_of_each_kernel_learns(layout):
    """The stem's too, where it is elastic; nothing else is frozen with the inner kernels."""
    options = {"width_mult": 0.25, "depths": (1,), "kernel_sizes": (3, 5), "expand_ratios": (3,), "resolutions": (32,)}
    net = create_supernet("prox_mobilenet", layout=layout, kernel_rule="rings", **options).train()
    architecture = net.space.uniform(kernel_size=5)
    net(images(net, architecture), architecture, Freeze(inner_kernels="on_sample")).square().sum().backward()
    frozen = {name for name, parameter in net.named_parameters() if parameter.grad is None}
    rings = {name for name, _ in net.named_parameters() if name.endswith("rings.5")}
    assert len(rings) == (6 if layout == "published" else 5)
    assert frozen == {name.replace("kernel_rule.rings.5", "weight") for name in rings}

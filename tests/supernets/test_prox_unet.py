"""ProX's U-Net. Oracles: sizes, spaces and phases of the published code (its specification), and plain functions."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from common_checks import distance, images, randomised, snapshot
from onceforall.architecture import Stage
from onceforall.errors import UserError
from onceforall.exporting import export
from onceforall.layers.channels import sort_channels
from onceforall.search_space import BlockChoices, SearchSpace
from onceforall.supernets import Freeze
from onceforall.supernets.prox_unet import ProXUNet
from onceforall.supernets.registry import create_supernet
from onceforall.training.schedules import progressive_expansion, progressive_shrinking

BRATS = {"poolings": 4, "in_channels": 4, "num_classes": 3, "resolutions": (80, 96, 112)}
HIPPOCAMPUS = {"poolings": 3, "in_channels": 1, "num_classes": 2, "resolutions": (48, 64, 80)}
TINY = {"num_classes": 3, "poolings": 2, "base_width": 4, "resolutions": ((8, 4, 4),)}


def published(options):
    with torch.device("meta"):
        return create_supernet("prox_unet3d", layout="published", depths=(1,), **options)


def tiny(**options):
    return randomised(create_supernet("prox_unet3d", **(TINY | options))).double().eval()


def sampled(net, count=4, seed=0):
    """Random architectures; the first one differs in width between sections, and between a section and its mirror."""
    rng, drawn = random.Random(seed), []
    while len(drawn) < count:
        architecture = net.space.sample(rng)
        widths = [stage.width for stage in architecture.stages]
        if drawn or (len(set(widths)) > 1 and widths != widths[::-1]):
            drawn.append(architecture)
    return drawn


# -- the published network -----------------------------------------------------------------------------------------

SIZES = [  # options; factors; millions of parameters; thousand millions of multiply-adds at the three resolutions
    (BRATS, {"width": 0.5, "kernel_size": 3}, "0.737", ["6.2", "10.7", "16.9"]),
    (BRATS, {"width": 1, "kernel_size": 3}, "2.942", ["23.1", "39.9", "63.4"]),
    (BRATS, {}, "13.615", ["107.0", "184.9", "293.6"]),
    (HIPPOCAMPUS, {"width": 0.5, "kernel_size": 3}, "0.182", ["1.16", "2.75", "5.36"]),
    (HIPPOCAMPUS, {"width": 1, "kernel_size": 3}, "0.728", ["4.49", "10.6", "20.8"]),
    (HIPPOCAMPUS, {}, "3.367", ["20.8", "49.3", "96.3"]),
]


@pytest.mark.parametrize(("options", "factors", "params", "macs"), SIZES)
def test_published_sizes(options, factors, params, macs):
    net = published(options)
    architecture = net.space.uniform(**factors)
    found = [net.measure(replace(architecture, resolution=size)) for size in options["resolutions"]]
    assert {f"{cost.params / 1e6:.3f}" for cost in found} == {params}
    assert [
        f"{cost.macs / 1e9:.{len(text.partition('.')[2])}f}" for cost, text in zip(found, macs, strict=True)
    ] == macs
    stored = sum(parameter.numel() for parameter in net.parameters())
    assert stored == net.measure(net.space.largest()).params, "one tensor for all kernel sizes"


@pytest.mark.parametrize(("options", "size"), [(BRATS, 1_572_864), (HIPPOCAMPUS, 98_304)])
def test_published_spaces(options, size):
    """Width of each section, kernel size of each convolution and of the head, three resolutions."""
    assert published(options).space.size() == size


def factors_of(phases):
    return [(phase.space.widths, phase.space.kernel_sizes, phase.space.resolutions) for phase in phases]


def test_published_phases():
    sizes = BRATS["resolutions"]
    expected = [((0.5,), (3,), sizes), ((0.5, 1), (3,), sizes), ((0.5, 1), (3, 5), sizes)]
    assert factors_of(progressive_expansion(published(BRATS).space, mode="mixed")) == expected
    first = [((0.5,), (3,), (48,)), ((0.5, 1), (3,), (48,)), ((0.5, 1), (3, 5), (48,))]
    expected = [*first, ((0.5, 1), (3, 5), (48, 64)), ((0.5, 1), (3, 5), (48, 64, 80))]
    assert factors_of(progressive_expansion(published(HIPPOCAMPUS).space, mode="increasing")) == expected
    phases = progressive_shrinking(published(BRATS).space)
    assert factors_of(phases) == [((1,), (5,), sizes), ((1,), (3, 5), sizes), ((0.5, 1), (3, 5), sizes)]
    assert [phase.sort_channels for phase in phases] == ["none", "none", "banded"]


def test_phases_with_depth():
    """Expansion: depth, width, kernel; shrinking: kernel, depth, width."""
    space = create_supernet("prox_unet3d", **TINY).space
    assert [phase.name for phase in progressive_expansion(space)] == ["smallest", "depth", "width", "kernel"]
    assert [phase.name for phase in progressive_shrinking(space)] == ["full", "kernel", "depth", "width"]


# -- what it computes ----------------------------------------------------------------------------------------------


def plain(state, x, architecture, full_widths, layout):
    """The network in torch's functions only, from a state dictionary with kernels of 5 whose centres are those of 3."""

    def conv(name, inputs, out, kernel_size, bias=None):
        """`inputs`: pairs of a tensor and the first column of the stored weight that reads it."""
        columns = [start + channel for x, start in inputs for channel in range(x.shape[1])]
        edge = (5 - kernel_size) // 2
        middle = (slice(edge, 5 - edge),) * 3
        weight = state[f"{name}.weight"]
        weight = weight[:out, columns]
        weight = weight[(slice(None), slice(None), *middle)] if weight.shape[-1] == 5 else weight
        return F.conv3d(torch.cat([x for x, _ in inputs], 1), weight, bias, padding=weight.shape[-1] // 2)

    def norm(name, x):
        values = [state[f"{name}.{key}"][: x.shape[1]] for key in ("running_mean", "running_var", "weight", "bias")]
        mean, var, scale, shift = (value.view(1, -1, 1, 1, 1) for value in values)
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    skips, last = [], len(architecture.stages) - 1
    for i, stage in enumerate(architecture.stages):
        if i > last // 2:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
            inputs = [(skips.pop(), 0), (x, full_widths[last - i])]
        else:
            n, c, *size = x.shape
            if i > 0:
                x = x.reshape(n, c, size[0] // 2, 2, size[1] // 2, 2, size[2] // 2, 2).amax((3, 5, 7))
            inputs = [(x, 0)]
        out = round(full_widths[i] * stage.width)
        x = conv(f"sections.{i}.conv", inputs, out, stage.blocks[0].kernel_size)
        x = norm(f"sections.{i}.norm", x.relu()) if layout == "published" else norm(f"sections.{i}.norm", x).relu()
        for j, block in enumerate(stage.blocks[1:]):
            name = f"sections.{i}.units.{j}"
            x = x + conv(f"{name}.conv", [(norm(f"{name}.norm", x).relu(), 0)], out, block.kernel_size)
        if i < last // 2:
            skips.append(x)
    head = 1 if architecture.head is None else architecture.head.kernel_size
    return conv("head", [(x, 0)], 3, head, state.get("head.bias"))


@pytest.mark.parametrize(("layout", "elastic_head"), [("sound", False), ("sound", True), ("published", False)])
def test_it_is_the_plain_network(layout, elastic_head):
    depths = (1,) if layout == "published" else (1, 2, 3)
    net = tiny(layout=layout, elastic_head=elastic_head, depths=depths, kernel_rule="center_crop")
    assert ("head.bias" in net.state_dict()) == (layout == "sound")
    assert (net.space.head is None) == (layout == "sound" and not elastic_head)
    outputs = []
    for architecture in sampled(net):
        x = images(net, architecture, count=2)
        outputs.append(net(x, architecture).detach())
        expected = plain(net.state_dict(), x, architecture, [4, 8, 16, 8, 4], layout)
        torch.testing.assert_close(outputs[-1], expected, rtol=1e-10, atol=1e-10)
    assert distance(outputs[0], outputs[1]) > 1e-3


@pytest.mark.parametrize("rule", ["center_crop", "transform", "rings"])
def test_skip_and_up_sampled_channels_do_not_mix(rule):
    """Each narrow network reads, of every weight, the columns of its own channels: the others may hold anything."""
    net = tiny(depths=(1,), kernel_rule=rule)
    architecture = sampled(net, count=1)[0]
    x = images(net, architecture, count=2)
    expected = net(x, architecture)
    full = [4, 8, 16, 8, 4]
    widths = [round(stage.width * size) for stage, size in zip(architecture.stages, full, strict=True)]
    changed = 0
    for i in (3, 4):  # decoder: its skip comes from section 4 - i, the rest from the section before
        conv = net.sections[i].conv
        used = [*range(widths[4 - i]), *range(full[4 - i], full[4 - i] + widths[i - 1])]
        unused = [column for column in range(full[4 - i] + full[i - 1]) if column not in used]
        changed += len(unused)
        with torch.no_grad():
            for tensor in (conv.weight, *conv.kernel_rule.along_channels()):
                assert tensor.shape[1] == full[4 - i] + full[i - 1]
                tensor[:, unused] = float("nan")
    assert changed
    assert torch.equal(net(x, architecture), expected)
    assert net(x, net.space.largest()).isnan().any()


def test_maps_are_halved_by_each_pooling_and_brought_back():
    net = create_supernet("prox_unet3d", base_width=2, resolutions=((8, 16, 24),)).eval()
    sizes = []
    for section in net.sections:
        section.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[1:])))
    with torch.no_grad():
        assert net(torch.zeros(2, 1, 8, 16, 24), net.space.largest()).shape == (2, 2, 8, 16, 24)
    encoder = [(2, 8, 16, 24), (4, 4, 8, 12), (8, 2, 4, 6)]
    assert sizes == [*encoder, (16, 1, 2, 3), *encoder[::-1]]


# -- growing -------------------------------------------------------------------------------------------------------

GROWN = {
    "depth": {"depths": (1, 2, 3)},
    "width": {"widths": (0.5, 1)},
    "kernel": {"kernel_sizes": (3, 5)},
    "all": {"depths": (1, 2, 3), "widths": (0.5, 1), "kernel_sizes": (3, 5)},
}


def cut_back(architecture):
    """One convolution of size 3 in each section of half width."""
    stages = tuple(Stage((replace(stage.blocks[0], kernel_size=3),), 0.5) for stage in architecture.stages)
    head = None if architecture.head is None else replace(architecture.head, kernel_size=3)
    return replace(architecture, stages=stages, head=head)


@pytest.mark.parametrize("factor", GROWN)
@pytest.mark.parametrize("rule", ["rings", "center_crop", "transform"])
@torch.no_grad()
def test_growing_changes_no_function(factor, rule):
    small = {"depths": (1,), "widths": (0.5,), "kernel_sizes": (3,)}
    old = tiny(kernel_rule=rule, elastic_head=True, **small)
    net = old.grow(old.space.extend(**GROWN[factor]))
    assert sum(p.numel() for p in net.parameters()) > sum(p.numel() for p in old.parameters())
    before, grown = snapshot(old), snapshot(net)
    for architecture in (net.space.largest(), *sampled_any(net, 4)):
        assert architecture not in old.space
        x = images(net, architecture, count=2)
        for training in (False, True):
            old.load_state_dict(before)  # running statistics moved
            net.load_state_dict(grown)
            expected = old.train(training)(x, cut_back(architecture))
            found = net.train(training)(x, architecture)
            assert distance(found, expected) < 1e-12 * float(expected.abs().max())


def sampled_any(net, count):
    """Random architectures that use something that is new."""
    rng, drawn = random.Random(1), []
    while len(drawn) < count:
        architecture = net.space.sample(rng)
        drawn += [architecture] if architecture != cut_back(architecture) else []
    return drawn


def test_only_what_a_space_needs_is_stored():
    half = create_supernet("prox_unet3d", widths=(0.5,), depths=(1,), kernel_sizes=(3,), **TINY)
    assert [section.conv.weight.shape[0] for section in half.sections] == [2, 4, 8, 4, 2]
    assert tuple(half.sections[4].conv.weight.shape) == (2, 2 + 4, 3, 3, 3)
    without = SearchSpace.build(3, resolutions=(4,), depths=(1,), kernel_sizes=(3,))
    whole = ProXUNet(without, base_width=4).initialise()
    assert not list(whole.channel_groups())
    assert [section.conv.weight.shape[0] for section in whole.sections] == [4, 8, 4]


# -- sorting -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_sorting_is_harmless_and_sorts():
    net = tiny(depths=(1, 2))
    largest, half = net.space.largest(), net.space.uniform(width=0.5)
    x = images(net, largest, count=2)
    before = [net(x, architecture) for architecture in (largest, half)]
    sort_channels(net.channel_groups(), net.space.restrict(widths=(1,)))
    after = [net(x, architecture) for architecture in (largest, half)]
    assert distance(before[0], after[0]) < 1e-12 * float(before[0].abs().max())
    assert distance(before[1], after[1]) > 1e-3
    full = (4, 8, 16, 8, 4)
    for i, size in enumerate(full):  # by the sum of absolute weights of what reads them, here for each section behind
        reader = net.head if i == 4 else net.sections[i + 1].conv
        start = 0 if i < 2 or i == 4 else full[4 - i - 1] if i > 2 else full[1]
        held = [reader.weight, *reader.kernel_rule.along_channels()]
        norms = sum(np.abs(t.numpy()).sum(tuple(a for a in range(t.ndim) if a != 1)) for t in held)
        own = norms[start : start + size]
        assert list(own) == sorted(own, reverse=True)
    sort_channels(net.channel_groups(), net.space)
    again = [net(x, architecture) for architecture in (largest, half)]
    assert all(distance(a, b) < 1e-12 * float(a.abs().max()) for a, b in zip(after, again, strict=True))


# -- freezing ------------------------------------------------------------------------------------------------------


def test_freezing():
    net = create_supernet("prox_unet3d", elastic_head=True, **TINY).train()
    architecture = net.space.largest()

    def trained(**parts):
        net.zero_grad()
        net(images(net, architecture), architecture, Freeze(**parts)).square().sum().backward()
        return {name for name, parameter in net.named_parameters() if parameter.grad is not None}

    free = trained()
    assert free == {name for name, _ in net.named_parameters()}
    assert free - trained(stem=True) == {n for n in free if n.startswith(("sections.0.conv.", "sections.0.norm."))}
    assert free - trained(earlier_blocks=True) == {n for n in free if ".units" not in n and not n.startswith("head")}
    assert free - trained(head=True) == {n for n in free if n.startswith("head")}
    rings = {n for n in free if n.endswith("rings.5")}
    assert len(rings) == 11, "two convolutions in each of five sections, and the head"
    assert free - trained(inner_kernels="on_sample") == {n.replace("kernel_rule.rings.5", "weight") for n in rings}


def test_a_frozen_beginning_keeps_nothing_for_the_backward_pass():
    net = create_supernet("prox_unet3d", **TINY).train()
    architecture = net.space.uniform(depth=1)
    outputs = {}
    net.sections[0].register_forward_hook(lambda _, __, out: outputs.update({len(outputs): out}))
    kept = []
    for freeze in (Freeze(), Freeze(stem=True)):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, to=sizes: to.append(t.numel()) or t, lambda t: t):
            net(images(net, architecture), architecture, freeze)
        kept.append(sum(sizes))
    assert outputs[0].requires_grad and not outputs[1].requires_grad
    numbers = outputs[0].numel()
    assert kept[0] - kept[1] >= 2 * numbers, "what normalisation and ReLU keep of the first section's maps"


# -- export, two axes, bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("axes", "number"), [(2, 0), (3, 0), (3, 1)])
def test_an_exported_sub_network_computes_the_same(axes, number, tmp_path):
    sizes = ((8, 4, 12)[:axes],)
    net = randomised(
        create_supernet("prox_unet3d", spatial_dims=axes, elastic_head=True, **(TINY | {"resolutions": sizes}))
    ).eval()
    architecture = sampled(net, count=2)[number]
    report = export(
        net.subnet(architecture),
        tmp_path / "network",
        images=images(net, architecture, count=3),
        classes=["background", "anterior", "posterior"],
        preparation={},
        facts={},
    )
    assert report.difference.relative < 1e-4
    further = sum(len(stage.blocks) - 1 for stage in architecture.stages)
    assert report.nodes["Conv"] == 5 + further + 1
    assert report.nodes.get("BatchNormalization", 0) == further, "those before a sum cannot be folded"
    assert not {"Gather", "If", "Loop", "Shape", "Slice"} & set(report.nodes)


def test_widths_are_even_so_that_half_is_exact():
    net = create_supernet("prox_unet3d", width_mult=0.3, **(TINY | {"base_width": 14}))  # 4.2, 8.4, 16.8
    assert net.full_widths == [4, 8, 16, 8, 4]
    assert [section.conv.sizes[1] for section in net.subnet(net.space.smallest()).sections] == [2, 4, 8, 4, 2]


SPACE = {"resolutions": (8,), "depths": (1,), "kernel_sizes": (3,)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"resolutions": (42,)}, "resolution 42: 2 poolings need a multiple of 4 on each axis, such as 40 or 44"),
        ({"resolutions": ((8, 3, 9),)}, "resolution 8x3x9: .* multiple of 4 on each axis, such as 8x4x8 or 8x4x12"),
        ({"resolutions": (2,)}, "resolution 2: .* such as 4"),
        ({"resolutions": ((8, 8, 4),), "spatial_dims": 2}, r"resolution \(8, 8, 4\): .* each of its 2 axes"),
        ({"layout": "published", "depths": (1, 2)}, r"published layout has one convolution a section; give depths"),
        ({"layout": "publshed"}, "Did you mean 'published'"),
        ({"spatial_dims": 4, "resolutions": (8,)}, "spatial_dims 4"),
        ({"poolings": 0}, "poolings 0: must be a whole number of at least 1"),
        ({"base_width": 2.5}, "base_width 2.5: must be a whole number"),
        ({"elastic_head": 1}, "elastic_head 1: must be true or false"),
        ({"widths": (0.5, 0.55)}, "of 4 channels two of them are the same number"),
        ({"widths": (0.5, 2)}, "width 2: must be a number above 0 and at most 1"),
    ],
)
def test_options_that_make_no_network(options, expected):
    with pytest.raises(UserError, match=expected):
        create_supernet("prox_unet3d", **(TINY | options))


@pytest.mark.parametrize(
    ("space", "layout", "expected"),
    [
        (SearchSpace.build(4, **SPACE), "sound", "odd number of sections"),
        (SearchSpace.build(1, **SPACE), "sound", "odd number of sections"),
        (SearchSpace.build(3, **SPACE, heights=(1, 3)), "sound", "which all run"),
        (SearchSpace.build(3, **SPACE, stem=BlockChoices((3,))), "sound", "no elastic stem"),
        (SearchSpace.build(3, **SPACE, expand_ratios=(2,)), "sound", "no expand_ratios"),
        (SearchSpace.build(3, **SPACE, paths=(4, 6)), "sound", "no parallel paths"),
        (SearchSpace.build(3, **SPACE), "published", "a head of elastic kernel size"),
    ],
)
def test_spaces_of_other_networks_are_refused(space, layout, expected):
    with pytest.raises(UserError, match=expected):
        ProXUNet(space, layout=layout)


def test_volumes_of_other_sizes():
    net = create_supernet("prox_unet3d", **TINY).eval()
    architecture = net.space.smallest()
    with torch.no_grad():
        assert net(torch.zeros(1, 1, 4, 8, 12), architecture).shape == (1, 3, 4, 8, 12)
    with pytest.raises(UserError, match="input of size 8x6x4: .* such as 8x4x4 or 8x8x4"):
        net(torch.zeros(1, 1, 8, 6, 4), architecture)

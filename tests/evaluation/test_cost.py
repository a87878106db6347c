"""Costs by a formula that knows nothing of modules; the published counts are tested with the network."""

import random
from dataclasses import replace

import pytest

from onceforall.architecture import Architecture
from onceforall.errors import UserError
from onceforall.evaluation.cost import Cost, cost
from onceforall.supernets import create_supernet

TABLE = ((24, 2, False), (40, 2, True), (80, 2, False), (112, 1, True), (160, 2, True))


def divisible(value: float) -> int:
    n = max(8, int(value + 4) // 8 * 8)
    return n + 8 if n < 0.9 * value else n


def by_formula(architecture: Architecture, width_mult: float, channels: int, classes: int) -> Cost:
    """Once-for-All's counts: convolutions and linear layers, those of squeeze-excitation with their biases."""
    params = macs = activations = norms = peak = 0

    def conv(inputs: int, outputs: int, kernel: int, side: int, before: int | None = None) -> None:
        nonlocal params, macs, activations, norms, peak
        read = (outputs if inputs == 1 else inputs) * (before or side) ** 2
        peak = max(peak, read + outputs * side**2)
        params += inputs * outputs * kernel**2
        macs += inputs * outputs * kernel**2 * side**2
        activations += outputs * side**2
        norms += outputs

    def linear(inputs: int, outputs: int, bias: bool) -> None:
        nonlocal params, macs, activations, peak
        peak = max(peak, inputs + outputs)
        params += inputs * outputs + outputs * bias
        macs += inputs * outputs
        activations += outputs

    width, side = divisible(16 * width_mult), -(-architecture.resolution // 2)
    conv(channels, width, 3, side, architecture.resolution)
    conv(1, width, 3, side)  # depthwise: each channel has one input
    conv(width, width, 1, side)
    for stage, (base, stride, squeeze) in zip(architecture.stages, TABLE, strict=True):
        for number, block in enumerate(stage.blocks):
            hidden = divisible(round(width * block.expand_ratio))
            conv(width, hidden, 1, side)
            before, side = side, -(-side // stride) if number == 0 else side
            conv(1, hidden, block.kernel_size, side, before)
            if squeeze:
                units = divisible(hidden // 4)
                linear(hidden, units, True)
                linear(units, hidden, True)
            width = divisible(base * width_mult)
            conv(hidden, width, 1, side)
    features, mixed = divisible(960 * width_mult), divisible(1280 * width_mult)
    conv(width, features, 1, side)
    linear(features, mixed, False)
    linear(mixed, classes, True)
    return Cost(params + 2 * norms, macs, activations, 4 * (params + 4 * norms), 4 * peak)


@pytest.mark.parametrize("width_mult", [0.33, 1.0])
def test_formula(width_mult):
    sizes = (16, 33, 64)
    net = create_supernet("ofa_mbv3", width_mult=width_mult, num_classes=7, in_channels=2, resolutions=sizes)
    rng = random.Random(0)
    seen = set()
    for architecture in (net.space.largest(), net.space.smallest(), *(net.space.sample(rng) for _ in range(20))):
        result = cost(net, architecture)
        assert result == by_formula(architecture, width_mult, 2, 7), architecture
        seen.add(result)
    assert len(seen) == 22


def test_resolution_changes_work_but_not_weights():
    net = create_supernet("ofa_mbv3", width_mult=0.35, resolutions=(32, 64))
    small, large = (cost(net, net.space.uniform(resolution=size)) for size in (32, 64))
    assert (small.params, small.weight_bytes) == (large.params, large.weight_bytes)
    assert 3 < large.macs / small.macs < 4 and large.activations > 3 * small.activations


def test_no_forward_pass_is_made():
    net = create_supernet("ofa_mbv3", width_mult=0.35, depths=(1,), resolutions=(32,))
    net.run = None
    assert cost(net, net.space.largest()).macs > 0


def test_outside_the_space():
    net = create_supernet("ofa_mbv3", width_mult=0.35, depths=(1,), resolutions=(32,))
    with pytest.raises(UserError, match="resolution 48, allowed 32"):
        cost(net, replace(net.space.largest(), resolution=48))

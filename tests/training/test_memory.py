"""Memory of a phase: parameters and moments by hand, and what a pass keeps, on the CPU and on no device alike."""

from dataclasses import replace

import pytest
import torch

from onceforall.supernets import create_supernet
from onceforall.supernets.supernet import Freeze
from onceforall.training.memory import activation_bytes, state_bytes, training_bytes
from tiny_runs import one_phase, two_stages

CPU, META = torch.device("cpu"), torch.device("meta")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("prox_mobilenet", {"kernel_rule": "rings"}),
        ("prox_mobilenet", {"layout": "published"}),
        ("ofa_mbv3", {}),
        ("ee_dp_ofa_mbv3", {"heights": (1, 5)}),
    ],
    ids=str,
)
def test_what_is_kept_needs_no_computing(name, options):
    """Counted on the device that computes nothing, it is the same number as in a pass on the CPU."""
    net = create_supernet(
        name, num_classes=3, in_channels=1, width_mult=0.25, resolutions=(32,), depths=(1, 2), **options
    )
    for architecture in (net.space.smallest(), net.space.largest(exits="all")):
        kept = activation_bytes(net, architecture, CPU)
        assert activation_bytes(net, architecture, META) == kept
        wide = activation_bytes(net.double(), architecture, META)
        assert wide == activation_bytes(net, architecture, CPU) > 1.8 * kept, "pooling keeps whole numbers"
        net.float()


def test_a_frozen_beginning_keeps_nothing():
    net = two_stages()
    largest = net.space.largest()
    none, stem, head, both = (
        activation_bytes(net, largest, META, freeze)
        for freeze in (Freeze(), Freeze(stem=True), Freeze(head=True), Freeze(stem=True, head=True))
    )
    width, side = net.stem[0].conv.sizes[1], largest.resolution // 2
    assert none - stem >= 4 * width * side**2, "at least the output of the first convolution"
    assert 0.9 * none < head <= none, "what the blocks give is needed for what the head passes back"
    assert none - both == (none - stem) + (none - head), "frozen weights are no more than weights"


def test_parameters_and_moments():
    net = two_stages()
    count = sum(parameter.numel() for parameter in net.parameters())
    for fields, moments in (
        ({"optimizer": "sgd"}, 1),
        ({"optimizer": "sgd", "momentum": 0.0}, 0),
        ({"optimizer": "adam"}, 2),
        ({"optimizer": "adamw", "momentum": 0.0}, 2),
    ):
        phase = one_phase(net.space, **fields)
        assert state_bytes(net, phase) == {"parameter_bytes": 4 * count, "optimizer_bytes": 4 * moments * count}
    kept = activation_bytes(net, net.space.largest(exits="all"), CPU)
    memory = training_bytes(net, phase, 2.5, CPU)
    assert memory == state_bytes(net, phase) | {"activation_bytes": round(2.5 * kept)}
    frozen = training_bytes(net, replace(phase, freeze=Freeze(stem=True)), 2.5, META)
    assert frozen["activation_bytes"] < memory["activation_bytes"]

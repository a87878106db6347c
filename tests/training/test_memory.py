"""Memory of a phase: parameters and moments by hand, and what a pass keeps, on the CPU and on no device alike."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from onceforall.supernets import create_supernet
from onceforall.supernets.supernet import Freeze
from onceforall.training.ledger import bytes_kept_for_backward
from onceforall.training.memory import activation_bytes, state_bytes, training_bytes
from tiny_runs import one_phase, two_stages


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
        kept = activation_bytes(net, architecture)
        assert kept == kept_on_the_cpu(net, architecture)
        wide = activation_bytes(net.double(), architecture)
        assert wide == kept_on_the_cpu(net, architecture) > 1.8 * kept, "pooling keeps whole numbers"
        net.float()


def kept_on_the_cpu(net, architecture):
    """Of one of eight images that pass through a sub-network of its own."""
    own = net.subnet(architecture).train()
    with bytes_kept_for_backward(own.parameters()) as kept:
        own(torch.zeros(8, 1, 32, 32, dtype=next(net.parameters()).dtype))
    return kept[0] // 8


class Devices(TorchDispatchMode):
    """On which devices the operations of its body put what they give."""

    def __init__(self):
        super().__init__()
        self.devices = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.devices |= {tensor.device.type for tensor in tree_leaves(out) if isinstance(tensor, torch.Tensor)}
        return out


def test_counting_allocates_and_draws_nothing():
    """Its probe would take more memory than the training where a part of a batch is smaller than the probe."""
    net, state = two_stages(), torch.get_rng_state()
    phase = one_phase(net.space, dropout=0.5)
    net.set_dropout(phase.dropout)
    with Devices() as seen:
        training_bytes(net, phase, 2.5)
    assert seen.devices == {"meta"}
    assert torch.equal(torch.get_rng_state(), state)


def test_a_frozen_beginning_keeps_nothing():
    net = two_stages()
    largest = net.space.largest()
    none, stem, head, both = (
        activation_bytes(net, largest, freeze)
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
    kept = activation_bytes(net, net.space.largest(exits="all"))
    memory = training_bytes(net, phase, 2.5)
    assert memory == state_bytes(net, phase) | {"activation_bytes": round(2.5 * kept)}
    frozen = training_bytes(net, replace(phase, freeze=Freeze(stem=True)), 2.5)
    assert frozen["activation_bytes"] < memory["activation_bytes"]

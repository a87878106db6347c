"""Networks by name."""

import inspect

import pytest
import torch

from common_checks import changes, snapshot
from onceforall.errors import UserError
from onceforall.supernets import list_supernets
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.supernets.registry import NETWORK_CLASSES, SUPERNETS, create_supernet
from onceforall.supernets.supernet import Supernet

TINY = {"width_mult": 0.35, "depths": (1,), "resolutions": (32,), "num_classes": 3}


def test_names():
    assert list_supernets() == sorted(SUPERNETS)
    assert "ofa_mbv3" in list_supernets()
    for name, function in SUPERNETS.items():
        base = getattr(function, "func", function)  # the networks of a paper are one function with other defaults
        assert base.__doc__ and name.endswith(base.__name__)
        parameters = inspect.signature(function).parameters.values()
        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters), "no option is swallowed"
        assert all(parameter.default is not parameter.empty for parameter in parameters)
    assert all(issubclass(network, Supernet) for network in NETWORK_CLASSES.values())


def test_options_arrive():
    net = create_supernet(
        "ofa_mbv3",
        num_classes=7,
        in_channels=4,
        width_mult=0.5,
        dropout=0.0,
        kernel_sizes=[5, 3],
        expand_ratios=[2, 4.0],
        depths=range(1, 3),
        resolutions=[48, (32, 40)],
        kernel_rule="center_crop",
    )
    assert isinstance(net, OFAMobileNetV3)
    space = net.space
    assert (space.kernel_sizes, space.expand_ratios, space.depths) == ((3, 5), (2, 4), (1, 2))
    assert space.resolutions == ((32, 40), 48)
    assert net.options == {
        "num_classes": 7,
        "in_channels": 4,
        "width_mult": 0.5,
        "dropout": 0.0,
        "kernel_rule": "center_crop",
        "dense": False,
    }
    assert net(torch.zeros(2, 4, 32, 40), space.smallest()).shape == (2, 7)
    assert not [name for name, _ in net.named_parameters() if "matrices" in name]


def test_defaults_are_those_of_the_paper():
    space = create_supernet("ofa_mbv3", width_mult=0.1, num_classes=2).space
    assert (space.kernel_sizes, space.expand_ratios, space.depths) == ((3, 5, 7), (3, 4, 6), (2, 3, 4))
    assert space.resolutions == tuple(range(128, 225, 4))
    assert space.size() == 25 * 21_758_655_492_572_485_851


def test_seed():
    one, same, other = (create_supernet("ofa_mbv3", **TINY, seed=seed) for seed in (3, 3, 4))
    assert not changes(one, snapshot(same))
    assert changes(one, snapshot(other))


def test_unknown_name_and_option():
    with pytest.raises(UserError) as caught:
        create_supernet("ofa-mbv3")
    assert (
        str(caught.value)
        == f"supernet 'ofa-mbv3' is not one of: {', '.join(map(repr, SUPERNETS))}. Did you mean 'ofa_mbv3'?"
    )
    with pytest.raises(UserError) as caught:
        create_supernet("ofa_mbv3", num_clases=3)
    assert str(caught.value).startswith("supernet 'ofa_mbv3' has no option 'num_clases'. Did you mean 'num_classes'?")
    assert all(option in str(caught.value) for option in inspect.signature(SUPERNETS["ofa_mbv3"]).parameters)

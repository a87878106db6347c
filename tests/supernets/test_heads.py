"""A network for other classes keeps all but its outputs."""

import pytest
import torch

from onceforall.supernets.heads import with_classes
from onceforall.supernets.registry import create_supernet

SMALL = {"width_mult": 0.25, "resolutions": (32,), "depths": (1,)}
OUTPUTS = {
    "ofa_mbv3": ["exits.5.classify.weight", "exits.5.classify.bias"],
    "ee_b_ofa_mbv3": [f"exits.{number}.classify.{part}" for number in range(1, 6) for part in ("weight", "bias")],
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_only_the_last_layers_are_new(name):
    network = create_supernet(name, seed=1, num_classes=7, **SMALL)
    other = with_classes(network, 3, seed=2)
    before, after = network.state_dict(), other.state_dict()
    assert sorted(key for key in before if not torch.equal(before[key], after[key])) == sorted(OUTPUTS[name])
    assert other.options == {**network.options, "num_classes": 3} and other.space == network.space
    drawn = create_supernet(name, seed=2, num_classes=3, **SMALL).state_dict()
    assert all(torch.equal(after[key], drawn[key]) for key in OUTPUTS[name])


def test_the_same_number_of_classes_gives_a_new_head_too():
    network = create_supernet("ofa_mbv3", seed=1, num_classes=4, **SMALL).eval()
    other = with_classes(network, 4, seed=2)
    assert not other.training
    before, after = network.state_dict(), other.state_dict()
    assert [key for key in before if not torch.equal(before[key], after[key])] == OUTPUTS["ofa_mbv3"][
        :1
    ]  # bias is zero


def test_a_unet_for_volumes_gets_other_maps():
    network = create_supernet("prox_unet3d", num_classes=2, base_width=4, poolings=1, resolutions=(8,))
    other = with_classes(network, 5)
    x = torch.zeros(1, 1, 8, 8, 8)
    assert other(x, other.space.largest()).shape == (1, 5, 8, 8, 8)
    changed = [key for key, tensor in network.state_dict().items() if tensor.shape != other.state_dict()[key].shape]
    assert len(changed) == 2 and all(network.state_dict()[key].shape[0] == 2 for key in changed)

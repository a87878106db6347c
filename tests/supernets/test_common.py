"""Every elastic network that has a name passes the common checks; one that is not in the table below fails."""

from functools import partial

import pytest

from common_checks import CHECKS
from onceforall.supernets.registry import NETWORK_CLASSES, SUPERNETS, create_supernet

TINY = {"num_classes": 5, "width_mult": 0.35, "depths": (1, 2), "expand_ratios": (2, 3, 4), "resolutions": (20, 32)}

VOLUMES = {
    "num_classes": 3,
    "in_channels": 2,
    "poolings": 1,
    "base_width": 4,
    "depths": (1, 2),
    "resolutions": ((4, 6, 4), 6),
}

OPTIONS = {  # small enough that a check takes a second
    "ofa_mbv3": TINY | {"in_channels": 2},
    "prox_mobilenet": TINY | {"width_mult": 0.25, "in_channels": 1},
    "prox_unet3d": VOLUMES,
} | {f"{kind}_ofa_mbv3": TINY for kind in ("se_d", "se_p", "se_dp", "ee_b", "ee_d", "ee_p", "ee_dp")}


VARIANTS = {  # more of a network that has options of another kind
    "prox_mobilenet-published": {"layout": "published"},
    "prox_unet3d-published": {"layout": "published", "depths": (1,)},
    "prox_unet3d-images": {
        "spatial_dims": 2,
        "poolings": 2,
        "elastic_head": True,
        "kernel_rule": "transform",
        "resolutions": ((8, 12), 16),
    },
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", sorted(SUPERNETS))
def test_every_network(name, check):
    assert name in OPTIONS, f"give {name} tiny options in {__file__}, so that the common checks run on it"
    check(partial(create_supernet, name, **OPTIONS[name]))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(variant, check):
    name = variant.partition("-")[0]
    check(partial(create_supernet, name, **(OPTIONS[name] | VARIANTS[variant])))


def test_tables_are_complete():
    assert set(OPTIONS) == set(SUPERNETS)
    built = {type(create_supernet(name, **options)).__name__ for name, options in OPTIONS.items()}
    assert built == set(NETWORK_CLASSES)
    assert all(NETWORK_CLASSES[name].__name__ == name for name in NETWORK_CLASSES)

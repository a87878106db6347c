"""Every elastic network that has a name passes the common checks; one that is not in the table below fails."""

from functools import partial

import pytest

from common_checks import CHECKS
from onceforall.supernets.registry import NETWORK_CLASSES, SUPERNETS, create_supernet

TINY = {"num_classes": 5, "width_mult": 0.35, "depths": (1, 2), "expand_ratios": (2, 3, 4), "resolutions": (20, 32)}

OPTIONS = {  # small enough that a check takes a second
    "ofa_mbv3": TINY | {"in_channels": 2},
    "prox_mobilenet": TINY | {"width_mult": 0.25, "in_channels": 1},
} | {f"{kind}_ofa_mbv3": TINY for kind in ("se_d", "se_p", "se_dp", "ee_b", "ee_d", "ee_p", "ee_dp")}


VARIANTS = {"prox_mobilenet": {"layout": "published"}}  # more of a network that has options of another kind


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", sorted(SUPERNETS))
def test_every_network(name, check):
    assert name in OPTIONS, f"give {name} tiny options in {__file__}, so that the common checks run on it"
    check(partial(create_supernet, name, **OPTIONS[name]))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name, check):
    check(partial(create_supernet, name, **(OPTIONS[name] | VARIANTS[name])))


def test_tables_are_complete():
    assert set(OPTIONS) == set(SUPERNETS)
    built = {type(create_supernet(name, **options)).__name__ for name, options in OPTIONS.items()}
    assert built == set(NETWORK_CLASSES)
    assert all(NETWORK_CLASSES[name].__name__ == name for name in NETWORK_CLASSES)

"""Oracles: pieces counted by hand, and costs that are sums over a network, so that their parts must add up to them."""

import random

import numpy as np
import pytest

from onceforall.architecture import Architecture, Block, Stage
from onceforall.searching.latency_pieces import FACTORS, Piece, all_pieces, count_pieces, pieces_of, split_costs
from onceforall.supernets import create_supernet

NETWORKS = {
    "prox_mobilenet": {"width_mult": 0.25, "resolutions": (24, 32), "kernel_sizes": (3, 5), "depths": (1, 2, 3)},
    "ee_dp_ofa_mbv3": {"width_mult": 0.25, "num_classes": 5, "resolutions": (32,), "kernel_sizes": (3, 5)},
    "prox_unet3d": {"base_width": 4, "resolutions": (8, 16), "poolings": 2},
    "prox_unet3d elastic": {"base_width": 4, "resolutions": (16,), "poolings": 1, "elastic_head": True},
}


def build(name):
    return create_supernet(name.split()[0], **NETWORKS[name])


def test_pieces_by_hand():
    a, b = Block(3, 4), Block(5, 6)
    architecture = Architecture(32, (Stage((a, b, b)), Stage((a,))), exits=(1, 2))
    assert [piece.key for piece in pieces_of(architecture)] == [
        "stem at 32",
        "exit 1 at 32",
        "exit 2 at 32",
        "stage 1 first k3e4 at 32",
        "stage 1 further k5e6 at 32",
        "stage 1 further k5e6 at 32",
        "stage 2 first k3e4 at 32",
    ]
    assert pieces_of(architecture, dense=True)[5] == Piece("stage 1 block 3", 32, b)


def test_first_sections_of_a_u_net_name_the_widths_that_they_read():
    k = (Block(3),)
    architecture = Architecture((8, 16), (Stage(k, 0.5), Stage(k, 1.0), Stage((Block(3), Block(5)), 0.5)))
    keys = [piece.key for piece in pieces_of(architecture)]
    assert keys[-2:] == ["stage 3 first k3 width 0.5,1,0.5 at 8x16", "stage 3 further k5 width 0.5 at 8x16"]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_piece_of_the_space_is_found_and_architectures_are_of_the_space(name):
    supernet = build(name)
    dense = bool(supernet.options.get("dense"))
    found = all_pieces(supernet.space, dense, random.Random(0))
    assert all(architecture in supernet.space for architecture in found.values())
    assert all(piece in pieces_of(architecture, dense) for piece, architecture in found.items())
    rng = random.Random(1)
    for _ in range(300):
        assert set(pieces_of(supernet.space.sample(rng), dense)) <= set(found)
    assert len({piece.key for piece in found}) == len(found)


def test_how_many_pieces_there_are():
    found = all_pieces(build("prox_mobilenet").space, False, random.Random(0))
    assert len(found) == 2 * (1 + 1 + 5 * 2 * (2 * 3))  # resolutions x (stem, exit, stages x positions x (k, e))


@pytest.mark.parametrize("name", NETWORKS)
def test_costs_of_pieces_add_up_to_those_of_networks(name):
    supernet = build(name)
    dense, rng = bool(supernet.options.get("dense")), random.Random(0)
    found = all_pieces(supernet.space, dense, rng)
    parts = split_costs(supernet, found, dense, rng)
    assert (parts >= 0).all()
    networks = [supernet.space.sample(random.Random(f"new {i}")) for i in range(50)]
    sums = count_pieces(networks, {piece: i for i, piece in enumerate(found)}, dense) @ parts
    true = np.array([[getattr(supernet.measure(network), factor) for factor in FACTORS] for network in networks])
    assert np.abs(sums / true - 1).mean(axis=0).max() < 0.05
